"""Which rows are set aside for testing."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from distvi.data.dataset import Dataset, Examples, Schema, Task
from distvi.errors import InputError

DEFAULT_TEST_FRACTION, DEFAULT_SPLIT_SEED = 0.1, 0


def split(
    x: np.ndarray,
    y: np.ndarray,
    schema: Schema,
    test_fraction: float | None = None,
    split_seed: int | None = None,
    test_indices: Any = None,
) -> Dataset:
    """Rows as a data set with a test part: those that are listed, or drawn; see `is_train`."""
    train = is_train(len(x), test_fraction, split_seed, test_indices)
    return parted(x, y, schema, train, drawn=test_indices is None)


def is_train(
    rows: int,
    test_fraction: float | None = None,
    split_seed: int | None = None,
    test_indices: Any = None,
) -> Bool[np.ndarray, " rows"]:
    """Which rows are to train on.

    Args:
        rows: How many there are.
        test_fraction: How many are drawn to test on; None: 0.1.
        split_seed: Seed of the draw; None: 0.
        test_indices: The rows to test on instead.

    Raises:
        InputError: a part would be empty.
    """
    refuse_two_splits(test_fraction, split_seed, test_indices)
    if test_indices is None:
        fraction = DEFAULT_TEST_FRACTION if test_fraction is None else test_fraction
        test = split_by_fraction(rows, fraction, split_seed or DEFAULT_SPLIT_SEED)
    else:
        test = check_test_indices(test_indices, rows)
    training = np.ones(rows, bool)
    training[test] = False
    return training


def parted(
    x: np.ndarray,
    y: np.ndarray,
    schema: Schema,
    train: Bool[np.ndarray, " rows"],
    *,
    drawn: bool,
    notes: tuple[str, ...] = (),
) -> Dataset:
    """Rows as a data set with a test part.

    Args:
        x: Inputs of all rows.
        y: Their targets.
        schema: The columns.
        train: Which rows are to train on.
        drawn: Whether they were drawn.
        notes: What a person may not expect.

    Raises:
        InputError: the training part is of a single class.
    """
    chosen, others = np.flatnonzero(train), np.flatnonzero(~train)
    return refuse_one_class(
        Dataset(
            name=schema.name,
            task=schema.task,
            train=Examples(x[chosen], y[chosen]),
            test=Examples(x[others], y[others]),
            classes=schema.classes,
            inputs=schema.inputs,
            targets=schema.targets,
            drawn=drawn,
            columns=schema.columns,
            notes=notes,
        )
    )


def refuse_two_splits(
    test_fraction: float | None, split_seed: int | None, test_indices: Any
) -> None:
    """Refuse a list of test rows beside a draw of them.

    Raises:
        InputError: both are given.
    """
    if test_indices is not None and not (test_fraction is None and split_seed is None):
        both = "test_fraction" if split_seed is None else "split_seed"
        raise InputError(f"test_indices and {both} are given; only one can choose the test rows")


def refuse_one_class(dataset: Dataset) -> Dataset:
    """Refuse a training part of a single class.

    Raises:
        InputError: names the class.
    """
    labels = dataset.train.y
    if dataset.task is Task.CLASSIFICATION and np.all(labels == labels[0]):
        only = dataset.classes[int(labels[0])]
        raise InputError(f"{dataset.name}: the training part holds only one class, {only!r}")
    return dataset


def split_by_fraction(rows: int, test_fraction: float, split_seed: int) -> np.ndarray:
    """Row numbers of the test part, drawn at random; sorted. Each part has a row at least.

    Raises:
        InputError: the fraction is not inside (0, 1), or there are fewer than two rows.
    """
    if not 0 < test_fraction < 1:
        raise InputError(f"test fraction {test_fraction}: must lie between 0 and 1")
    if split_seed < 0:
        raise InputError(f"split seed {split_seed}: must not be negative")
    if rows < 2:
        raise InputError(
            f"{rows} row cannot be parted: one is needed to train on and one to test on; add rows"
        )
    count = min(max(round(rows * test_fraction), 1), rows - 1)
    bits = np.random.Philox(np.random.SeedSequence(split_seed)).random_raw(rows)
    return np.sort(np.argsort(bits, kind="stable")[:count])


def check_test_indices(indices: Any, rows: int) -> np.ndarray:
    """A given list of test rows (counted from 0), as a sorted array.

    Raises:
        InputError: no rows, all rows, no integers, a number out of range, or one given twice.
    """
    array = np.asarray(indices)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise InputError("test indices: must be a flat list of whole row numbers, counted from 0")
    if not 0 < len(array) < rows:
        raise InputError(
            f"test indices: {len(array)} of {rows} rows; both parts need at least one row"
        )
    outside = (array < 0) | (array >= rows)
    if outside.any():
        raise InputError(
            f"test indices: {array[outside][0]} is out of range: the data have rows 0 to {rows - 1}"
        )
    ordered = np.sort(array)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(repeated):
        raise InputError(f"test indices: row {repeated[0]} is listed more than once")
    return ordered.astype(np.int64)


def read_test_indices(path: str | Path, number: int | None = None) -> np.ndarray:
    """Test rows from a JSON file: ``[3, 7]``, or ``{"test": [[3, 7], [1, 4]]}`` with many splits.

    Args:
        path: The file.
        number: Which split of several, from 0 on; None where the file holds one.

    Raises:
        InputError: the file is missing, is not of this form, or has no such split.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file of test indices") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable JSON file: {error}") from None
    lists = content.get("test") if isinstance(content, dict) else content
    if not isinstance(lists, list) or not lists:
        raise InputError(f'{path}: expected a list of row numbers, or {{"test": [[...], ...]}}')
    if isinstance(lists[0], list):
        lists = _choose(lists, number, path)
    elif number not in (None, 0):
        raise InputError(f"{path}: holds one split, so there is no number {number}")
    if not all(type(row) is int for row in lists):
        raise InputError(f"{path}: test indices must be whole row numbers, counted from 0")
    return np.asarray(lists, np.int64)


def _choose(splits: Sequence[list], number: int | None, path: Path) -> list:
    if number is None and len(splits) == 1:
        return splits[0]
    if number is None or not 0 <= number < len(splits):
        asked = "none was chosen" if number is None else f"there is no number {number}"
        raise InputError(f"{path}: holds splits 0 to {len(splits) - 1}; {asked}")
    return splits[number]
