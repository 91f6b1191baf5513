"""Which examples make up a batch: a function of the seed and the position alone."""

from functools import lru_cache

import numpy as np

BLOCKS_MIXED = 256
"""Blocks whose rows are shuffled into each other: batches are drawn from so many at a time."""

_LARGE_BYTES = 1 << 30  # what the page cache of most machines holds beside everything else
_BLOCK_BYTES = 1 << 16


def default_block(rows: np.ndarray) -> int:
    """Neighbouring rows to shuffle as one: 1, or 64 KiB of rows where there is more than 1 GiB.

    It depends on the array's size alone, not on where it lies.

    Args:
        rows: Inputs of the training examples.
    """
    if rows.nbytes <= _LARGE_BYTES:
        return 1
    return max(1, _BLOCK_BYTES * len(rows) // rows.nbytes)


def batch_indices(seed: int, n: int, position: int, count: int, block: int = 1) -> np.ndarray:
    """Entries [position, position + count) of an endless stream of shuffled epochs.

    The stream is one permutation of all ``n`` examples after the other, each a function of the
    seed and the epoch's number. So any batch of any run can be had without those before it, and
    n workers that take neighbouring slices together take what one worker with n times the batch
    takes.

    With blocks of more than one row a permutation is drawn in two levels: of all blocks, then of
    the rows in every `BLOCKS_MIXED` consecutive ones. Rows that are read at about the same time
    then lie side by side in their file.

    Args:
        seed: Seed of the order, from 0 on.
        n: Number of examples.
        position: Where to begin, in examples since the start of training.
        count: How many; may reach over the end of an epoch.
        block: Neighbouring rows that stay together on the first level.

    Returns:
        Row numbers, uint32 (count,).

    References:
        Xu et al. (2022), In-database machine learning with CorgiPile: stochastic gradient descent
        without full data shuffle: block-level, then tuple-level shuffle.

    Example:
        >>> sorted(batch_indices(seed=0, n=4, position=4, count=4).tolist())
        [0, 1, 2, 3]
        >>> sorted(batch_indices(seed=0, n=5, position=5, count=5, block=2).tolist())
        [0, 1, 2, 3, 4]
    """
    if n < 1 or position < 0 or count < 0 or seed < 0 or block < 1:
        raise ValueError(f"negative or empty: {seed=}, {n=}, {position=}, {count=}, {block=}")
    block = min(block, n)
    parts, end = [], position + count
    while position < end:
        epoch, offset = divmod(position, n)
        part = _rest_of_epoch(offset, seed, epoch, n, block)[: end - position]
        parts.append(part)
        position += len(part)
    return np.concatenate(parts) if parts else np.empty(0, np.uint32)


def share_indices(
    seed: int, n: int, worker: int, workers: int, position: int, count: int, block: int = 1
) -> np.ndarray:
    """Entries of a worker's own endless stream: shuffled epochs of its share of the examples.

    Worker w of P owns every P-th block of rows from the w-th on; with blocks of one row those whose
    number is w modulo P, so shares differ by one row at most. Each share is shuffled by itself, as
    `batch_indices` shuffles all. That of a single worker is all examples, in that very order.

    Args:
        seed: Seed of the order, from 0 on.
        n: Number of examples.
        worker: Whose share, w.
        workers: How many shares there are, P; not more than examples.
        position: Where to begin, in examples of the share since the start of training.
        count: How many.
        block: Neighbouring rows that stay together; fewer, where blocks are too few to share.

    Returns:
        Row numbers, uint32 (count,).

    Example:
        >>> sorted(share_indices(0, 7, worker=1, workers=3, position=0, count=2).tolist())
        [1, 4]
    """
    if not 0 <= worker < workers <= n:
        raise ValueError(f"no such share: {worker=}, {workers=}, {n=}")
    block = min(block, n // workers)
    if workers == 1:
        return batch_indices(seed, n, position, count, block)
    own_blocks = len(range(worker, -(-n // block), workers))
    last = worker + (own_blocks - 1) * workers
    size = (own_blocks - 1) * block + min(block, n - last * block)
    own_seed = np.random.SeedSequence([seed, worker]).generate_state(1, np.uint64).item()
    number, row = np.divmod(batch_indices(own_seed, size, position, count, block), block)
    return ((worker + number * workers) * block + row).astype(np.uint32)


def _rest_of_epoch(offset: int, seed: int, epoch: int, n: int, block: int) -> np.ndarray:
    """An epoch from this entry on, as far as it is drawn at once."""
    if block == 1:
        return _epoch(seed, epoch, n)[offset:]
    _, starts = _blocks(seed, epoch, n, block)
    window = int(np.searchsorted(starts, offset, side="right")) - 1
    return _window(seed, epoch, n, block, window)[offset - int(starts[window]) :]


@lru_cache(maxsize=2)
def _epoch(seed: int, epoch: int, n: int) -> np.ndarray:
    return _permutation(seed, (epoch,), n)


@lru_cache(maxsize=2)
def _blocks(seed: int, epoch: int, n: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """The blocks in an epoch's order, and the epoch's entries at which windows of them begin."""
    order = _permutation(seed, (epoch,), -(-n // block)).astype(np.int64)
    lengths = np.minimum(block, n - order * block)  # the last has what is left over
    order.flags.writeable = False
    return order, (np.cumsum(lengths) - lengths)[::BLOCKS_MIXED]


@lru_cache(maxsize=4)
def _window(seed: int, epoch: int, n: int, block: int, window: int) -> np.ndarray:
    """The rows of consecutive blocks, shuffled into each other."""
    order, _ = _blocks(seed, epoch, n, block)
    first = order[window * BLOCKS_MIXED : (window + 1) * BLOCKS_MIXED] * block
    rows = (first[:, None] + np.arange(block)).ravel()
    rows = rows[rows < n].astype(np.uint32)
    mixed = rows[_permutation(seed, (epoch, window), len(rows))]
    mixed.flags.writeable = False
    return mixed


def _permutation(seed: int, spawn_key: tuple[int, ...], n: int) -> np.ndarray:
    # Sorting raw bits, and not Generator.permutation: numpy promises to keep the bit stream, but
    # not what its distributions make of it, and a run must be repeatable after an upgrade.
    bits = np.random.Philox(np.random.SeedSequence(seed, spawn_key=spawn_key)).random_raw(n)
    order = np.argsort(bits, kind="stable").astype(np.uint32)
    order.flags.writeable = False
    return order
