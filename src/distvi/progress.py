"""How a run goes, on standard error: one live line on a terminal, plain lines elsewhere."""

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rich import progress
from rich.console import Console
from rich.table import Table

_PLAIN_LINES = 10  # at least so many where tests are rare


@runtime_checkable
class Progress(Protocol):
    """Who is told how a run goes; a context that lasts as long as the training does."""

    def __enter__(self) -> "Progress": ...

    def __exit__(self, *exception: object) -> None: ...

    def started(self, run: Path, update: int, updates: int) -> None:
        """Training begins, or goes on, after ``update`` of ``updates``."""

    def reported(self, update: int, neg_elbo: float, training_time_s: float) -> None:
        """The mean negative ELBO per example since the last report, in nats."""

    def tested(self, update: int, metrics: Mapping[str, float]) -> None:
        """Metrics of the test part."""

    def warned(self, message: str) -> None:
        """Something went wrong, and training goes on."""

    def finished(self, run: Path, summary: Mapping[str, Any]) -> None:
        """All updates are made and the folder is complete."""


class Silent(Progress):
    """Tells nobody, unless something goes wrong: that is a Python warning."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def warned(self, message: str) -> None:
        """Warn as Python does."""
        warnings.warn(message, RuntimeWarning, stacklevel=2)


class Lines(Silent):
    """One plain line per test, for log files and pipes."""

    def started(self, run: Path, update: int, updates: int) -> None:
        """Say where the run is."""
        self._updates = updates
        self._neg_elbo, self._time_s, self._printed = 0.0, 0.0, update
        _say(f"training {run}: updates {update} to {updates}")

    def reported(self, update: int, neg_elbo: float, training_time_s: float) -> None:
        """Say it, if nothing has been said for long."""
        self._neg_elbo, self._time_s = neg_elbo, training_time_s
        if update - self._printed > self._updates / _PLAIN_LINES:
            self._line(update, "")

    def tested(self, update: int, metrics: Mapping[str, float]) -> None:
        """Say it."""
        self._line(update, f"  test {brief(metrics)}")

    def warned(self, message: str) -> None:
        """Say it."""
        _say(_warning(message))

    def finished(self, run: Path, summary: Mapping[str, Any]) -> None:
        """Say the result."""
        _say(f"done in {summary['training_time_s']:.1f} s of training: {brief(summary['test'])}")
        _say(f"written to {run}")

    def _line(self, update: int, test: str) -> None:
        self._printed = update
        _say(
            f"update {update}/{self._updates}  {self._time_s:.1f} s"
            f"  ELBO {-self._neg_elbo:.4f} per example{test}"
        )


class Live(Silent):
    """A bar with the time left, the ELBO and the last test metrics."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar = progress.Progress(
            progress.TextColumn("[bold]{task.description}"),
            progress.BarColumn(bar_width=None, complete_style="cyan", finished_style="green"),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(compact=True),
            progress.TextColumn("left"),
            progress.TextColumn("ELBO {task.fields[elbo]}"),
            progress.TextColumn("[green]{task.fields[test]}"),
            console=self._console,
            expand=True,
        )

    def __enter__(self) -> "Live":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

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
        self._console.print(_warning(message), markup=False, highlight=False, soft_wrap=True)

    def finished(self, run: Path, summary: Mapping[str, Any]) -> None:
        """Show the result as a table."""
        self._console.print(result_table(summary))
        self._console.print(f"Written to [bold]{run}[/]", highlight=False, soft_wrap=True)


def for_terminal() -> Progress:
    """`Live` where standard error is a terminal, `Lines` elsewhere."""
    return Live() if sys.stderr.isatty() else Lines()


def brief(metrics: Mapping[str, float | None]) -> str:
    """The two metrics that say most.

    Example:
        >>> brief({"rmse": None, "mnll": None})
        'RMSE n/a, MNLL n/a'
        >>> brief({"error_rate": 0.028, "mnll": 0.0912, "ece": 0.01})
        'error 2.80%, MNLL 0.0912'
    """
    quality = (
        f"error {_number(metrics['error_rate'], '.2%')}"
        if "error_rate" in metrics
        else f"RMSE {_number(metrics['rmse'], '.4g')}"
    )
    return f"{quality}, MNLL {_number(metrics['mnll'], '.4f')}"


def result_table(summary: Mapping[str, Any]) -> Table:
    """The test metrics of a finished run beside its size and speed."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(justify="right", style="dim")
    table.add_column()
    for name, value in summary["test"].items():
        table.add_row(name.replace("_", " "), _number(value, ".4g"))
    rate = summary["examples_per_s"]
    speed = f"{summary['training_time_s']:.1f} s"
    table.add_row(
        "training", f"{summary['updates']} updates in {speed}, {_number(rate, ',.0f')} examples/s"
    )
    return table


def _number(value: float | None, style: str) -> str:
    """A metric; summary.json has null for one that is not finite."""
    return "n/a" if value is None else format(value, style)


def _warning(message: str) -> str:
    return f"distvi: warning: {message}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201
