"""``distvi simulate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from distvi.cli.output import Json, print_json
from distvi.errors import RunFailed

if TYPE_CHECKING:
    from distvi.simulation import Result

_COLUMNS = (
    "scheme", "workers", "servers", "examples/s", "staleness", "idle", "in", "out", "share",
)  # fmt: skip
_CAPTION = (
    "idle: of the workers' time, not computing; in, out: of the time, the busiest server's "
    "interface; share: of the bytes, the fullest server"
)


def simulate(spec: Path, /, *, out: Path | None = None, json: Json = False) -> None:
    """Time schemes on a simulated cluster, without gradients, and write tables and pictures.

    Args:
        spec: A TOML file: schemes, workers, servers, cluster, the model's size.
        out: The folder to make; by default simulations/NAME of the file.
        json: Print simulation.json on standard output, and nothing else there.
    """
    from rich.console import Console
    from rich.progress import track

    from distvi.report.simulation import scaling_figure, timeline_figure
    from distvi.runs.files import write_json
    from distvi.runs.folder import check_new
    from distvi.simulation import plan

    simulation = plan(spec)
    out = out or Path("simulations") / spec.stem
    check_new(out)
    errors = Console(stderr=True)
    todo = track(
        simulation.results(), "simulating", len(simulation.cells), console=errors, transient=True
    )
    results = list(todo)
    content = {
        "spec": simulation.spec.model_dump(),
        "cluster": simulation.cluster.model_dump(),
        "results": [result.as_json() for result in results],
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "simulation.json", content)
    scaling_figure(out / "scaling.png", content["results"])
    timeline_figure(out / "timeline.png", simulation.timelines())
    if json:
        print_json(content)
    else:
        Console().print(_table(results))
    errors.print(f"Written to [bold]{out}[/]", highlight=False, soft_wrap=True)
    failed = [result for result in results if result.timing.failure]
    if failed:
        cell = failed[0].cell
        raise RunFailed(
            f"{cell.scheme.name} with {cell.workers} workers ended early: "
            f"{failed[0].timing.failure}"
        )


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
