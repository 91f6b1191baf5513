"""Batches of consecutive updates, in blocks that lie on the devices before they are needed.

`Streamed` copies the examples of a block; `Resident` holds the training set in the devices' memory
and names them.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from distvi.algorithms.base import Batches
from distvi.engines.base import Devices, Problem, batch_indices, read_batches

UPDATES_PER_BLOCK = 64
BLOCK_BYTES = 2**24  # of copied examples; a block has fewer updates rather than more bytes


class BatchSharding(NamedTuple):
    """Where arrays lie: on every device, or cut among them along the batch."""

    whole: NamedSharding
    by_example: NamedSharding  # (batches, batch, ...)
    by_update: NamedSharding  # (updates, batches, batch, ...)


def batch_sharding(on: Devices) -> BatchSharding:
    """Placements on a row of devices."""
    mesh = Mesh(np.array(on), ("batch",), axis_types=(AxisType.Auto,))
    return BatchSharding(
        whole=NamedSharding(mesh, PartitionSpec()),
        by_example=NamedSharding(mesh, PartitionSpec(None, "batch")),
        by_update=NamedSharding(mesh, PartitionSpec(None, None, "batch")),
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

    def batches(self, block: Block, row: Array, update: Array) -> Batches:
        """What one of its updates consumes, traced."""
        ...


class Streamed:
    """A block holds copies of its updates' examples, made on the host.

    Args:
        problem: Has the examples.
        places: Where they go.
        batches: That an update consumes.
        block_bytes: A block has fewer updates rather than more bytes.
    """

    def __init__(
        self,
        problem: Problem,
        places: BatchSharding,
        batches: int,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self._problem, self._place, self._batches = problem, places.by_update, batches
        examples, batch_size = problem.examples, problem.batch_size
        bytes_of_one = sum(rows[:1].nbytes for rows in (examples.x, examples.y)) * batch_size
        self.updates = max(1, min(UPDATES_PER_BLOCK, block_bytes // (bytes_of_one * batches)))
        self._shape = (self.updates, batches, batch_size)
        rows = (examples.x[:0], examples.y[:0], np.zeros(0, np.uint32))
        self.like = tuple(
            jax.ShapeDtypeStruct(self._shape + r.shape[1:], r.dtype, sharding=self._place)
            for r in rows
        )

    def block(self, number: int) -> Block:
        """One of the blocks."""
        count = self.updates * self._batches
        _, *rows = read_batches(self._problem, number * count, count)
        return jax.device_put(
            tuple(r.reshape(self._shape + r.shape[2:]) for r in rows), self._place
        )

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

    def __init__(self, problem: Problem, places: BatchSharding, batches: int) -> None:
        self._problem, self._places, self._batches = problem, places, batches
        x, y = np.asarray(problem.examples.x), np.asarray(problem.examples.y)
        self._data = jax.device_put((x, y), places.whole)
        self.like = self.block(0)

    def block(self, number: int) -> Block:
        """The training set and the indices."""
        count = self.updates * self._batches
        index = batch_indices(self._problem, number * count, count)
        shape = (self.updates, self._batches, -1)
        return *self._data, jax.device_put(index.reshape(shape), self._places.by_update)

    def batches(self, block: Block, row: Array, update: Array) -> Batches:
        """The examples that a row of the indices names."""
        x, y, indices = block
        index = indices[row]
        place = self._places.by_example
        x, y = (jax.lax.with_sharding_constraint(d[index], place) for d in (x, y))
        return Batches(_steps(update, self._batches), x, y, index)


def _steps(update: Array, batches: int) -> Array:
    """Numbers of the batches of an update."""
    return update[None] * np.uint32(batches) + np.arange(batches, dtype=np.uint32)
