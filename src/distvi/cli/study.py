"""``distvi study plan | run | report | advise``."""

from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from distvi.progress.words import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.table import Table

    from distvi.runs.records import Value
    from distvi.studies.ledger import Counts
    from distvi.studies.pilot import Estimate
    from distvi.studies.runner import Study

_COLUMN_WIDTH = 16

app = App(name="study", help="Train many settings, and report what they do to time and error.")


@app.command
def plan(spec: Path, /, *, parallel: int | None = None) -> None:
    """Print the cells of a study and what each will cost, before anything runs.

    Args:
        spec: The study's TOML file.
        parallel: As of `distvi study run`.
    """
    from rich.console import Console

    from distvi.studies.pilot import estimate
    from distvi.studies.runner import processes_of, study_of

    study = study_of(spec)
    errors, console = Console(stderr=True), Console()
    with errors.status("trying some of the cells out"):
        estimates = estimate(study.cells, study.file.spec)
    table = _plan_table(estimates)
    console.width = max(console.width, _COLUMN_WIDTH * len(table.columns))  # wrapped, not cut
    console.print(table)
    for line in _plan_lines(study, estimates, processes_of(study, parallel)):
        console.print(line, highlight=False, soft_wrap=True)


def _plan_table(estimates: "list[Estimate]") -> "Table":
    """A row for each setting, its seeds together."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    shown = [each.cell.settings for each in estimates]
    names = [
        name for name in dict.fromkeys(n for s in shown for n in s) if len(_values(shown, name)) > 1
    ]
    for name in names:
        table.add_column(name.rpartition(".")[2], no_wrap=True)
    for name in ("seeds", "updates", "time each"):
        table.add_column(name, justify="right", no_wrap=True)
    rows: dict[tuple[str, ...], list[Estimate]] = {}
    for each in estimates:
        settings = tuple(str(each.cell.settings.get(name, "")) for name in names)
        rows.setdefault(settings, []).append(each)
    for settings, several in rows.items():
        last = several[-1]
        if last.seconds is None:
            cost = "impossible"
        else:
            cost = ("" if last.is_measured else "about ") + duration(last.seconds)
        table.add_row(*settings, str(len(several)), f"{last.updates:,}", cost)
    return table


def _values(shown: "list[dict[str, Value]]", name: str) -> "set[Value | None]":
    return {settings.get(name) for settings in shown}


def _plan_lines(study: "Study", estimates: "list[Estimate]", processes: int) -> "Iterator[str]":
    shapes = len({cell.shape for cell in study.cells})
    yield f"{len(study.cells)} cells of {shapes} shapes"
    virtual_s = sum(e.seconds or 0.0 for e in estimates if e.cell.is_virtual)
    wall_s = sum(e.seconds or 0.0 for e in estimates if not e.cell.is_virtual)
    if virtual_s:
        spent = duration(virtual_s / processes)
        yield f"in virtual time, {processes} at a time: about {spent}"
    if wall_s:
        yield f"timed by the wall's clock, one at a time: about {duration(wall_s)}"
    yield f"in all: about {duration(virtual_s / processes + wall_s)}"
    for reason in dict.fromkeys(each.reason for each in estimates if each.reason):
        yield f"impossible: {reason}"


@app.command
def run(
    spec: Path,
    /,
    *,
    out: Path | None = None,
    parallel: int | None = None,
    retry: bool = False,
) -> None:
    """Train all cells of a study; those that are finished already are not trained again.

    Args:
        spec: The study's TOML file.
        out: The study's folder; by default beside the file, by its name.
        parallel: Cells that are trained at a time, as far as their time is virtual; by default as
            many as there are cores.
        retry: Train cells again that failed.
    """
    from rich.console import Console

    from distvi.studies.runner import study_of

    study = study_of(spec, out)
    console = Console(stderr=True)
    counts = _run(study, console, parallel, retry)
    said = f"{counts.done} cells done, {counts.diverged} diverged, {counts.failed} failed"
    console.print(f"{said}, in [bold]{study.folder}[/]", highlight=False, soft_wrap=True)
    console.print(f"The page: distvi study report {study.folder}", highlight=False, soft_wrap=True)


@app.command
def report(folder: Path, /, *, out: Path | None = None, figures: Path | None = None) -> None:
    """Write a study as one page that needs no network.

    Args:
        folder: Of the study.
        out: The HTML file; by default report.html in the folder.
        figures: A folder for all figures (SVG, PNG) and tables (CSV), too.
    """
    from rich.console import Console

    from distvi.report.study import write_figures, write_page
    from distvi.studies.reporting import PAGE, content_of

    content = content_of(folder)
    out = out or folder / PAGE
    console = Console(stderr=True)
    with console.status("drawing"):
        write_page(out, content)
        if figures is not None:
            write_figures(figures, content)
    for answer in content.claims:
        Console().print(f"{answer.name}: {answer.verdict}", highlight=False, soft_wrap=True)
    console.print(f"Written to [bold]{out}[/]", highlight=False, soft_wrap=True)


@app.command
def advise(
    folder: Path,
    /,
    *,
    target_error: float | None = None,
    budget_s: float | None = None,
    budget_core_hours: float | None = None,
) -> None:
    """Name the best setting of a study, and what to expect beyond what was measured.

    Args:
        folder: Of the study.
        target_error: Which setting gets there first? A fraction, or an RMSE.
        budget_s: Which has the lowest error within this time?
        budget_core_hours: Within these hours of all its workers and servers together?
    """
    from distvi.studies.advice import advise
    from distvi.studies.ledger import Ledger

    with Ledger(folder) as ledger:
        records = ledger.records()
    found = advise(
        records,
        target_error=target_error,
        budget_s=budget_s,
        budget_core_hours=budget_core_hours,
    )
    for line in found.lines():
        print(line)


def _run(study: "Study", console: "Console", parallel: int | None, retry: bool) -> "Counts":
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from distvi.studies.runner import run_study

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("cells", total=len(study.cells))

        def tell(counts: "Counts") -> None:
            words = "cells"
            if counts.diverged or counts.failed:
                words += f" ({counts.diverged} diverged, {counts.failed} failed)"
            bar.update(task, completed=counts.finished, total=counts.total, description=words)

        return run_study(study, parallel=parallel, retry=retry, tell=tell)
