"""Rows of arrays that stay in their file."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distvi.data.mapping import RowFile
from distvi.engines.coordinator.shared import shared
from distvi.errors import RunFailed
from distvi.system.memmap import place_in_file


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
    file = RowFile.behind(rows_in_a_file)
    assert file is not None
    place = place_in_file(rows_in_a_file)
    assert place is not None
    _, begin = place
    calls: list[tuple[int, int]] = []  # row and bytes
    pread, preadv = os.pread, os.preadv

    def read_alone(descriptor: int, length: int, offset: int) -> bytes:
        calls.append(((offset - begin) // 1000, length))
        return pread(descriptor, length, offset)

    def read_stretch(descriptor: int, parts: Any, offset: int) -> int:
        calls.append(((offset - begin) // 1000, len(parts[0])))
        return preadv(descriptor, [parts[0][:4000]], offset)  # less than was asked for

    monkeypatch.setattr(os, "pread", read_alone)
    monkeypatch.setattr(os, "preadv", read_stretch)
    indices = np.array([820, 3, 1, 4, 6, 822])
    np.testing.assert_array_equal(file.take(indices), rows_in_a_file[indices])
    assert calls == [(820, 1000), (822, 1000), (1, 6000), (5, 2000)]


def test_a_file_that_is_cut_short_while_it_is_read(tmp_path: Path, rows_in_a_file: np.ndarray):
    file = RowFile.behind(rows_in_a_file)
    assert file is not None
    os.truncate(tmp_path / "rows.npy", 500_000)
    for rows in ([0, 899], [896, 897, 898, 899]):
        with pytest.raises(RunFailed, match=r"rows\.npy: was cut short"):
            file.take(np.array(rows))


def test_workers_find_the_rows_of_a_slice(rows_in_a_file: np.ndarray):
    with shared(rows_in_a_file) as place:
        assert place.path
        np.testing.assert_array_equal(place.open(), rows_in_a_file)


def test_arrays_that_lie_in_no_file(rows_in_a_file: np.ndarray, tmp_path: Path):
    changed = np.load(tmp_path / "rows.npy", mmap_mode="c")
    assert place_in_file(changed) is None
    assert place_in_file(rows_in_a_file.copy()) is None
    assert place_in_file(rows_in_a_file[::2]) is None
