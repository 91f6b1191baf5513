"""``distvi simulate``."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distvi.cli.output import Json, print_json
from distvi.errors import RunFailed
from distvi.progress.words import warning

if TYPE_CHECKING:
    from distvi.studies.simulation import Result, Simulation

_COLUMNS = (
    "scheme", "workers", "servers", "examples/s", "staleness", "idle", "in", "out", "share",
)  # fmt: skip
_TABLE_WIDTH = 120
_CAPTION = (
    "idle: of the workers' time, not computing; in, out: of the time, the busiest server's "
    "interface; share: of the bytes, the fullest server"
)


def simulate(
    spec: Path, /, *, out: Path | None = None, trace: bool = False, json: Json = False
) -> None:
    """Time schemes on a simulated cluster, without gradients, and write tables and pictures.

    Args:
        spec: A TOML file: schemes, workers, servers, cluster, the model's size.
        out: The folder to make; by default simulations/NAME of the file.
        trace: Write a timeline of every run for ui.perfetto.dev, in the folder's traces: about 0.4
            KB a gradient and 0.1 KB an update on each server, as it comes, so in little memory.
        json: Print simulation.json on standard output, and nothing else there.
    """
    from rich.console import Console

    from distvi.runs.folder import check_new
    from distvi.studies.simulation import plan

    simulation = plan(spec)
    out = out or Path("simulations") / spec.stem
    check_new(out)
    errors = Console(stderr=True)
    for reason in simulation.left_out:
        errors.print(warning(f"left out: {reason}"), markup=False, highlight=False, soft_wrap=True)
    with _whole_folder(out) as folder:
        results, content = _write(folder, simulation, trace, errors)
    if json:
        print_json(content)
    else:
        console = Console()
        console.width = max(console.width, _TABLE_WIDTH)  # rather wrapped than cut
        console.print(_table(results))
    errors.print(f"Written to [bold]{out}[/]", highlight=False, soft_wrap=True)
    failed = [result for result in results if result.timing.failure]
    if failed:
        cell = failed[0].cell
        raise RunFailed(
            f"{cell.scheme.name} with {cell.workers} workers ended early: "
            f"{failed[0].timing.failure}"
        )


@contextmanager
def _whole_folder(path: Path) -> Iterator[Path]:
    """A folder that comes to be with all its files, or not at all."""
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        part.replace(path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _write(
    folder: Path, simulation: "Simulation", trace: bool, console: Any
) -> "tuple[list[Result], dict[str, Any]]":
    """Simulate, and write all files."""
    from rich.progress import track

    from distvi.engines.simulated.timeline import NO_TIMELINE
    from distvi.report.simulation import scaling_figure, timeline_figure
    from distvi.studies.simulation import trace_file
    from distvi.system.files import write_json

    traces = folder / "traces"
    if trace:
        traces.mkdir()

    def timeline(name: str) -> Any:
        return trace_file(traces / f"{name}.json") if trace else nullcontext(NO_TIMELINE)

    todo = simulation.results(timeline)
    cells = len(simulation.cells)
    results = list(track(todo, "simulating", cells, console=console, transient=True))
    content = {
        "spec": simulation.spec.model_dump(),
        "cluster": simulation.cluster.model_dump(),
        "left_out": list(simulation.left_out),
        "results": [result.as_json() for result in results],
    }
    write_json(folder / "simulation.json", content)
    scaling_figure(folder / "scaling.png", content["results"])
    timeline_figure(folder / "timeline.png", simulation.timelines())
    return results, content


def _table(results: "list[Result]") -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), caption=_CAPTION, caption_justify="left")
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "scheme" else "right", no_wrap=True)
    for cell, timing in results:
        table.add_row(
            cell.scheme.name,
            str(cell.workers),
            str(cell.servers),
            f"{timing.examples_per_s:,.0f}",
            f"{timing.staleness['mean']:.2f}",
            f"{timing.worker_idle_fraction:.1%}",
            f"{max(timing.server_receiving):.1%}",
            f"{max(timing.server_sending):.1%}",
            f"{timing.largest_server_share:.1%}",
        )
    return table
