"""What would be made of each column of a table, and why, before anything is trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from distvi.data.dataset import Task
from distvi.data.splits import is_train, read_test_indices
from distvi.data.table_files import AS_FOUND, TableFile, TableOptions
from distvi.data.tables import Learnt, learn, read_raw, read_table


class Described(NamedTuple):
    """A table in words.

    Attributes:
        lines: About the file.
        columns: Of each column its name, what becomes of it, and what it holds.
    """

    lines: tuple[str, ...]
    columns: tuple[tuple[str, str, str], ...]


def describe(
    path: str | Path,
    *,
    target: Sequence[str] | None = None,
    task: Task | None = None,
    test_fraction: float | None = None,
    split_seed: int | None = None,
    test_indices: Any = None,
    options: TableOptions = AS_FOUND,
) -> Described:
    """A table as `load` would read it; without a target, all columns as inputs.

    Raises:
        InputError: the table cannot be trained on.
    """
    path = Path(path)
    if isinstance(test_indices, str | Path):
        test_indices = read_test_indices(test_indices)
    targets: list[tuple[str, str, str]] = []
    if target:
        found = read_table(path, tuple(target), task, options)
        notes, raw, rows = found.notes, found.raw, len(found.y)
        what = f"{len(found.schema.classes)} classes" if found.schema.classes else "numbers"
        targets = [(name, f"the target of a {found.schema.task}", what) for name in target]
    else:
        raw, rows = read_raw(path, options)
        notes = TableFile.open(path, options).notes
    train = is_train(rows, test_fraction, split_seed, test_indices)
    learnt = learn(raw, train)
    inputs = sum(len(each.column.inputs) for each in learnt if each.column is not None)
    size = f"{path.name}: {rows:,} rows, {int(train.sum()):,} of them to train on; {inputs} input"
    size += "s" * (inputs != 1)
    return Described((size, *notes), (*map(_in_words, learnt), *targets))


def _in_words(learnt: Learnt) -> tuple[str, str, str]:
    name, column, why = learnt
    return (name, "left out" if column is None else column.words, why)
