"""Which examples make up a batch: a function of the seed and the position alone."""

from functools import lru_cache

import numpy as np


def batch_indices(seed: int, n: int, position: int, count: int) -> np.ndarray:
    """Entries [position, position + count) of an endless stream of shuffled epochs.

    The stream is one permutation of all ``n`` examples after the other, each a function of the
    seed and the epoch's number. So any batch of any run can be had without those before it, and
    n workers that take neighbouring slices together take what one worker with n times the batch
    takes.

    Args:
        seed: Seed of the order, from 0 on.
        n: Number of examples.
        position: Where to begin, in examples since the start of training.
        count: How many; may reach over the end of an epoch.

    Returns:
        Row numbers, uint32 (count,).

    Example:
        >>> sorted(batch_indices(seed=0, n=4, position=4, count=4).tolist())
        [0, 1, 2, 3]
    """
    if n < 1 or position < 0 or count < 0 or seed < 0:
        raise ValueError(f"negative or empty: {seed=}, {n=}, {position=}, {count=}")
    parts, end = [], position + count
    while position < end:
        epoch, offset = divmod(position, n)
        part = _permutation(seed, epoch, n)[offset : offset + end - position]
        parts.append(part)
        position += len(part)
    return np.concatenate(parts) if parts else np.empty(0, np.uint32)


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    # Sorting raw bits, and not Generator.permutation: numpy promises to keep the bit stream, but
    # not what its distributions make of it, and a run must be repeatable after an upgrade.
    bits = np.random.Philox(np.random.SeedSequence(seed, spawn_key=(epoch,))).random_raw(n)
    order = np.argsort(bits, kind="stable").astype(np.uint32)
    order.flags.writeable = False
    return order
