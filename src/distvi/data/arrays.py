"""Data sets from arrays in memory."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from distvi.data.columns import check_counts, class_numbers, refuse_arrays
from distvi.data.dataset import Dataset, Examples, Schema, Task
from distvi.data.numbers import check_finite, store
from distvi.data.splits import refuse_one_class, split
from distvi.errors import InputError

_BLOCK_CELLS = 1 << 20
_TARGET = "y"


def from_arrays(
    x: Any,
    y: Any,
    x_test: Any = None,
    y_test: Any = None,
    *,
    task: Task | None = None,
    test_fraction: float | None = None,
    split_seed: int | None = None,
    test_indices: Any = None,
    name: str = "arrays",
) -> Dataset:
    """A data set from arrays.

    Args:
        x: Inputs, (rows, columns); see `rows_and_targets`.
        y: Targets.
        x_test: Inputs to test on; None: some of the rows are.
        y_test: Their targets.
        task: What to predict; None: classification if the targets are whole numbers or text, else
            regression.
        test_fraction: How many rows are drawn to test on; None: 0.1.
        split_seed: Seed of the draw; None: 0.
        test_indices: Rows to test on instead.
        name: What the data set is called.

    Raises:
        InputError: a wrong shape or type, or values that cannot be learnt from.

    Example:
        >>> x = np.linspace(0.0, 1.0, 20)[:, None]
        >>> found = from_arrays(x, np.sin(x[:, 0]))
        >>> found.task.value, len(found.train), len(found.test), found.train.y.shape
        ('regression', 18, 2, (18, 1))
    """
    rows, targets, schema = rows_and_targets(x, y, task=task, name=name)
    if x_test is None and y_test is None:
        return split(rows, targets, schema, test_fraction, split_seed, test_indices)
    if x_test is None or y_test is None:
        raise InputError("give both x_test and y_test, or neither")
    given = {"test_fraction": test_fraction, "split_seed": split_seed, "test_indices": test_indices}
    for option, value in given.items():
        if value is not None:
            raise InputError(f"the data have a test part of their own, so leave {option} out")
    return refuse_one_class(
        Dataset(
            name=name,
            task=schema.task,
            train=Examples(rows, targets),
            test=Examples(inputs_of(x_test, schema), targets_of(y_test, schema)),
            classes=schema.classes,
            inputs=schema.inputs,
            targets=schema.targets,
        )
    )


def rows_and_targets(
    x: Any, y: Any, *, task: Task | None = None, name: str = "arrays"
) -> tuple[np.ndarray, np.ndarray, Schema]:
    """Inputs, targets and their description, as the readers of files give them.

    Args:
        x: Inputs, (rows, columns) of numbers; bytes stay bytes, as images have them.
        y: Targets: whole numbers or text for classes, (rows,); real numbers to be predicted,
            (rows,) or (rows, outputs).
        task: What to predict; None: classification if the targets are whole numbers or text, else
            regression.
        name: Of the data set.

    Raises:
        InputError: a wrong shape or type, or values that cannot be learnt from.
    """
    x, inputs = _inputs(x)
    labels = _array(y, _TARGET)
    if len(labels) != len(x):
        raise InputError(f"x has {len(x)} rows and y has {len(labels)}; give one target for each")
    task = task or (Task.REGRESSION if labels.dtype.kind == "f" else Task.CLASSIFICATION)
    if task is Task.CLASSIFICATION:
        targets, classes = _classes(labels, len(x))
        return x, targets, Schema(name, task, inputs, (_TARGET,), classes)
    targets, names = _numbers(labels, task)
    return x, targets, Schema(name, task, inputs, names)


def targets_of(y: Any, schema: Schema) -> np.ndarray:
    """Targets of more rows of a data set, with its classes.

    Raises:
        InputError: a wrong shape or type, or a label that is none of the classes.
    """
    labels = _array(y, _TARGET)
    if schema.task is Task.CLASSIFICATION:
        return _classes(labels, len(labels), schema.classes)[0]
    targets, _ = _numbers(labels, schema.task)
    if targets.shape[1] != len(schema.targets):
        raise InputError(
            f"y has {targets.shape[1]} columns; the model predicts {len(schema.targets)}"
        )
    return targets


def inputs_of(x: Any, schema: Schema) -> np.ndarray:
    """Inputs of more rows of a data set.

    Raises:
        InputError: a wrong shape or type, or another number of columns.
    """
    refuse_arrays(schema, "x")
    rows, names = _inputs(x)
    if len(names) != len(schema.inputs):
        raise InputError(f"x has {len(names)} columns; the model takes {len(schema.inputs)}")
    return rows


def _array(values: Any, name: str) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind == "O":
        array = np.asarray(array.tolist())
    if array.dtype.kind not in "biufUS" or not array.ndim:
        raise InputError(f"{name} is no array of numbers or labels but {array.dtype}")
    if not array.size:
        raise InputError(f"{name} is empty: its shape is {array.shape}")
    return array


def _inputs(x: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    array = _array(x, "x")
    if array.ndim != 2:
        cure = "x[:, None]" if array.ndim == 1 else "x.reshape(len(x), -1)"
        raise InputError(
            f"x has shape {array.shape}; give one row for each example, (rows, columns): {cure}"
        )
    if array.dtype.kind not in "biuf":
        raise InputError(f"x holds no numbers but {array.dtype}")
    columns = getattr(x, "columns", None)  # as a data frame has them
    names = tuple(map(str, range(array.shape[1]) if columns is None else columns))
    names = tuple(f"x{name}" for name in names) if columns is None else names
    return (array if array.dtype == np.uint8 else _checked(array, names)), names


def _checked(array: np.ndarray, names: Sequence[str], what: str = "x") -> np.ndarray:
    """As float32, every value looked at; a copy only where the type is another."""
    step = max(1, _BLOCK_CELLS // max(1, len(names)))
    starts = range(0, len(array), step)
    if array.dtype != np.float32:
        return store((array[at : at + step] for at in starts), len(array), names, what)
    for at in starts:
        check_finite(array[at : at + step], names, what, at)
    return array


def _numbers(labels: np.ndarray, task: Task) -> tuple[np.ndarray, tuple[str, ...]]:
    columns = labels[:, None] if labels.ndim == 1 else labels
    if columns.ndim != 2 or columns.dtype.kind not in "biuf":
        raise InputError(
            f"y is {labels.dtype} of shape {labels.shape}; for {task.value} give numbers, (rows,) "
            "or (rows, outputs)"
        )
    count = columns.shape[1]
    names = (_TARGET,) if count == 1 else tuple(f"{_TARGET}{number}" for number in range(count))
    if task is Task.COUNT and count > 1:
        raise InputError(f"the task 'count' takes one target, but y has {count} columns")
    targets = _checked(columns, names, _TARGET)
    if task is Task.COUNT:
        check_counts(targets, _TARGET, _TARGET)
    return targets, names


def _classes(
    labels: np.ndarray, rows: int, classes: Sequence[str] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise InputError(
            f"y has shape {labels.shape}; for classes give one label for each row, (rows,): "
            "y.argmax(1) of indicators, or task='regression' for several numbers"
        )
    if labels.dtype.kind == "f":
        if not np.all(labels == np.floor(labels)):
            raise InputError("y holds numbers that are not whole: no classes; leave out the task")
        labels = labels.astype(np.int64)
    found, codes = np.unique(labels, return_inverse=True)
    if classes is None and labels.dtype.kind in "iu" and len(found) > max(2, rows // 2):
        raise InputError(
            f"y holds {len(found)} different whole numbers in {rows} rows, too many to be classes; "
            "say task='regression' or task='count'"
        )
    names = [each.decode() if isinstance(each, bytes) else str(each) for each in found]
    numbers, all_names = class_numbers(names, codes, _TARGET, _TARGET, classes)
    return numbers, tuple(all_names)


def checked(dataset: Dataset) -> Dataset:
    """A data set that someone put together, if its arrays are what its task says.

    Class numbers in a single column become a row, as they are meant.

    Raises:
        InputError: a wrong shape or type.
    """
    parts = {}
    for name in ("train", "test"):
        part: Examples = getattr(dataset, name)
        x, y = part.x, part.y
        if x.ndim != 2 or x.dtype not in (np.uint8, np.float32):
            raise InputError(
                f"{name}.x of the data set is {x.dtype}{list(x.shape)}; inputs are (rows, columns) "
                "of float32 or uint8"
            )
        if dataset.task is Task.CLASSIFICATION:
            y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
            is_right = y.ndim == 1 and y.dtype.kind in "iu"
            expected = "int32 (rows,), numbers into classes"
        else:
            is_right = y.ndim == 2 and y.dtype == np.float32
            expected = "float32 (rows, outputs)"
        if not is_right:
            raise InputError(
                f"{name}.y of the data set is {y.dtype}{list(y.shape)}; for {dataset.task.value} "
                f"targets are {expected}. distvi.data.from_arrays makes a data set of any arrays"
            )
        parts[name] = part if y is part.y else Examples(x, y)
    return replace(dataset, **parts)
