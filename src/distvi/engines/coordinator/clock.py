"""The clock by which workers are judged."""

from time import perf_counter


class Clock:
    """Seconds, without the time in which nobody listened or nobody could have worked."""

    def __init__(self) -> None:
        self._lost_s = 0.0
        self._stopped_s: float | None = None

    def now_s(self) -> float:
        """What it shows."""
        return (self._stopped_s or perf_counter()) - self._lost_s

    def stop(self) -> None:
        """Nobody listens for a while: that is no worker's fault."""
        if self._stopped_s is None:
            self._stopped_s = perf_counter()

    def go_on(self) -> None:
        """Somebody listens again."""
        if self._stopped_s is not None:
            self._lost_s += perf_counter() - self._stopped_s
            self._stopped_s = None

    def put_back(self, by_s: float) -> None:
        """Take time back that nobody could have used, unless the clock stands still."""
        if self._stopped_s is None:
            self._lost_s += by_s
