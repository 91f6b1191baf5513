"""The progress of a run on a terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import progress
from rich.console import Console, Group, RenderableType
from rich.live import Live as Display
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from distvi.engines.base import Engine
from distvi.progress.base import Silent, Watchable
from distvi.progress.processes import process_table
from distvi.progress.words import brief, number, warning

_REFRESHES_PER_S = 4
_OTHER_LINES = 3
"""Of a terminal, than those of processes: the numbers, the bar, and where the cursor will be."""

_ECHO_WIDTH = 2
"""Columns for ^C, which would else begin a line that the next refresh does not know of."""


class Live(Silent):
    """A bar with the time left, the ELBO and the last test; above it what every process does."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._engine: Engine | None = None
        self._is_over = False
        self._bar = progress.Progress(
            progress.TextColumn("[bold]{task.description}"),
            progress.BarColumn(bar_width=None, complete_style="cyan", finished_style="green"),
            progress.MofNCompleteColumn(table_column=Column(no_wrap=True)),  # the bar gives way
            progress.TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
            progress.TextColumn("left"),
            progress.TextColumn("ELBO {task.fields[elbo]}"),
            progress.TextColumn("[green]{task.fields[test]}"),
            console=self._console,
            expand=True,
        )
        self._display = Display(
            console=self._console,
            get_renderable=self.draw,
            refresh_per_second=_REFRESHES_PER_S,
        )

    def __enter__(self) -> "Live":
        self._display.start(refresh=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_over = True
        self._display.stop()

    def draw(self) -> RenderableType:
        """What is seen at this moment; asked from a thread while the engine is busy."""
        engine, bar = self._engine, Padding(self._bar, (0, _ECHO_WIDTH, 0, 0))
        if not isinstance(engine, Watchable):
            return bar
        if self._bar.tasks:
            self._bar.update(self._task, completed=engine.update)
        status = engine.status()
        if self._is_over:
            for process in (*status.workers, *status.servers):
                process.state = "ended"
        lines = self._console.height - _OTHER_LINES  # of what is too high the end is cut, the bar
        return Group(process_table(status, lines), *map(_numbers, self._bar.tasks), bar)

    def described(self, lines: Sequence[str]) -> None:
        """Say it, before the bar is drawn."""
        for line in lines:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def attached(self, engine: Engine) -> None:
        """Look at it with every refresh; beside many lines the numbers have one of their own."""
        self._engine = engine
        if isinstance(engine, Watchable):
            self._bar.columns = self._bar.columns[:-2]

    def started(self, run: Path, update: int, updates: int) -> None:
        """Draw the bar."""
        self._task = self._bar.add_task(
            run.name, total=updates, completed=update, elbo="…", test=""
        )

    def reported(self, update: int, neg_elbo: float, training_time_s: float) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=update, elbo=f"{-neg_elbo:.3f}")

    def tested(self, update: int, metrics: Mapping[str, float]) -> None:
        """Show the metrics until the next test."""
        self._bar.update(self._task, test=brief(metrics))

    def warned(self, message: str) -> None:
        """Say it above the bar."""
        self._console.print(warning(message), markup=False, highlight=False, soft_wrap=True)

    def finished(self, run: Path, summary: Mapping[str, Any]) -> None:
        """Show the result as a table."""
        if not self._bar.tasks:
            self._console.print("Nothing was left to do.")
        self._console.print(result_table(summary))
        self._console.print(
            f"{'Written to' if self._bar.tasks else 'It is in'} [bold]{run}[/]",
            highlight=False,
            soft_wrap=True,
        )


def _numbers(task: progress.Task) -> Text:
    elbo, test = task.fields["elbo"], task.fields["test"]
    line = Text.assemble("ELBO ", (elbo, "bold"), " per example", no_wrap=True, overflow="ellipsis")
    return line.append_text(Text.assemble("   test ", (test, "green"))) if test else line


def result_table(summary: Mapping[str, Any]) -> Table:
    """The test metrics of a finished run beside its size and speed."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(justify="right", style="dim")
    table.add_column()
    for name, value in summary["test"].items():
        table.add_row(name.replace("_", " "), number(value, ".4g"))
    rate = summary["examples_per_s"]
    speed = f"{summary['training_time_s']:.1f} s"
    table.add_row(
        "training", f"{summary['updates']} updates in {speed}, {number(rate, ',.0f')} examples/s"
    )
    return table
