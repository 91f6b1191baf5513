"""CSV and Parquet tables, read by Arrow; only a bad cell is searched for one by one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from distvi.data.columns import check_columns, check_has_targets, check_targets
from distvi.data.dataset import Schema, Task
from distvi.data.targets import as_float64, numbers, read_targets, task_of
from distvi.errors import InputError

_CSV_BLOCK_BYTES = 16 << 20
"""Arrow's 1 MiB would refuse rows of many thousand columns and infer types from few of them."""


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
        task: What to predict; None: classification if the target is labels, else regression.

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
    is_text = task is Task.CLASSIFICATION or any(not _is_number(types, each) for each in targets)
    wanted = _wanted(inputs, targets, pa.string() if is_text else pa.float64())
    table = _read(path, reader, wanted)
    if task is None:
        task = task_of(table, targets, where)
        check_targets(targets, types.names, task, where)
    schema = Schema(path.name, task, tuple(inputs), tuple(targets))
    y, classes = read_targets(table, schema, where)
    x = _numbers(table, inputs, where)
    return x, y, replace(schema, classes=classes)


def read_table_inputs(path: Path, schema: Schema) -> np.ndarray:
    """The inputs of a trained model from a table; no other column is read.

    Raises:
        InputError: an input is missing, or its values are bad.
    """
    return _numbers(_columns_of(path, schema, ()), schema.inputs, str(path))


def read_table_examples(path: Path, schema: Schema) -> tuple[np.ndarray, np.ndarray]:
    """The inputs of a trained model from a table, and the targets.

    Raises:
        InputError: an input or a target is missing, or its values are bad.
    """
    table = _columns_of(path, schema, schema.targets)
    x = _numbers(table, schema.inputs, str(path))
    return x, read_targets(table, schema, str(path))[0]


def _columns_of(path: Path, schema: Schema, targets: Sequence[str]) -> pa.Table:
    reader = FORMATS[path.suffix.lower()]
    types = _guarded(lambda: reader.types(path), path)
    check_columns(types.names, schema, str(path))
    if targets:
        check_has_targets(types.names, schema, str(path))
    target_type = pa.string() if schema.task is Task.CLASSIFICATION else pa.float64()
    return _read(path, reader, _wanted(schema.inputs, targets, target_type))


def _wanted(
    inputs: Sequence[str], targets: Sequence[str], target_type: pa.DataType
) -> dict[str, pa.DataType]:
    return dict.fromkeys(inputs, pa.float64()) | dict.fromkeys(targets, target_type)


def _is_number(types: pa.Schema, name: str) -> bool:
    kind = types.field(name).type
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _read(path: Path, reader: Format, wanted: dict[str, pa.DataType]) -> pa.Table:
    table = _guarded(lambda: reader.read(path, wanted), path)
    if table.num_rows == 0:
        raise InputError(f"{path}: the table is empty: it has columns but no rows")
    return table


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
    remedy = "inputs must be numeric"
    columns = [as_float64(table.column(name), name, where, remedy) for name in names]
    return numbers(columns, names, where)
