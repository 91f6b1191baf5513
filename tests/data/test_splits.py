"""Which rows are for testing, and which examples make up a batch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distvi.data import batch_indices, default_block, load, read_test_indices, share_indices
from distvi.data.sampling import BLOCKS_MIXED
from distvi.data.splits import check_test_indices, split_by_fraction
from distvi.errors import InputError


def test_fraction_and_seed():
    test = split_by_fraction(1000, 0.1, split_seed=3)
    assert len(np.unique(test)) == 100
    np.testing.assert_array_equal(test, split_by_fraction(1000, 0.1, split_seed=3))
    assert not np.array_equal(test, split_by_fraction(1000, 0.1, split_seed=4))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_fractions_out_of_range(fraction: float):
    with pytest.raises(InputError, match="must lie between 0 and 1"):
        split_by_fraction(10, fraction, 0)


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.99])
@pytest.mark.parametrize("rows", [2, 3, 4, 5])
def test_few_rows_have_a_test_part_too(rows: int, fraction: float):
    assert len(split_by_fraction(rows, fraction, 0)) == (rows - 1 if fraction > 0.5 else 1)


def test_a_single_row_cannot_be_parted():
    with pytest.raises(InputError, match=r"1 row cannot be parted: .* add rows"):
        split_by_fraction(1, 0.5, 0)


def test_a_negative_split_seed():
    with pytest.raises(InputError, match="must not be negative"):
        split_by_fraction(10, 0.5, -1)


def test_indices_are_the_test_part():
    digits = load("digits", test_indices=[5, 2])
    whole = load("digits", test_indices=[0])
    np.testing.assert_array_equal(digits.test.x, whole.train.x[[1, 4]])
    assert len(digits.train) == 1795


@pytest.mark.parametrize(
    ("indices", "what"),
    [
        ([], "both parts"),
        (range(10), "both parts"),
        ([3, 10], "10 is out of range: the data have rows 0 to 9"),
        ([-1], "-1 is out of range"),
        ([4, 2, 4], "row 4 is listed more than once"),
        ([0.5], "whole row numbers"),
        ([[1, 2]], "flat list"),
        (["1"], "whole row numbers"),
    ],
)
def test_bad_indices(indices: object, what: str):
    with pytest.raises(InputError, match=what):
        check_test_indices(indices, 10)


def write(folder: Path, content: object) -> Path:
    path = folder / "splits.json"
    path.write_text(json.dumps(content))
    return path


def test_indices_from_files(tmp_path: Path):
    np.testing.assert_array_equal(read_test_indices(write(tmp_path, [3, 1])), [3, 1])
    assert len(load("digits", test_indices=write(tmp_path, [3, 1])).test) == 2
    many = write(tmp_path, {"test": [[1], [2, 5]]})
    np.testing.assert_array_equal(read_test_indices(many, 1), [2, 5])


@pytest.mark.parametrize(
    ("content", "number", "what"),
    [
        ([], None, "expected a list"),
        ({"train": [1]}, None, "expected a list"),
        ("text", None, "expected a list"),
        ([1, "2"], None, "whole row numbers"),
        ([True, 2], None, "whole row numbers"),
        ([[1], [2]], None, "holds splits 0 to 1; none was chosen"),
        ([[1], [2]], 2, "there is no number 2"),
        ([1, 2], 1, "holds one split"),
    ],
)
def test_bad_files_of_indices(tmp_path: Path, content: object, number: int | None, what: str):
    with pytest.raises(InputError, match=what):
        read_test_indices(write(tmp_path, content), number)


def test_files_of_indices_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(InputError, match="no such file"):
        read_test_indices(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text("[1, 2")
    with pytest.raises(InputError, match="not a readable JSON file"):
        read_test_indices(tmp_path / "cut.json")


@given(
    seed=st.integers(0, 2**64),
    n=st.integers(1, 2000),
    cuts=st.lists(st.integers(0, 600), min_size=1, max_size=5),
    position=st.integers(0, 10**6),
    block=st.integers(1, 10),
)
def test_batches_are_slices_of_one_stream(
    seed: int, n: int, cuts: list[int], position: int, block: int
):
    whole = batch_indices(seed, n, position, sum(cuts), block)
    starts = position + np.cumsum([0, *cuts])
    parts = [batch_indices(seed, n, int(a), c, block) for a, c in zip(starts, cuts, strict=False)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 2000),
    epoch=st.integers(0, 10**4),
    block=st.integers(1, 2001),
)
def test_every_epoch_is_a_permutation(seed: int, n: int, epoch: int, block: int):
    order = batch_indices(seed, n, epoch * n, n, block)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


@given(seed=st.integers(0, 2**32), epoch=st.integers(0, 10**4), block=st.integers(2, 7))
def test_rows_of_a_window_are_whole_blocks_in_a_new_order(seed: int, epoch: int, block: int):
    n, window = 3 * BLOCKS_MIXED * block, BLOCKS_MIXED * block
    order = batch_indices(seed, n, epoch * n, n, block)
    for start in range(0, n, window):
        rows = order[start : start + window]
        blocks, counts = np.unique(rows // block, return_counts=True)
        assert (counts == block).all()
        assert len(blocks) == BLOCKS_MIXED
        half = np.unique(rows[: window // 2] // block)
        assert len(half) > BLOCKS_MIXED / 2  # they do not come block by block


def test_a_block_larger_than_the_data_is_all_of_them():
    whole = batch_indices(0, 10, 0, 10, 10)
    np.testing.assert_array_equal(batch_indices(0, 10, 0, 10, 10**12), whole)


def test_large_data_are_shuffled_in_blocks():
    def rows(count: int, width: int) -> np.ndarray:
        return np.broadcast_to(np.uint8(0), (count, width))

    assert default_block(rows(2**20, 2**10)) == 1  # 1 GiB
    assert default_block(rows(2**20 + 1, 2**10)) == 64
    assert default_block(rows(2**30 + 1, 1)) == 2**16
    assert default_block(rows(2**12, 2**20)) == 1
    assert default_block(rows(0, 3)) == 1


def test_seeds_and_epochs_differ():
    orders = [batch_indices(seed, 100, epoch * 100, 100) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_the_stream_stays_what_it_is():
    # A change here changes what every recorded run would do when it is repeated.
    assert batch_indices(0, 10, 5, 10).tolist() == [2, 0, 3, 9, 7, 7, 8, 6, 2, 9]
    assert batch_indices(0, 10, 5, 10, 3).tolist() == [7, 4, 8, 3, 9, 3, 5, 9, 4, 8]


@pytest.mark.parametrize(
    "bad", [(-1, 1, 0, 1), (0, 0, 0, 1), (0, 1, -1, 1), (0, 1, 0, -1), (0, 1, 0, 1, 0)]
)
def test_impossible_batches(bad: tuple[int, ...]):
    with pytest.raises(ValueError, match="negative or empty"):
        batch_indices(*bad)


@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 60),
    data=st.data(),
    epoch=st.integers(0, 1000),
    block=st.integers(1, 9),
)
def test_shares_are_a_partition_of_which_every_epoch_has_each_row_once(
    seed: int, n: int, data: st.DataObject, epoch: int, block: int
):
    workers = data.draw(st.integers(1, n))
    owned = []
    for worker in range(workers):
        share = seed, n, worker, workers
        size = _size(*share, block)
        order = share_indices(*share, epoch * size, size, block)
        assert order.dtype == np.uint32
        owned.append(np.sort(order))
        np.testing.assert_array_equal(owned[-1], np.sort(share_indices(*share, 0, size, block)))
        np.testing.assert_array_equal(order[size // 3 :][:2], share_indices(
            *share, epoch * size + size // 3, len(order[size // 3 :][:2]), block
        ))  # fmt: skip
        if block == 1:
            np.testing.assert_array_equal(owned[-1], np.arange(worker, n, workers))
    np.testing.assert_array_equal(np.sort(np.concatenate(owned)), np.arange(n))
    sizes = [len(each) for each in owned]
    assert max(sizes) - min(sizes) <= min(block, n // workers)


def _size(seed: int, n: int, worker: int, workers: int, block: int) -> int:
    """The length of a share: before its first row comes again, all have come."""
    order = share_indices(seed, n, worker, workers, 0, 2 * n, block)
    return len(np.unique(order))


def test_the_share_of_one_worker_is_the_stream_and_those_of_several_differ():
    for block in (1, 7, 200):
        alone = share_indices(3, 100, 0, 1, 50, 300, block)
        np.testing.assert_array_equal(alone, batch_indices(3, 100, 50, 300, block))
    orders = [share_indices(3, 100, worker, 2, 0, 50) // 2 for worker in range(2)]
    assert not np.array_equal(orders[0], orders[1])
    assert share_indices(0, 10, 1, 3, 2, 5).tolist() == [7, 7, 4, 1, 7]  # as of every run so far
    with pytest.raises(ValueError, match="no such share"):
        share_indices(0, 3, 0, 4, 0, 1)


@pytest.mark.parametrize("other", [{"test_fraction": 0.5}, {"split_seed": 0}])
def test_test_rows_are_chosen_in_one_way(tmp_path: Path, other: dict[str, Any]) -> None:
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{n},{n}\n" for n in range(9)))
    with pytest.raises(
        InputError, match=f"test_indices and {next(iter(other))} are given; only one"
    ):
        load(tmp_path / "t.csv", target="y", test_indices=[1], **other)
