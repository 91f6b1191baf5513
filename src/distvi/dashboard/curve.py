"""A curve of any length in a bounded number of points."""

import math
from typing import Any

Point = dict[str, Any]

MOST_POINTS = 1000


class Curve:
    """Points in the order they came; of many every second, fourth, eighth … is kept, and the last.

    Numbers that are not finite become None.

    Example:
        >>> curve = Curve(most=4)
        >>> for update in range(10):
        ...     curve.append({"update": update})
        >>> [point["update"] for point in curve.points()]
        [0, 4, 8, 9]
    """

    def __init__(self, most: int = MOST_POINTS) -> None:
        self._most = most
        self._kept: list[Point] = []
        self._last: Point | None = None
        self._seen, self._stride = 0, 1

    def append(self, point: Point) -> None:
        """Add a point at the end."""
        point = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in point.items()
        }
        if self._seen % self._stride == 0:
            self._kept.append(point)
            if len(self._kept) == self._most:  # room for the last one
                self._kept = self._kept[::2]
                self._stride *= 2
        self._last = point
        self._seen += 1

    def points(self) -> list[Point]:
        """Those that are kept."""
        if self._last is None or self._kept[-1] is self._last:
            return list(self._kept)
        return [*self._kept, self._last]
