"""Rows of arrays that stay in their file."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distvi.data.mapping import RowFile
from distvi.errors import RunFailed
from distvi.mapped import place_in_file


@pytest.fixture
def rows_in_a_file(tmp_path: Path, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).integers(0, 2**16, (1000, 500), np.uint16)
    np.save(tmp_path / "rows.npy", rows)
    return np.load(tmp_path / "rows.npy", mmap_mode="r")[100:]


@pytest.mark.parametrize("taken", [[], [5], [899, 0, 0, 899], range(900), range(0, 900, 50)])
def test_rows_that_are_read_from_a_file(rows_in_a_file: np.ndarray, seed: int, taken: Any):
    file = RowFile.behind(rows_in_a_file)
    assert file is not None
    indices = np.random.default_rng(seed).permutation(np.asarray(taken, np.uint32))
    np.testing.assert_array_equal(file.take(indices), rows_in_a_file[indices])


def test_rows_that_lie_close_together_are_read_at_once(
    rows_in_a_file: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    calls, read = [], os.preadv

    def preadv(descriptor: int, parts: Any, offset: int) -> int:
        calls.append(offset)
        return read(descriptor, [parts[0][:3000]], offset)  # less than was asked for

    file = RowFile.behind(rows_in_a_file)
    assert file is not None
    monkeypatch.setattr(os, "preadv", preadv)
    indices = np.array([820, 3, 1, 16, 822])
    np.testing.assert_array_equal(file.take(indices), rows_in_a_file[indices])
    first, last = calls[0], calls[-1]
    assert last == first + 819_000  # rows of 1000 bytes: 1 to 16 in six pieces, 820 to 822 in one
    assert calls == [*range(first, first + 16_000, 3000), last]


def test_a_file_that_is_cut_short_while_it_is_read(tmp_path: Path, rows_in_a_file: np.ndarray):
    file = RowFile.behind(rows_in_a_file)
    assert file is not None
    os.truncate(tmp_path / "rows.npy", 500_000)
    with pytest.raises(RunFailed, match=r"rows\.npy: was cut short"):
        file.take(np.array([0, 899]))


def test_arrays_that_lie_in_no_file(rows_in_a_file: np.ndarray):
    assert place_in_file(rows_in_a_file.copy()) is None
    assert place_in_file(rows_in_a_file[::2]) is None
