"""What every reader asks of the values it read, with where the first bad one stands.

Rows are counted from 1 in messages, without a header, as a person counts them.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int32

from distvi.data.dataset import Schema, Task
from distvi.errors import InputError, nearest

_LONGEST_LIST = 300


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


def check_counts(y: Float32[np.ndarray, "rows 1"], name: str, where: str) -> None:
    """Refuses what is no count.

    Raises:
        InputError: a target is negative or no whole number.
    """
    bad = np.flatnonzero((y[:, 0] < 0) | (y[:, 0] != np.floor(y[:, 0])))
    if len(bad):
        raise InputError(
            f"{where}: row {bad[0] + 1}, column {name!r} holds {y[bad[0], 0]:g}, which is no "
            "count (0, 1, 2, ...); use task 'regression' for real numbers"
        )


def class_numbers(
    labels: Sequence[str],
    codes: np.ndarray,
    name: str,
    where: str,
    classes: Sequence[str] | None = None,
) -> tuple[Int32[np.ndarray, " rows"], tuple[str, ...]]:
    """Class numbers from labels that were encoded in order of appearance.

    Args:
        labels: The different labels.
        codes: For each row, which of ``labels``.
        name: The target column, for messages.
        where: The file, for messages.
        classes: The classes to number by; None finds them: all labels in order, by value where
            all are whole numbers and by alphabet otherwise.

    Raises:
        InputError: an empty label, only one class, or a label that is none of ``classes``.
    """
    for code, label in enumerate(labels):
        if label == "":
            row = np.flatnonzero(codes == code)[0]
            raise InputError(f"{where}: row {row + 1}, column {name!r} holds no label")
    if classes is None:
        classes = sorted(labels, key=int if all(map(is_integer, labels)) else None)
        if len(classes) < 2:
            raise InputError(
                f"{where}: column {name!r} holds only one class, {classes[0]!r}; there is nothing "
                "to tell apart"
            )
    number_of = {label: number for number, label in enumerate(classes)}
    for code, label in enumerate(labels):
        if label not in number_of:
            row = np.flatnonzero(codes == code)[0]
            raise InputError(
                f"{where}: row {row + 1}, column {name!r} holds {label!r}, which is no class of "
                f"this model{near(label, classes)}"
            )
    numbers = np.asarray([number_of[label] for label in labels], np.int32)
    return numbers[codes], tuple(classes)


def choose_task(task: Task | None, target_is_text: bool) -> Task:
    """The given task, or classification for text and regression for numbers."""
    if task is not None:
        return task
    return Task.CLASSIFICATION if target_is_text else Task.REGRESSION


def check_targets(
    targets: Sequence[str], columns: Sequence[str], task: Task | None, where: str
) -> None:
    """Refuses targets that are no columns, given twice, or too many for the task.

    Raises:
        InputError: names the near miss.
    """
    if not targets:
        raise InputError(f"{where}: which column is the target?{near('', columns)}")
    for target in targets:
        if target not in columns:
            raise InputError(f"{where}: no column named {target!r}{near(target, columns)}")
    if len(set(targets)) < len(targets):
        raise InputError(f"{where}: a target is named twice: {', '.join(targets)}")
    if len(targets) > 1 and task in (Task.CLASSIFICATION, Task.COUNT):
        raise InputError(f"{where}: the task {str(task)!r} takes one target, not {len(targets)}")


def check_columns(columns: Sequence[str], schema: Schema, where: str) -> None:
    """Refuses a file without the inputs that a model was trained on.

    Raises:
        InputError: names the first missing column.
    """
    known = set(columns)
    for name in schema.inputs:
        if name not in known:
            raise InputError(
                f"{where}: no column named {name!r}, an input of this model{near(name, columns)}"
            )


def check_has_targets(columns: Sequence[str], schema: Schema, where: str) -> None:
    """Refuses a file to evaluate on that lacks a target.

    Raises:
        InputError: names the missing column.
    """
    for name in schema.targets:
        if name not in columns:
            raise InputError(
                f"{where}: no column named {name!r}, the target to evaluate against"
                f"{near(name, columns)}"
            )


def near(name: str, known: Sequence[str]) -> str:
    """``errors.nearest``, cut to what a line can hold."""
    hint = nearest(name, known)
    if len(hint) <= _LONGEST_LIST:
        return hint
    return f" (known: {len(known)} names, the first {', '.join(known[:5])})"


def is_integer(label: str) -> bool:
    """Whether a label is a whole number, such as -3."""
    return label.removeprefix("-").isdecimal()
