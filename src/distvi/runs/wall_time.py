"""Where a run's wall-clock time goes, whatever clock its engine has."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

PARTS: tuple[str, ...] = ("setup", "compile", "training", "evaluation", "checkpoints", "rest")


class WallTime:
    """A stopwatch with one hand, which points to the part of a run that takes the time.

    So the parts never overlap and their sum is the whole: of a part within a part, and of a test
    that is made beside training, the outer one has nothing but what the run waited for it.

    Args:
        clock: Seconds; never goes back.

    Example:
        >>> seconds = iter([0.0, 2.0, 5.0, 5.5])
        >>> wall = WallTime(lambda: next(seconds))
        >>> with wall.part("training"):
        ...     pass
        >>> parts = wall.as_json()
        >>> parts["setup"], parts["training"], parts["whole"]
        (2.5, 3.0, 5.5)
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._since_s = clock, clock()
        self._part = PARTS[0]
        self._seconds = dict.fromkeys(PARTS, 0.0)

    def add(self, before: Mapping[str, float]) -> None:
        """Count what the run took before it was resumed, too."""
        for name in PARTS:
            self._seconds[name] += before.get(name, 0.0)

    def go_on_with(self, part: str) -> str:
        """Point to another part; which one it was."""
        now_s, outer = self._clock(), self._part
        self._seconds[outer] += now_s - self._since_s
        self._since_s, self._part = now_s, part
        return outer

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Point to a part as long as the block lasts."""
        outer = self.go_on_with(name)
        try:
            yield
        finally:
            self.go_on_with(outer)

    def spent_s(self, name: str) -> float:
        """What a part that is not going on has taken so far."""
        return self._seconds[name]

    def move(self, source: str, target: str, seconds: float) -> None:
        """Count for another part what somebody else has measured, as far as there is so much."""
        moved_s = min(max(seconds, 0.0), self._seconds[source])
        self._seconds[source] -= moved_s
        self._seconds[target] += moved_s

    def as_json(self) -> dict[str, float]:
        """Seconds of the whole and of each part, up to now."""
        self.go_on_with(self._part)
        return {"whole": sum(self._seconds.values()), **self._seconds}
