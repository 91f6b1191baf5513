"""Which rows are set aside for testing."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distvi.errors import InputError


def split_by_fraction(rows: int, test_fraction: float, split_seed: int) -> np.ndarray:
    """Row numbers of the test part, drawn at random; sorted.

    Raises:
        InputError: the fraction is not inside (0, 1), or leaves one of the parts empty.
    """
    if not 0 < test_fraction < 1:
        raise InputError(f"test fraction {test_fraction}: must lie between 0 and 1")
    if split_seed < 0:
        raise InputError(f"split seed {split_seed}: must not be negative")
    count = round(rows * test_fraction)
    if not 0 < count < rows:
        raise InputError(
            f"a test fraction of {test_fraction} of {rows} rows leaves {count} for testing and "
            f"{rows - count} for training: both parts need rows"
        )
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
