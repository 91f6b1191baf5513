"""Batches of consecutive updates, in blocks that lie on the devices before they are needed.

`Streamed` copies the examples of a block; `Resident` holds the training set in the devices' memory
and names them.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from distvi.engines.base import Problem

Devices = list[Any]
"""Of `jax.Device`, which type checkers take for a variable."""

UPDATES_PER_BLOCK = 64
BLOCK_BYTES = 2**24  # of copied examples; a block has fewer updates rather than more bytes


class BatchSharding(NamedTuple):
    """Where arrays lie: on every device, or cut among them along the batch."""

    whole: NamedSharding
    by_example: NamedSharding
    by_update: NamedSharding  # (updates, batch, ...)


def batch_sharding(on: Devices) -> BatchSharding:
    """Placements on a row of devices."""
    mesh = Mesh(np.array(on), ("batch",), axis_types=(AxisType.Auto,))
    return BatchSharding(
        whole=NamedSharding(mesh, PartitionSpec()),
        by_example=NamedSharding(mesh, PartitionSpec("batch")),
        by_update=NamedSharding(mesh, PartitionSpec(None, "batch")),
    )


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

    def block(self, number: int) -> Block:
        """One of the blocks; called in a background thread."""
        ...

    def batch(self, block: Block, row: Array) -> Block:
        """The batch of one of its updates, traced."""
        ...


class Streamed:
    """A block holds copies of its updates' examples, made on the host."""

    def __init__(self, problem: Problem, places: BatchSharding) -> None:
        self._problem, self._place = problem, places.by_update
        examples, batch_size = problem.examples, problem.batch_size
        bytes_of_one = sum(rows[:1].nbytes for rows in (examples.x, examples.y)) * batch_size
        self.updates = max(1, min(UPDATES_PER_BLOCK, BLOCK_BYTES // bytes_of_one))
        self._shape = (self.updates, batch_size)
        rows = (examples.x[:0], examples.y[:0], np.zeros(0, np.uint32))
        self.like = tuple(
            jax.ShapeDtypeStruct(self._shape + r.shape[1:], r.dtype, sharding=self._place)
            for r in rows
        )

    def block(self, number: int) -> Block:
        """One of the blocks; a matrix of which is a batch."""
        count = self.updates * self._problem.batch_size
        index = self._problem.indices(number * count, count)
        rows = (*self._problem.examples.take(index), index.astype(np.uint32))
        return jax.device_put(
            tuple(r.reshape(self._shape + r.shape[1:]) for r in rows), self._place
        )

    def batch(self, block: Block, row: Array) -> Block:
        """A row of each."""
        x, y, index = block
        return x[row], y[row], index[row]


class Resident:
    """The training set lies in the memory of every device; what is new in a block are indices."""

    updates = UPDATES_PER_BLOCK

    def __init__(self, problem: Problem, places: BatchSharding) -> None:
        self._problem, self._places = problem, places
        x, y = np.asarray(problem.examples.x), np.asarray(problem.examples.y)
        self._data = jax.device_put((x, y), places.whole)
        self.like = self.block(0)

    def block(self, number: int) -> Block:
        """The training set and a matrix of indices."""
        count = self.updates * self._problem.batch_size
        index = self._problem.indices(number * count, count).astype(np.uint32)
        placed = jax.device_put(index.reshape(self.updates, -1), self._places.by_update)
        return *self._data, placed

    def batch(self, block: Block, row: Array) -> Block:
        """The examples that a row of the indices names."""
        x, y, indices = block
        index = indices[row]
        place = self._places.by_example
        return *(jax.lax.with_sharding_constraint(d[index], place) for d in (x, y)), index
