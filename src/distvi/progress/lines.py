"""The progress of a run as plain lines."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distvi.progress.base import Silent
from distvi.progress.words import brief, warning

_PLAIN_LINES = 10  # at least so many where tests are rare


class Lines(Silent):
    """One plain line per test, for log files and pipes."""

    _has_started = False

    def described(self, lines: Sequence[str]) -> None:
        """Say it."""
        for line in lines:
            _say(line)

    def started(self, run: Path, update: int, updates: int) -> None:
        """Say where the run is."""
        self._has_started = True
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
        _say(warning(message))

    def finished(self, run: Path, summary: Mapping[str, Any]) -> None:
        """Say the result."""
        clock = "virtual time" if summary.get("clock") == "virtual" else "training"
        result = brief(summary["test"]) if summary["test"] else "without tests"
        done = "done" if self._has_started else "nothing was left to do: it was done"
        _say(f"{done} in {summary['training_time_s']:.1f} s of {clock}: {result}")
        _say(f"written to {run}" if self._has_started else f"it is in {run}")

    def _line(self, update: int, test: str) -> None:
        self._printed = update
        _say(
            f"update {update}/{self._updates}  {self._time_s:.1f} s"
            f"  ELBO {-self._neg_elbo:.4f} per example{test}"
        )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
