"""The little statistics that figures and tables need: intervals over seeds, medians, fronts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distvi.evaluation.uncertainty import mean


@dataclass(frozen=True)
class Mean:
    """The mean over seeds and its 95 % confidence interval.

    Attributes:
        value: The mean.
        half_width: Of the interval; None of a single seed, of which no interval is known.
        n: How many seeds.
    """

    value: float
    half_width: float | None
    n: int


def mean_of(values: Sequence[float]) -> Mean | None:
    """The mean with its t interval; None of no values."""
    if not values:
        return None
    n, interval = len(values), mean(values)
    return Mean(interval.estimate, interval.high - interval.estimate if n > 1 else None, n)


def median_band(
    curves: Sequence[tuple[np.ndarray, np.ndarray]], points: int, *, log: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Several seeds' curves on one grid: where, median, lowest and highest.

    The grid is where all curves have values. None: they have less than two points in common.

    Args:
        curves: Ascending positions, and the values there.
        points: Of the grid at most.
        log: Spread the grid evenly on a logarithmic scale.
    """
    curves = [curve for curve in curves if len(curve[0]) > 1]
    if not curves:
        return None
    start, end = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if not start < end:
        return None
    same = all(np.array_equal(x, curves[0][0]) for x, _ in curves)
    if same and len(curves[0][0]) <= points:
        grid = curves[0][0]
    else:
        grid = (np.geomspace if log and start > 0 else np.linspace)(start, end, points)
    values = np.stack([np.interp(grid, x, y) for x, y in curves])
    return grid, np.median(values, 0), values.min(0), values.max(0)


def front_of(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which points no other beats in one coordinate without losing in the other; by the first."""
    order = sorted(range(len(points)), key=lambda i: points[i])
    front: list[int] = []
    for i in order:
        if not front or points[i][1] < points[front[-1]][1]:
            front.append(i)
    return front
