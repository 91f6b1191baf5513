"""Where each server's parameters and optimizer state lie in a slot."""

from dataclasses import dataclass
from math import prod
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from distvi.engines.base import Problem
from distvi.engines.local.memory import Slots
from distvi.parameters import Layout, Shard, Shards, make_shards, place

_ALIGNMENT = 64  # of each array in a slot: a line of the cache


@runtime_checkable
class Described(Protocol):
    """What ``parts_of`` needs to know of a run."""

    @property
    def placement(self) -> str: ...

    @property
    def servers(self) -> int: ...


def parts_of(problem: Problem, layout: Layout, described: Described) -> Shards:
    """The servers' parts, the same in every process.

    Raises:
        InputError: see `distvi.parameters.place` and `distvi.parameters.make_shards`.
    """
    placement = place(described.placement, layout.sizes, described.servers)
    return make_shards(layout, placement, problem.optimizer, problem.freeze_until)


class Memory(NamedTuple):
    """The numbers that the processes of a run share."""

    parameters: Slots
    gradients: Slots
    states: Slots
    published: Slots


def memory_of(shards: Shards, *descriptors: int) -> Memory:
    """New memory for a run's numbers, or that of another process by its descriptors."""
    flat, state, published = 4 * shards.layout.size, state_pieces(shards)[1], 8 * len(shards.each)
    sizes = (flat, flat, state, published)
    given = descriptors or (None,) * len(sizes)
    return Memory(*(Slots(size, one) for size, one in zip(sizes, given, strict=True)))


@dataclass(frozen=True, eq=False)
class ArrayAt:
    """An array in a slot.

    Attributes:
        start: Its first byte.
        shape: Its shape, row-major.
        dtype: Its type.
    """

    start: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def stop(self) -> int:
        """The byte after its last."""
        return self.start + prod(self.shape) * self.dtype.itemsize

    def view(self, slot: np.ndarray) -> np.ndarray:
        """The array in a slot, given as bytes."""
        return slot[self.start : self.stop].view(self.dtype).reshape(self.shape)


def parameter_pieces(shard: Shard) -> list[ArrayAt]:
    """Where the leaves of ``shard.take(flat)`` lie in the flat vector of a slot."""
    flat = jax.ShapeDtypeStruct((shard.layout.size,), jnp.float32)
    leaves = jax.tree.leaves(jax.eval_shape(shard.take, flat))
    starts = zip(shard.starts, leaves, strict=True)
    return [ArrayAt(4 * start, leaf.shape, np.dtype(np.float32)) for start, leaf in starts]


def state_pieces(shards: Shards) -> tuple[list[list[ArrayAt]], int]:
    """Where each server's leaves of the optimizer's state lie in a slot, and the slot's bytes."""
    flat = jax.ShapeDtypeStruct((shards.layout.size,), jnp.float32)
    pieces: list[list[ArrayAt]] = []
    end = 0
    for state in jax.eval_shape(shards.init, flat):
        own = []
        for leaf in jax.tree.leaves(state):
            own.append(ArrayAt(end, leaf.shape, np.dtype(leaf.dtype)))
            end = -(-own[-1].stop // _ALIGNMENT) * _ALIGNMENT
        pieces.append(own)
    return pieces, end
