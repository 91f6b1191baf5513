"""Batches of consecutive updates, in blocks that lie on the devices before they are needed.

`Streamed` copies the examples of a block; `Resident` holds the training set in the devices' memory
and names them.
"""

from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from distvi.algorithms.base import Batches
from distvi.algorithms.slices import SLICES
from distvi.engines.base import Devices, Problem, batch_indices, read_batches

UPDATES_PER_BLOCK = 64
BLOCK_BYTES = 2**24  # of copied examples; a block has fewer updates rather than more bytes

WHOLE = PartitionSpec()
BY_UPDATE = PartitionSpec(None, None, SLICES)  # (updates, batches, batch, ...)


class Places:
    """Where arrays lie: on every device, or cut among them along the batch.

    The devices may be those of several processes. Each then has the same numbers at hand, and of
    a batch only its own examples.

    Args:
        on: The devices, those of each process beside one another.
    """

    def __init__(self, on: Devices) -> None:
        self.mesh = Mesh(np.array(on), (SLICES,), axis_types=(AxisType.Auto,))
        self.whole = NamedSharding(self.mesh, WHOLE)
        self.by_update = NamedSharding(self.mesh, BY_UPDATE)
        here = jax.process_index()
        self.own = [number for number, each in enumerate(on) if each.process_index == here]
        self.count = len(on)

    def rows(self, batch_size: int) -> slice:
        """Which examples of each batch this process has."""
        size = batch_size // self.count
        return slice(self.own[0] * size, (self.own[-1] + 1) * size)

    def put_whole(self, tree: Any) -> Any:
        """A tree of arrays on every device; all processes have the same."""
        if self.whole.is_fully_addressable:
            return jax.device_put(tree, self.whole)
        return jax.tree.map(lambda leaf: _replicated(np.asarray(leaf), self.whole), tree)

    def put_key(self, key: Array) -> Array:
        """The same of a key."""
        data = self.put_whole(jax.random.key_data(key))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))

    def put_rows(self, tree: Any) -> Any:
        """The examples of some batches that this process has; those of all make them whole."""
        if self.by_update.is_fully_addressable:
            return jax.device_put(tree, self.by_update)
        return jax.tree.map(partial(jax.make_array_from_process_local_data, self.by_update), tree)


def _replicated(leaf: np.ndarray, place: NamedSharding) -> Array:
    return jax.make_array_from_callback(leaf.shape, place, lambda index: leaf[index])


Block = tuple[Array, Array, Array]
"""What some consecutive updates are made of, on the devices: x, y, and the indices of examples."""


@runtime_checkable
class Feed(Protocol):
    """Gives updates their batches, a block of them at a time."""

    @property
    def updates(self) -> int:
        """Updates a block is good for: number n for those from ``n * updates`` on."""
        ...

    @property
    def like(self) -> Any:
        """Shapes, dtypes and places of a block."""
        ...

    @property
    def cuts(self) -> tuple[PartitionSpec, PartitionSpec, PartitionSpec]:
        """How each array of a block is cut among the devices."""
        ...

    def block(self, number: int) -> Block:
        """One of the blocks; called in a background thread."""
        ...

    def batches(self, block: Block, row: Array, update: Array) -> Batches:
        """What one of its updates consumes on a device, traced."""
        ...


class Streamed:
    """A block holds copies of its updates' examples, made on the host.

    Args:
        problem: Has the examples.
        places: Where they go.
        batches: That an update consumes.
        block_bytes: A block has fewer updates rather than more bytes.
    """

    cuts = (BY_UPDATE, BY_UPDATE, BY_UPDATE)

    def __init__(
        self,
        problem: Problem,
        places: Places,
        batches: int,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self._problem, self._places, self._batches = problem, places, batches
        examples, batch_size = problem.examples, problem.batch_size
        bytes_of_one = sum(rows[:1].nbytes for rows in (examples.x, examples.y)) * batch_size
        self.updates = max(1, min(UPDATES_PER_BLOCK, block_bytes // (bytes_of_one * batches)))
        self._shape = (self.updates, batches, batch_size)
        rows = (examples.x[:0], examples.y[:0], np.zeros(0, np.uint32))
        self.like = tuple(
            jax.ShapeDtypeStruct(self._shape + r.shape[1:], r.dtype, sharding=places.by_update)
            for r in rows
        )

    def block(self, number: int) -> Block:
        """One of the blocks."""
        count = self.updates * self._batches
        own = self._places.rows(self._problem.batch_size)
        _, *rows = read_batches(self._problem, number * count, count, rows=own)
        shape = (self.updates, self._batches, -1)
        return self._places.put_rows(tuple(r.reshape(shape + r.shape[2:]) for r in rows))

    def batches(self, block: Block, row: Array, update: Array) -> Batches:
        """A row of each."""
        x, y, index = block
        return Batches(_steps(update, self._batches), x[row], y[row], index[row])


class Resident:
    """The training set lies in the memory of every device; what is new in a block are indices.

    Args:
        problem: Has the examples.
        places: Where they go.
        batches: That an update consumes.
    """

    updates = UPDATES_PER_BLOCK
    cuts = (WHOLE, WHOLE, BY_UPDATE)

    def __init__(self, problem: Problem, places: Places, batches: int) -> None:
        self._problem, self._places, self._batches = problem, places, batches
        x, y = np.asarray(problem.examples.x), np.asarray(problem.examples.y)
        self._data = places.put_whole((x, y))
        self.like = self.block(0)

    def block(self, number: int) -> Block:
        """The training set and the indices."""
        count = self.updates * self._batches
        index = batch_indices(self._problem, number * count, count)
        own = index[:, self._places.rows(self._problem.batch_size)]
        return *self._data, self._places.put_rows(own.reshape(self.updates, self._batches, -1))

    def batches(self, block: Block, row: Array, update: Array) -> Batches:
        """The examples that a row of the indices names."""
        x, y, indices = block
        index = indices[row]
        return Batches(_steps(update, self._batches), x[index], y[index], index)


def _steps(update: Array, batches: int) -> Array:
    """Numbers of the batches of an update."""
    return update[None] * np.uint32(batches) + np.arange(batches, dtype=np.uint32)
