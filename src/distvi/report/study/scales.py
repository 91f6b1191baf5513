"""Axes whose numbers people can read: logarithmic where needed, ticks at the values that occur."""

import math
from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from distvi.report.study import words

Side = Literal["x", "y"]

DECADE = 10.0
PIXELS = {"x": 330.0, "y": 230.0}
"""About as long as an axis is."""


def spans_a_decade(values: Sequence[float]) -> bool:
    """Whether a logarithmic axis suits the values."""
    finite = [v for v in values if math.isfinite(v)]
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) > DECADE


def scale(axes: Axes, side: Side, values: Sequence[float], *, exact: bool = False) -> bool:
    """Choose the scale, limits and ticks of one side; gives back whether it is logarithmic.

    Args:
        axes: What to scale.
        side: ``"x"`` or ``"y"``.
        values: All that shall be seen.
        exact: Put ticks at these values, as far as there is room, and nowhere else.
    """
    axis = axes.xaxis if side == "x" else axes.yaxis
    values = [v for v in values if math.isfinite(v)]
    if not values:
        axis.set_major_locator(NullLocator())
        return False
    low, high = min(values), max(values)
    log = spans_a_decade(values)
    if log:
        (axes.set_xscale if side == "x" else axes.set_yscale)("log", nonpositive="clip")
        margin = (high / low) ** 0.06
        limits = (low / margin, high * margin)
    else:
        margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        limits = (low - margin, high + margin)
    (axes.set_xlim if side == "x" else axes.set_ylim)(*limits)
    if exact:
        axis.set_major_locator(FixedLocator(_apart(sorted(set(values)), side, log)))
    elif log:
        decades = math.log10(high / low)
        subs = (1, 2, 5) if decades < 2 else (1, 3) if decades < 3 else (1,)
        axis.set_major_locator(LogLocator(subs=subs, numticks=8))
    else:
        axis.set_major_locator(MaxNLocator(4 if side == "x" else 5))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(words.tick))
    return log


def _apart(values: Sequence[float], side: Side, log: bool) -> list[float]:
    """Of ascending values those whose labels do not run into one another."""
    place = math.log if log else float
    low, high = place(values[0]), place(values[-1])
    if high == low:
        return list(values)

    def pixels(value: float) -> float:
        return (place(value) - low) / (high - low) * PIXELS[side]

    def size(value: float) -> float:
        return len(words.tick(value)) * 7.0 + 6 if side == "x" else 16.0

    kept = [values[0]]
    for value in values[1:-1]:
        room = (size(value) + size(kept[-1])) / 2
        if pixels(value) - pixels(kept[-1]) >= room:
            kept.append(value)
    last = values[-1]
    while len(kept) > 1 and pixels(last) - pixels(kept[-1]) < (size(last) + size(kept[-1])) / 2:
        kept.pop()
    return [*kept, last]
