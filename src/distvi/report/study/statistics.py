"""The little statistics that figures and tables need: intervals over seeds, medians, fronts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

T_CRITICAL = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)
"""97.5 % quantiles of Student's t distribution with 1 to 10 degrees of freedom."""

NORMAL_CRITICAL = 1.959964


def t_critical(freedom: int) -> float:
    """The 97.5 % quantile of Student's t distribution, right to four digits.

    Args:
        freedom: Degrees of freedom, at least 1.

    References:
        Beyond ten degrees Abramowitz and Stegun (1964), 26.7.5.
    """
    if freedom <= len(T_CRITICAL):
        return T_CRITICAL[freedom - 1]
    z = NORMAL_CRITICAL
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


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
    n = len(values)
    half = t_critical(n - 1) * stdev(values) / math.sqrt(n) if n > 1 else None
    return Mean(fmean(values), half, n)


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
