"""CSV and Parquet tables as inputs and targets: no column is taken or left without a word."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Float64

from distvi.data.columns import check_columns, check_has_targets, check_targets
from distvi.data.dataset import Examples, Schema, Task
from distvi.data.encodings import Category, Column, Number
from distvi.data.raw import CellRules, RawColumn, is_number, missing_of, raw_column, values_of
from distvi.data.selection import Selection, selected
from distvi.data.table_files import AS_FOUND, TableFile, TableOptions
from distvi.data.targets import CLASSES_MEANT, read_targets, task_of
from distvi.data.text import Distinct
from distvi.errors import InputError

Tell = Callable[[str], None]
Values = Float64[np.ndarray, " rows"] | Distinct

_MOST_NOTES = 12
_MOST_CLASSES, _ROWS_PER_CLASS = 10, 10


class Learnt(NamedTuple):
    """What becomes of a column, and why; None: it is left out."""

    name: str
    column: Column | None
    why: str


@dataclass(frozen=True, eq=False)
class TableRows:
    """A table that has been read, and is still to be split.

    Attributes:
        schema: Of the data set; its inputs are known when they are learnt.
        y: Targets, as `Task` says.
        raw: The columns that are to be inputs.
        notes: What about the file a person may not expect.
        where: The file.
    """

    schema: Schema
    y: np.ndarray
    raw: tuple[RawColumn, ...]
    notes: tuple[str, ...]
    where: str

    def encoded(
        self, train: Bool[np.ndarray, " rows"]
    ) -> tuple[Float32[np.ndarray, "rows inputs"], Schema, tuple[str, ...]]:
        """Inputs of all rows by what the training rows taught, their description, and notes.

        Raises:
            InputError: no column can be an input, or a number cannot be stored.
        """
        learnt = learn(self.raw, train)
        columns = tuple(each.column for each in learnt if each.column is not None)
        if not columns:
            reasons = "; ".join(f"{each.name!r} holds {each.why}" for each in learnt[:3])
            raise InputError(f"{self.where}: no column can be an input: {reasons}")
        values: Mapping[str, Values] = {each.name: each.values for each in self.raw}
        notes = [*self.notes, *_notes_of(learnt)]
        x = _encoded(columns, values, self.where, notes.append)
        if len(notes) > _MOST_NOTES:
            rest = f"and so on, {len(notes)} notes in all: distvi data info {self.where}"
            notes = [*notes[:_MOST_NOTES], rest]
        inputs = tuple(name for column in columns for name in column.inputs)
        return x, replace(self.schema, inputs=inputs, columns=columns), tuple(notes)


def read_table(
    path: Path,
    targets: Sequence[str],
    task: Task | None = None,
    options: TableOptions = AS_FOUND,
) -> TableRows:
    """A table's targets, and what its other columns hold.

    Args:
        path: A CSV or Parquet file, see `distvi.data.table_files.is_table`.
        targets: The target columns.
        task: What to predict; None: classification if the target is labels, else regression.
        options: How to read it, where that is not to be read off the file.

    Raises:
        InputError: anything about the file that cannot be trained on, with where.
    """
    file, where = TableFile.open(path, options), str(path)
    file.refuse_unseparated(targets)
    check_targets(targets, file.names, task, where)
    selection = selected(file, targets, options)
    is_text = task is Task.CLASSIFICATION or any(
        not is_number(file.columns[each]) for each in targets
    )
    target_type = pa.string() if is_text else pa.float64()
    table = file.read({**_types(file, selection), **dict.fromkeys(targets, target_type)})
    rules = _rules(file, options)
    notes = list(file.notes)
    was_said = task is not None
    if task is None:
        task = task_of(table, targets, rules)
        check_targets(targets, file.names, task, where)
    schema = Schema(path.name, task, (), tuple(targets))
    y, classes = read_targets(table, schema, rules)
    raw = _raw(table, selection, rules)
    if not was_said and task is Task.REGRESSION and (few := _few_whole(y)):
        notes.append(f"the target holds {few} different whole numbers; {CLASSES_MEANT}")
    return TableRows(replace(schema, classes=classes), y, raw, tuple(notes), where)


def _few_whole(y: Float32[np.ndarray, "rows outputs"]) -> int:
    """How many different values a target has, if they may well be numbers of classes; else 0."""
    if y.shape[1] > 1 or len(y) < _ROWS_PER_CLASS or (y[:100] != np.floor(y[:100])).any():
        return 0
    values = np.unique(y)
    is_few = len(values) <= min(_MOST_CLASSES, len(y) // _ROWS_PER_CLASS)
    return len(values) if is_few and (values == np.floor(values)).all() else 0


def read_raw(path: Path, options: TableOptions = AS_FOUND) -> tuple[tuple[RawColumn, ...], int]:
    """What the columns of a table hold, where no target is known; and how many rows there are.

    Raises:
        InputError: the file cannot be read, or a column not be used.
    """
    file = TableFile.open(path, options)
    selection = selected(file, (), options)
    table = file.read(_types(file, selection))
    return _raw(table, selection, _rules(file, options)), table.num_rows


def learn(raw: Sequence[RawColumn], train: Bool[np.ndarray, " rows"]) -> tuple[Learnt, ...]:
    """What becomes of columns, by the training rows."""
    return tuple(
        Learnt(each.name, None, f"{each.why}; {learnt}")
        if isinstance(learnt := each.learn(train), str)
        else Learnt(each.name, learnt, each.why)
        for each in raw
    )


def read_table_inputs(path: Path, schema: Schema, options: TableOptions, tell: Tell) -> np.ndarray:
    """The inputs of a trained model from a table; no other column is read.

    Args:
        path: The file.
        schema: Of the data that the model was trained on.
        options: How to read it.
        tell: Called with a line on what a person may not expect.

    Raises:
        InputError: a column is missing, or its values are bad.
    """
    file = TableFile.open(path, options)
    return _inputs(_columns_of(file, schema, ()), schema, _rules(file, options), tell)


def read_table_examples(path: Path, schema: Schema, options: TableOptions, tell: Tell) -> Examples:
    """The inputs of a trained model from a table, and the targets; see `read_table_inputs`.

    Raises:
        InputError: a column is missing, or its values are bad.
    """
    file = TableFile.open(path, options)
    table, rules = _columns_of(file, schema, schema.targets), _rules(file, options)
    return Examples(_inputs(table, schema, rules, tell), read_targets(table, schema, rules)[0])


def _types(file: TableFile, selection: Selection) -> dict[str, pa.DataType]:
    """As what inputs are read of text: numbers as such, all else as it is written."""
    return {
        name: pa.float64()
        if is_number(file.columns[name]) and name not in selection.categorical
        else pa.string()
        for name in selection.inputs
    }


def _rules(file: TableFile, options: TableOptions) -> CellRules:
    decimal = file.dialect.decimal if file.dialect else "."
    return CellRules(str(file.path), decimal, missing_of(options.missing))


def _raw(table: pa.Table, selection: Selection, rules: CellRules) -> tuple[RawColumn, ...]:
    return tuple(
        raw_column(name, table.column(name), rules, categorical=name in selection.categorical)
        for name in selection.inputs
    )


def _columns_of(file: TableFile, schema: Schema, targets: Sequence[str]) -> pa.Table:
    """The columns that a model's inputs are made of, and the targets asked for."""
    columns = schema.table_columns
    file.refuse_unseparated(column.name for column in columns)
    check_columns(file.names, [column.name for column in columns], str(file.path))
    if targets:
        check_has_targets(file.names, schema, str(file.path))
    target_type = pa.string() if schema.task is Task.CLASSIFICATION else pa.float64()
    types = {
        column.name: pa.float64()
        if isinstance(column, Number) and not column.is_flag
        else pa.string()
        for column in columns
    }
    return file.read(types | dict.fromkeys(targets, target_type))


def _inputs(table: pa.Table, schema: Schema, rules: CellRules, tell: Tell) -> np.ndarray:
    columns = schema.table_columns
    values = {each.name: values_of(table.column(each.name), each, rules) for each in columns}
    return _encoded(columns, values, rules.where, tell)


def _encoded(
    columns: Sequence[Column], values: Mapping[str, Values], where: str, tell: Tell
) -> np.ndarray:
    """The inputs that columns become, side by side."""
    first = values[columns[0].name]
    rows = len(first.codes if isinstance(first, Distinct) else first)
    x = np.empty((rows, sum(len(column.inputs) for column in columns)), np.float32)
    start = 0
    for column in columns:
        # `values_of` has read each column as its own kind wants it, which types cannot say.
        own: Any = values[column.name]
        part, notes = column.encode(own, where)
        x[:, start : start + part.shape[1]] = part
        start += part.shape[1]
        for note in notes:
            tell(note)
    return x


def _notes_of(learnt: Sequence[Learnt]) -> list[str]:
    """What becomes of the columns that do not stay what they are."""
    notes = []
    for name, column, why in learnt:
        if column is None:
            notes.append(f"left out: {name!r} ({why})")
        elif isinstance(column, Category) or len(column.inputs) > 1:
            notes.append(f"{name!r}: {column.words} ({why})")
    return notes
