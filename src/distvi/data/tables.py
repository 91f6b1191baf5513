"""CSV and Parquet tables, read by Arrow; only a bad cell is searched for one by one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from distvi.data.columns import (
    check_columns,
    check_counts,
    check_targets,
    choose_task,
    class_numbers,
    is_integer,
    store,
)
from distvi.data.dataset import Schema, Task
from distvi.errors import InputError

_CSV_BLOCK_BYTES = 16 << 20
"""Arrow's 1 MiB would refuse rows of many thousand columns and infer types from few of them."""

_BLOCK_CELLS = 1 << 20


@dataclass(frozen=True)
class Format:
    """How to read one kind of table file.

    Attributes:
        types: The columns' names and types.
        read: Those columns, each as its type in the table, or as the type asked for.
    """

    types: Callable[[Path], pa.Schema]
    read: Callable[[Path, dict[str, pa.DataType]], pa.Table]


def read_table(
    path: Path, targets: Sequence[str], task: Task | None = None
) -> tuple[np.ndarray, np.ndarray, Schema]:
    """Inputs, targets and their description; every column that is no target is an input.

    Args:
        path: A ``.csv`` or ``.parquet`` file.
        targets: The target columns.
        task: What to predict; None: classification if the target is text, else regression.

    Returns:
        x float32 (rows, inputs), y as ``Task`` says, and the columns.

    Raises:
        InputError: anything about the file that cannot be trained on, with where.
    """
    reader, where = FORMATS[path.suffix.lower()], str(path)
    types = _guarded(lambda: reader.types(path), path)
    check_targets(targets, types.names, task, where)
    inputs = [name for name in types.names if name not in set(targets)]
    if not inputs:
        raise InputError(f"{where}: no input columns: all are targets")
    task = choose_task(task, any(_is_text(types.field(name).type) for name in targets))
    check_targets(targets, types.names, task, where)
    schema = Schema(path.name, task, tuple(inputs), tuple(targets))
    table = _guarded(lambda: reader.read(path, _wanted(schema, targets)), path)
    if table.num_rows == 0:
        raise InputError(f"{where}: the table is empty: it has columns but no rows")
    y, classes = _targets(table, schema, where)
    x = _numbers(table, inputs, where)
    return x, y, Schema(schema.name, task, schema.inputs, schema.targets, classes)


def read_table_inputs(path: Path, schema: Schema) -> tuple[np.ndarray, np.ndarray | None]:
    """The inputs of a trained model from a table, and the targets where the table has them all.

    Raises:
        InputError: an input is missing, or its values are bad.
    """
    reader, where = FORMATS[path.suffix.lower()], str(path)
    types = _guarded(lambda: reader.types(path), path)
    check_columns(types.names, schema, where)
    targets = schema.targets if set(schema.targets) <= set(types.names) else ()
    table = _guarded(lambda: reader.read(path, _wanted(schema, targets)), path)
    if table.num_rows == 0:
        raise InputError(f"{where}: the table is empty: it has columns but no rows")
    x = _numbers(table, schema.inputs, where)
    return x, _targets(table, schema, where)[0] if targets else None


def _wanted(schema: Schema, targets: Sequence[str]) -> dict[str, pa.DataType]:
    target_type = pa.string() if schema.task is Task.CLASSIFICATION else pa.float64()
    return dict.fromkeys(schema.inputs, pa.float64()) | dict.fromkeys(targets, target_type)


def _guarded(read: Callable, path: Path):
    """The result of ``read``, with Arrow's and the system's errors as one clear line."""
    try:
        result = read()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a readable table: {reason[:300]}") from None
    names = result.names if isinstance(result, pa.Schema) else result.column_names
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path}: two columns are named {twice!r}")
    return result


def _csv_types(path: Path) -> pa.Schema:
    options = pacsv.ReadOptions(block_size=_CSV_BLOCK_BYTES)
    with pacsv.open_csv(path, read_options=options) as reader:
        return reader.schema


def _csv_read(path: Path, wanted: dict[str, pa.DataType]) -> pa.Table:
    try:
        return _csv_as(path, wanted)
    except pa.ArrowInvalid as error:
        if "conversion error" not in str(error):
            raise
    # Arrow says what it could not convert but not in which row: as text, `_numbers` finds it.
    return _csv_as(path, dict.fromkeys(wanted, pa.string()))


def _csv_as(path: Path, types: dict[str, pa.DataType]) -> pa.Table:
    return pacsv.read_csv(
        path,
        read_options=pacsv.ReadOptions(block_size=_CSV_BLOCK_BYTES),
        convert_options=pacsv.ConvertOptions(column_types=types, include_columns=list(types)),
    )


def _parquet_read(path: Path, wanted: dict[str, pa.DataType]) -> pa.Table:
    return pq.read_table(path, columns=list(wanted))


FORMATS = {
    ".csv": Format(_csv_types, _csv_read),
    ".parquet": Format(pq.read_schema, _parquet_read),
}


def _numbers(table: pa.Table, names: Sequence[str], where: str) -> np.ndarray:
    columns = [_as_float64(table.column(name), name, where) for name in names]
    numbers = pa.table(dict(zip(names, columns, strict=True)))
    return store(_blocks(numbers), table.num_rows, names, where)


def _blocks(numbers: pa.Table) -> Iterator[np.ndarray]:
    rows = max(1, _BLOCK_CELLS // numbers.num_columns)
    for batch in numbers.to_batches(max_chunksize=rows):
        yield batch.to_tensor(null_to_nan=True).to_numpy()


def _as_float64(column: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    if column.type == pa.float64():
        return column
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if _is_text(column.type):
        _refuse_text(column, name, where)
    try:
        return column.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InputError(
            f"{where}: column {name!r} holds no numbers but {column.type}; turn it into numbers"
        ) from None


def _refuse_text(column: pa.ChunkedArray, name: str, where: str) -> None:
    for row, text in enumerate(column.to_pylist()):
        if not _is_number(text):
            what = "a missing value" if not text else f"{text!r}, which is no number"
            raise InputError(
                f"{where}: row {row + 1}, column {name!r} holds {what}; inputs must be numeric"
            )


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return "_" not in (text or "")


def _targets(table: pa.Table, schema: Schema, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if schema.task is Task.CLASSIFICATION:
        name = schema.targets[0]
        labels, codes = _encode(table.column(name), name, where, schema.classes)
        return class_numbers(labels, codes, name, where, schema.classes or None)
    y = _numbers(table, schema.targets, where)
    if schema.task is Task.COUNT:
        check_counts(y, schema.targets[0], where)
    return y, ()


def _encode(
    column: pa.ChunkedArray, name: str, where: str, classes: Sequence[str]
) -> tuple[list[str], np.ndarray]:
    if column.null_count:
        row = pc.index(column.is_null(), True).as_py()
        raise InputError(f"{where}: row {row + 1}, column {name!r} holds a missing value")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if _is_text(column.type):
        column = _decimals(column, classes)
    if pa.types.is_floating(column.type):
        column = _whole(column, name, where)
    encoded = column.dictionary_encode().unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    return [str(label) for label in encoded.dictionary.to_pylist()], encoded.indices.to_numpy()


def _decimals(column: pa.ChunkedArray, classes: Sequence[str]) -> pa.ChunkedArray:
    """Text as numbers if all of it is decimals, as a CSV of real numbers is read for its classes.

    Whole numbers stay text (007 is a label of its own), and so do known classes.
    """
    labels = set(column.unique().to_pylist())
    if labels <= set(classes) or all(map(is_integer, labels)):
        return column
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid:
        return column


def _whole(column: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        raise InputError(
            f"{where}: column {name!r} holds numbers that are not whole, which are no classes; "
            "use task 'regression'"
        ) from None


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
