"""CSV and Parquet tables, read by Arrow; only a bad cell is searched for one by one."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from distvi.data.columns import check_columns, check_has_targets, check_targets
from distvi.data.dataset import Schema, Task
from distvi.data.table_files import AS_FOUND, TableFile, TableOptions
from distvi.data.targets import as_float64, is_number, numbers, read_targets, task_of
from distvi.errors import InputError


def read_table(
    path: Path,
    targets: Sequence[str],
    task: Task | None = None,
    options: TableOptions = AS_FOUND,
) -> tuple[np.ndarray, np.ndarray, Schema]:
    """Inputs, targets and their description; every column that is no target is an input.

    Args:
        path: A CSV or Parquet file, see `distvi.data.table_files.is_table`.
        targets: The target columns.
        task: What to predict; None: classification if the target is labels, else regression.
        options: How to read it, where that is not to be read off the file.

    Returns:
        x float32 (rows, inputs), y as ``Task`` says, and the columns.

    Raises:
        InputError: anything about the file that cannot be trained on, with where.
    """
    file, where = TableFile.open(path, options), str(path)
    file.refuse_unseparated(targets)
    check_targets(targets, file.names, task, where)
    inputs = [name for name in file.names if name not in set(targets)]
    if not inputs:
        raise InputError(f"{where}: no input columns: all are targets")
    is_text = task is Task.CLASSIFICATION or any(
        not is_number(file.columns[each]) for each in targets
    )
    wanted = _wanted(inputs, targets, pa.string() if is_text else pa.float64())
    table = file.read(wanted)
    if task is None:
        task = task_of(table, targets, where)
        check_targets(targets, file.names, task, where)
    schema = Schema(path.name, task, tuple(inputs), tuple(targets))
    y, classes = read_targets(table, schema, where)
    x = _numbers(table, inputs, where)
    return x, y, replace(schema, classes=classes)


def read_table_inputs(path: Path, schema: Schema, options: TableOptions = AS_FOUND) -> np.ndarray:
    """The inputs of a trained model from a table; no other column is read.

    Raises:
        InputError: an input is missing, or its values are bad.
    """
    return _numbers(_columns_of(path, schema, (), options), schema.inputs, str(path))


def read_table_examples(
    path: Path, schema: Schema, options: TableOptions = AS_FOUND
) -> tuple[np.ndarray, np.ndarray]:
    """The inputs of a trained model from a table, and the targets.

    Raises:
        InputError: an input or a target is missing, or its values are bad.
    """
    table = _columns_of(path, schema, schema.targets, options)
    x = _numbers(table, schema.inputs, str(path))
    return x, read_targets(table, schema, str(path))[0]


def _columns_of(
    path: Path, schema: Schema, targets: Sequence[str], options: TableOptions
) -> pa.Table:
    file = TableFile.open(path, options)
    file.refuse_unseparated(schema.inputs)
    check_columns(file.names, schema, str(path))
    if targets:
        check_has_targets(file.names, schema, str(path))
    target_type = pa.string() if schema.task is Task.CLASSIFICATION else pa.float64()
    return file.read(_wanted(schema.inputs, targets, target_type))


def _wanted(
    inputs: Sequence[str], targets: Sequence[str], target_type: pa.DataType
) -> dict[str, pa.DataType]:
    return dict.fromkeys(inputs, pa.float64()) | dict.fromkeys(targets, target_type)


def _numbers(table: pa.Table, names: Sequence[str], where: str) -> np.ndarray:
    remedy = "inputs must be numeric"
    columns = [as_float64(table.column(name), name, where, remedy) for name in names]
    return numbers(columns, names, where)
