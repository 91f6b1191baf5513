"""The clock by which workers are judged."""

from collections.abc import Callable
from time import perf_counter

MachineClock = Callable[[], float]
"""Seconds on a clock that all processes share."""


class Clock:
    """Seconds, without the time in which nobody listened or nobody could have worked.

    Args:
        machine: The machine's clock.
    """

    def __init__(self, machine: MachineClock = perf_counter) -> None:
        self.machine = machine
        self._lost_s = 0.0
        self._stopped_s: float | None = None

    def now_s(self) -> float:
        """What it shows."""
        now_s = self.machine() if self._stopped_s is None else self._stopped_s
        return now_s - self._lost_s

    def stop(self) -> None:
        """Nobody listens for a while: that is no worker's fault."""
        if self._stopped_s is None:
            self._stopped_s = self.machine()

    def go_on(self) -> None:
        """Somebody listens again."""
        if self._stopped_s is not None:
            self._lost_s += self.machine() - self._stopped_s
            self._stopped_s = None

    def put_back(self, by_s: float) -> None:
        """Take time back that nobody could have used, unless the clock stands still."""
        if self._stopped_s is None:
            self._lost_s += by_s
