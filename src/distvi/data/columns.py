"""What every reader asks of the values it read, with where the first bad one stands.

Rows are counted from 1 in messages, without a header, as a person counts them.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int32

from distvi.data.dataset import Schema, Task
from distvi.errors import InputError, nearest

_LONGEST_LIST = 300


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


def check_columns(columns: Sequence[str], inputs: Sequence[str], where: str) -> None:
    """Refuses a file without the columns that a model was trained on.

    Raises:
        InputError: names the first missing column.
    """
    known = set(columns)
    for name in inputs:
        if name not in known:
            raise InputError(
                f"{where}: no column named {name!r}, an input of this model{near(name, columns)}"
            )


def refuse_arrays(schema: Schema, where: str) -> None:
    """Refuses arrays for a model whose inputs are made of a table's columns.

    Raises:
        InputError: names the columns.
    """
    if schema.is_encoded:
        names = ", ".join(column.name for column in schema.columns)
        raise InputError(
            f"{where}: the model learnt from a table whose columns became numbers; give a CSV or "
            f"Parquet table with the columns {names[:_LONGEST_LIST]}"
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
