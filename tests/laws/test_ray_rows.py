"""Training inputs that machines read from a file: whether they see the same."""

from pathlib import Path

import numpy as np
import pytest

from distvi.errors import RunFailed

pytest.importorskip("ray", reason="the extra distvi[ray] is not installed")

from distvi.engines.ray.rows import Rows


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", np.arange(600, dtype=np.float32).reshape(200, 3))
    return tmp_path / "x.npy"


@pytest.fixture
def rows(file: Path) -> Rows:
    found = Rows.of(np.load(file, mmap_mode="r")[50:])
    assert found is not None
    return found


def test_rows_are_those_of_the_array(rows: Rows) -> None:
    assert rows.difference() == ""
    expected = np.arange(600, dtype=np.float32).reshape(200, 3)[50:]
    np.testing.assert_array_equal(rows.open(), expected)


def test_an_array_in_memory_has_no_rows_in_a_file() -> None:
    assert Rows.of(np.zeros((3, 2))) is None


def test_a_file_that_is_not_there(rows: Rows, file: Path) -> None:
    file.unlink()
    assert rows.difference() == "No such file or directory"
    with pytest.raises(RunFailed, match=r"training inputs from .*x\.npy: No such file"):
        rows.open()


def test_a_file_that_is_shorter(rows: Rows, file: Path) -> None:
    np.save(file, np.zeros((60, 3), np.float32))
    assert rows.difference() == "the file has 848 bytes there, and 2528 are needed"


def test_a_file_with_other_rows(rows: Rows, file: Path) -> None:
    np.save(file, np.arange(600, dtype=np.float32)[::-1].reshape(200, 3))
    assert rows.difference() == "the file has other rows there"
