"""What a table's target columns say: numbers to be predicted, counts, or classes."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from distvi.data.columns import check_counts, class_numbers, is_integer, store
from distvi.data.dataset import Schema, Task
from distvi.data.text import (
    Distinct,
    Holds,
    no_numbers,
    number_of,
    refuse_nearly_numbers,
    what_it_holds,
)
from distvi.errors import InputError

_BLOCK_CELLS = 1 << 20
_FEW_CLASSES = 20
_CLASSES_MEANT = "if they are labels of classes, say --task classification"


def task_of(table: pa.Table, targets: Sequence[str], where: str) -> Task:
    """Classification of labels and of what is true or false, regression of numbers.

    Raises:
        InputError: a target is nearly all numbers, or of dates, or hardly two rows share a label.
    """
    return (
        Task.CLASSIFICATION
        if any(_is_labels(table.column(name), name, where) for name in targets)
        else Task.REGRESSION
    )


def _is_labels(column: pa.ChunkedArray, name: str, where: str) -> bool:
    column = decoded(column)
    if not is_text(column.type):
        return pa.types.is_boolean(column.type)
    found = Distinct.of(column)
    match what_it_holds(found)[0]:
        case Holds.NUMBERS:
            return False
        case Holds.FLAGS:
            return True
        case Holds.DATES:
            raise InputError(
                f"{where}: the target {name!r} holds dates; turn them into numbers, such as days, "
                f"or {_CLASSES_MEANT}"
            )
    refuse_nearly_numbers(found, name, where, ".", _CLASSES_MEANT)
    if len(found.values) > max(_FEW_CLASSES, len(found.codes) // 2):
        raise InputError(
            f"{where}: the target {name!r} holds {len(found.values)} different labels in "
            f"{len(found.codes)} rows, too many to be classes; {_CLASSES_MEANT}"
        )
    return True


def read_targets(table: pa.Table, schema: Schema, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The targets as `Task` says, and the names of the classes.

    Args:
        table: With the target columns.
        schema: Names them, the task, and the classes if they are known.
        where: The file, for messages.

    Raises:
        InputError: a cell that is no such target; says where.
    """
    if schema.task is Task.CLASSIFICATION:
        (name,) = schema.targets
        labels, codes = _labels(table.column(name), name, where, schema.classes)
        return class_numbers(labels, codes, name, where, schema.classes or None)
    remedy = _CLASSES_MEANT if schema.task is Task.REGRESSION else "counts are whole numbers"
    columns = [as_float64(table.column(name), name, where, remedy) for name in schema.targets]
    y = numbers(columns, schema.targets, where)
    if schema.task is Task.COUNT:
        check_counts(y, schema.targets[0], where)
    return y, ()


def numbers(columns: Sequence[pa.ChunkedArray], names: Sequence[str], where: str) -> np.ndarray:
    """Columns of float64 side by side, as checked float32."""
    table = pa.table(dict(zip(names, columns, strict=True)))
    return store(_blocks(table), table.num_rows, names, where)


def _blocks(table: pa.Table) -> Iterator[np.ndarray]:
    rows = max(1, _BLOCK_CELLS // table.num_columns)
    for batch in table.to_batches(max_chunksize=rows):
        yield batch.to_tensor(null_to_nan=True).to_numpy()


def as_float64(column: pa.ChunkedArray, name: str, where: str, remedy: str) -> pa.ChunkedArray:
    """A column of numbers, whatever they are written as; NaN or null where one is missing.

    Raises:
        InputError: a cell is no number.
    """
    column = decoded(column)
    if column.type == pa.float64():
        return column
    if is_text(column.type):
        found = Distinct.of(column)
        parsed = [number_of(value) for value in found.values]
        is_bad = np.array([number is None for number in parsed], bool)
        if is_bad.any():
            raise no_numbers(found, is_bad, name, where, remedy)
        return pa.chunked_array([found.spread([n for n in parsed if n is not None])])
    try:
        return column.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InputError(
            f"{where}: column {name!r} holds no numbers but {column.type}; turn it into numbers"
        ) from None


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column without Arrow's dictionary encoding."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def is_number(kind: pa.DataType) -> bool:
    """Whether a column's type is numbers."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column's type is text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _labels(
    column: pa.ChunkedArray, name: str, where: str, classes: Sequence[str]
) -> tuple[list[str], np.ndarray]:
    column = decoded(column)
    if pa.types.is_floating(column.type):
        column = _whole(column, name, where)
    found = Distinct.of(column.cast(pa.string()))
    if (found.codes < 0).any():
        row = found.first_row(-1) + 1
        raise InputError(
            f"{where}: row {row}, column {name!r} holds no label; remove such rows first"
        )
    labels = list(found.values)
    if set(labels) <= set(classes):
        return labels, found.codes
    if what_it_holds(found)[0] is Holds.FLAGS:
        labels = [label.lower() for label in labels]
    # Whole numbers stay text: 007 is a label of its own.
    elif what_it_holds(found)[0] is Holds.NUMBERS and not all(map(is_integer, labels)):
        values = pa.chunked_array([[float(label) for label in labels]])
        labels = [str(label) for label in _whole(values, name, where).to_pylist()]
    merged = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return list(merged), np.array([merged[label] for label in labels])[found.codes]


def _whole(column: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        raise InputError(
            f"{where}: column {name!r} holds numbers that are not whole, which are no classes; "
            "use task 'regression'"
        ) from None
