"""Numbers as they are stored: float32, each one looked at.

Rows are counted from 1 in messages, without a header, as a person counts them.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float32, Float64

from distvi.errors import InputError


def check_finite(
    block: Float32[np.ndarray, "rows columns"], names: Sequence[str], where: str, first_row: int = 0
) -> None:
    """Refuses NaN and infinity.

    Raises:
        InputError: says the first row and column that holds one.
    """
    # A sum is finite unless an entry is not (or it overflows): one pass without a mask.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(block.sum()):
            return
    bad = np.argwhere(~np.isfinite(block))
    if len(bad):
        row, column = bad[0]
        value = block[row, column]
        what = "a missing value or NaN" if np.isnan(value) else "an infinite or too large number"
        raise InputError(
            f"{where}: row {first_row + row + 1}, column {names[column]!r} holds {what}; "
            "remove or fill in such rows first"
        )


class PrecisionCheck:
    """Watches what storing float64 columns as float32 loses."""

    def __init__(self, columns: int):
        self.low = np.full(columns, np.inf)
        self.high = np.full(columns, -np.inf)
        self.error = np.zeros(columns)

    def see(self, block: Float64[np.ndarray, "rows columns"], stored: np.ndarray) -> None:
        self.low = np.minimum(self.low, block.min(axis=0))
        self.high = np.maximum(self.high, block.max(axis=0))
        self.error = np.maximum(self.error, np.abs(block - stored).max(axis=0))

    def finish(self, names: Sequence[str], where: str) -> None:
        """Refuses a column whose whole variation float32 would round away.

        Raises:
            InputError: rounding moved an entry by over a hundredth of the column's range.
        """
        spread = self.high - self.low
        varies = spread > 1e-12 * np.maximum(np.abs(self.low), np.abs(self.high))
        lost = np.flatnonzero(varies & (self.error > 0.01 * spread))
        if len(lost):
            column = lost[0]
            raise InputError(
                f"{where}: column {names[column]!r} varies by only {spread[column]:.3g} around "
                f"{self.low[column]:.9g}, which 32-bit numbers cannot hold; subtract a constant "
                "from it first"
            )


def store(
    blocks: Iterable[np.ndarray], rows: int, names: Sequence[str], where: str
) -> Float32[np.ndarray, "rows columns"]:
    """Numbers of any type as one checked float32 array.

    Args:
        blocks: Consecutive blocks of rows.
        rows: How many rows they have together.
        names: The columns' names.
        where: The file, for messages.

    Raises:
        InputError: NaN, infinity, or a column that float32 cannot hold.
    """
    out = np.empty((rows, len(names)), np.float32)
    precision = PrecisionCheck(len(names))
    start = 0
    for block in blocks:
        stored = out[start : start + len(block)]
        with np.errstate(over="ignore"):
            stored[...] = block
        check_finite(stored, names, where, start)
        if block.dtype != np.float32:
            precision.see(block.astype(np.float64, copy=False), stored)
        start += len(block)
    precision.finish(names, where)
    return out
