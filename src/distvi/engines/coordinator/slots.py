"""Where numbers lie that workers and servers hand each other: slots, and the arrays in them.

Messages name slots, never numbers. There are slots of parameters (a version each), of payloads, of
servers' states and of workers' memories. Whether they are shared memory or something else is the
fleet's affair.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int64, UInt8

from distvi.algorithms.base import WorkerRule
from distvi.errors import RunFailed
from distvi.parameters import Shard, Shards

CAPACITY = 4096
"""Slots of a kind that there can be."""

_ALIGNMENT = 64  # of each array in a slot: a line of the cache

PublishedVersions = Int64[np.ndarray, " servers"]
"""The newest version of which each server's part is complete."""


@runtime_checkable
class Slots(Protocol):
    """Places of equal size, by number from 0 on."""

    def bytes(self, slot: int) -> UInt8[np.ndarray, " size"]:
        """The content of one, to be read and written."""
        ...


class ArraySlots:
    """`Slots` of arrays in this process.

    Args:
        slot_bytes: Size of one.
    """

    def __init__(self, slot_bytes: int) -> None:
        self.slot_bytes = slot_bytes
        self._arrays: dict[int, np.ndarray] = {}

    def bytes(self, slot: int) -> np.ndarray:
        """The content of a slot, byte by byte; at a line of the cache, where XLA reads it."""
        if slot not in self._arrays:
            room = np.zeros(self.slot_bytes + 64, np.uint8)
            start = -room.ctypes.data % 64
            self._arrays[slot] = room[start : start + self.slot_bytes]
        return self._arrays[slot]

    @property
    def touched(self) -> list[int]:
        """Those that have ever been asked for."""
        return list(self._arrays)


class Numbers(NamedTuple):
    """All numbers that the processes of a run share.

    Attributes:
        parameters: Flat vectors, a version each.
        payloads: What workers send.
        states: Of the server rule, on all servers.
        memories: Of the workers.
        published: In slot 0 the newest version of which each server's part is complete.
    """

    parameters: Slots
    payloads: Slots
    states: Slots
    memories: Slots
    published: Slots

    @property
    def published_versions(self) -> PublishedVersions:
        """By server."""
        return self.published.bytes(0).view(np.int64)


class FreeSlots:
    """Numbers of slots that nobody uses, the lowest first: few slots are ever written.

    Args:
        what: They hold, for messages.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._used: set[int] = set()
        self._returned: list[int] = []

    def take(self) -> int:
        """A slot that nobody uses.

        Raises:
            RunFailed: there is none.
        """
        slot = self._returned.pop() if self._returned else len(self._used)
        if slot >= CAPACITY:
            raise RunFailed(f"more than {CAPACITY} {self._what} are in use at once")
        self._used.add(slot)
        return slot

    def give_back(self, slot: int) -> None:
        """Somebody has no more use for a slot."""
        self._used.remove(slot)
        self._returned.append(slot)

    @property
    def used(self) -> int:
        """Slots in use."""
        return len(self._used)


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


def views(arrays: Sequence[ArrayAt], slot: np.ndarray) -> list[np.ndarray]:
    """Arrays in a slot, given as bytes."""
    return [array.view(slot) for array in arrays]


def extents(arrays: Sequence[ArrayAt], slot: np.ndarray) -> list[np.ndarray]:
    """The bytes of arrays in a slot: as few pieces as there can be without what lies between."""
    runs: list[list[int]] = []
    for array in sorted(arrays, key=lambda each: each.start):
        if array.start == array.stop:
            continue
        if runs and runs[-1][1] == array.start:
            runs[-1][1] = array.stop
        else:
            runs.append([array.start, array.stop])
    return [slot[start:stop] for start, stop in runs]


@dataclass(frozen=True, eq=False)
class SlotMap:
    """Where everything lies in the slots of a run; the same in every process.

    Attributes:
        shards: The servers.
        rule: Of the workers.
        targets: Where a worker puts the arrays of a payload.
        sources: Where each server finds its message, leaf by leaf.
        parts: Where each server's part of the parameters lies, leaf by leaf.
        states: Where each server's state lies, leaf by leaf.
        memory: Where a worker's memory lies, leaf by leaf.
    """

    shards: Shards
    rule: WorkerRule
    targets: list[ArrayAt]
    sources: list[list[ArrayAt]]
    parts: list[list[ArrayAt]]
    states: list[list[ArrayAt]]
    memory: list[ArrayAt]

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """Bytes of a slot of each kind in `Numbers`."""
        flat = self.shards.layout.nbytes
        states = [array for own in self.states for array in own]
        sizes = (
            max((a.stop for a in arrays), default=0)
            for arrays in (self.targets, states, self.memory)
        )
        payload, state, memory = sizes
        return flat, payload, state, memory, 8 * len(self.shards.each)

    @property
    def has_memory(self) -> bool:
        """Whether anything stays with a worker."""
        return bool(self.memory)


def slot_map(shards: Shards, rule: WorkerRule) -> SlotMap:
    """Where everything lies, for servers and what workers make of requests."""
    layout = shards.layout
    flat = jax.ShapeDtypeStruct((layout.size,), jnp.float32)
    params = jax.eval_shape(layout.unflatten, flat)
    parts = [_part(shard) for shard in shards.each]
    if rule.wire is None:
        float32 = np.dtype(np.float32)
        targets = [ArrayAt(4 * each.start, each.shape, float32) for each in layout.tensors]
        sources = parts
    else:
        sources = _in_a_row(shards.messages_like(rule.wire))
        targets = [array for own in sources for array in own]
    states = _in_a_row(jax.eval_shape(shards.init, flat))
    (memory,) = _in_a_row([jax.eval_shape(rule.init, params)])
    return SlotMap(shards, rule, targets, sources, parts, states, memory)


def _part(shard: Shard) -> list[ArrayAt]:
    """Where the leaves of ``shard.take(flat)`` lie in the flat vector of a slot."""
    flat = jax.ShapeDtypeStruct((shard.layout.size,), jnp.float32)
    leaves = jax.tree.leaves(jax.eval_shape(shard.take, flat))
    starts = zip(shard.starts, leaves, strict=True)
    return [ArrayAt(4 * start, leaf.shape, np.dtype(np.float32)) for start, leaf in starts]


def _in_a_row(trees: Sequence[Any]) -> list[list[ArrayAt]]:
    """The leaves of trees, one after the other, each at the beginning of a line of the cache."""
    found: list[list[ArrayAt]] = []
    end = 0
    for tree in trees:
        own = []
        for leaf in jax.tree.leaves(tree):
            own.append(ArrayAt(end, leaf.shape, np.dtype(leaf.dtype)))
            end = -(-own[-1].stop // _ALIGNMENT) * _ALIGNMENT
        found.append(own)
    return found
