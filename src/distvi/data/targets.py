"""What a table's target columns say: numbers to be predicted, counts, or classes."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from distvi.data.columns import check_counts, class_numbers, is_integer
from distvi.data.dataset import Schema, Task
from distvi.data.numbers import store
from distvi.data.raw import CellRules, decoded, is_text
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
CLASSES_MEANT = "if they are labels of classes, say --task classification"


def task_of(table: pa.Table, targets: Sequence[str], rules: CellRules) -> Task:
    """Classification of labels and of what is true or false, regression of numbers.

    Raises:
        InputError: a target is nearly all numbers, or of dates, or hardly two rows share a label.
    """
    return (
        Task.CLASSIFICATION
        if any(_is_labels(table.column(name), name, rules) for name in targets)
        else Task.REGRESSION
    )


def _is_labels(column: pa.ChunkedArray, name: str, rules: CellRules) -> bool:
    column = decoded(column)
    if not is_text(column.type):
        return pa.types.is_boolean(column.type)
    found, where = Distinct.of(column), rules.where
    match what_it_holds(found, rules.decimal)[0]:
        case Holds.NUMBERS:
            return False
        case Holds.FLAGS:
            return True
        case Holds.DATES:
            raise InputError(
                f"{where}: the target {name!r} holds dates; turn them into numbers, such as days, "
                f"or {CLASSES_MEANT}"
            )
    refuse_nearly_numbers(found, name, where, rules.decimal, CLASSES_MEANT)
    if len(found.values) > max(_FEW_CLASSES, len(found.codes) // 2):
        raise InputError(
            f"{where}: the target {name!r} holds {len(found.values)} different labels in "
            f"{len(found.codes)} rows, too many to be classes; {CLASSES_MEANT}"
        )
    return True


def read_targets(
    table: pa.Table, schema: Schema, rules: CellRules
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The targets as `Task` says, and the names of the classes.

    Args:
        table: With the target columns.
        schema: Names them, the task, and the classes if they are known.
        rules: How its text is to be understood.

    Raises:
        InputError: a cell that is no such target; says where.
    """
    where = rules.where
    if schema.task is Task.CLASSIFICATION:
        (name,) = schema.targets
        labels, codes = _labels(table.column(name), name, where, schema.classes)
        return class_numbers(labels, codes, name, where, schema.classes or None)
    remedy = CLASSES_MEANT if schema.task is Task.REGRESSION else "counts are whole numbers"
    columns = [_as_float64(table.column(name), name, rules, remedy) for name in schema.targets]
    y = _numbers(columns, schema.targets, where)
    if schema.task is Task.COUNT:
        check_counts(y, schema.targets[0], where)
    return y, ()


def _numbers(columns: Sequence[pa.ChunkedArray], names: Sequence[str], where: str) -> np.ndarray:
    """Columns of float64 side by side, as checked float32."""
    table = pa.table(dict(zip(names, columns, strict=True)))
    return store(_blocks(table), table.num_rows, names, where)


def _blocks(table: pa.Table) -> Iterator[np.ndarray]:
    rows = max(1, _BLOCK_CELLS // table.num_columns)
    for batch in table.to_batches(max_chunksize=rows):
        yield batch.to_tensor(null_to_nan=True).to_numpy()


def _as_float64(
    column: pa.ChunkedArray, name: str, rules: CellRules, remedy: str
) -> pa.ChunkedArray:
    """A column of numbers, whatever they are written as; NaN or null where one is missing.

    Raises:
        InputError: a cell is no number.
    """
    column = decoded(column)
    if column.type == pa.float64():
        return column
    if is_text(column.type):
        found = Distinct.of(column)
        parsed = [number_of(value, rules.decimal) for value in found.values]
        is_bad = np.array([number is None for number in parsed], bool)
        if is_bad.any():
            raise no_numbers(found, is_bad, name, rules.where, remedy)
        return pa.chunked_array([found.spread([n for n in parsed if n is not None])])
    try:
        return column.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InputError(
            f"{rules.where}: column {name!r} holds no numbers but {column.type}; turn it into "
            "numbers"
        ) from None


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
    if set(found.values) <= set(classes):
        return list(found.values), found.codes
    holds, _ = what_it_holds(found)
    if holds is Holds.FLAGS:
        found = found.renamed(str.lower)
    # Whole numbers stay text: 007 is a label of its own.
    elif holds is Holds.NUMBERS and not all(map(is_integer, found.values)):
        numbers = pa.chunked_array([[float(label) for label in found.values]])
        whole = map(str, _whole(numbers, name, where).to_pylist())
        found = found.renamed(dict(zip(found.values, whole, strict=True)).__getitem__)
    return list(found.values), found.codes


def _whole(column: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        raise InputError(
            f"{where}: column {name!r} holds numbers that are not whole, which are no classes; "
            "use task 'regression'"
        ) from None
