"""The coordinator's own numbers, where each process has its own: what it sends and fetches."""

from typing import Any, NamedTuple

import zmq

from distvi.engines.coordinator.fleet import Role, Wanted
from distvi.engines.coordinator.slots import ArraySlots, Numbers, SlotMap, extents
from distvi.engines.ray.server import MEMORIES, PARAMETERS, PAYLOADS, STATES
from distvi.engines.ray.sockets import Frames, read


class Holding(NamedTuple):
    """Who has the content of a slot, or its part of it.

    Attributes:
        role: Of that process.
        number: Of that process.
        kind: Of the slot.
        slot: Its number.
    """

    role: Role
    number: int
    kind: str
    slot: int


class Contents:
    """The slots of the coordinator.

    Args:
        numbers: Those.
        slots: Where everything lies in them.
    """

    def __init__(self, numbers: Numbers, slots: SlotMap) -> None:
        self._numbers = numbers
        self._shards = len(slots.shards.each)
        self._arrays = {PARAMETERS: slots.parts, STATES: slots.states, PAYLOADS: slots.sources}

    def touched(self, kind: str) -> list[int]:
        """Slots of a kind that have ever been used."""
        slots: Any = getattr(self._numbers, kind)
        assert isinstance(slots, ArraySlots)
        return slots.touched

    def frames(self, kind: str, slot: int, number: int) -> Frames:
        """What the server, or the worker, of a number has of a slot."""
        content = getattr(self._numbers, kind).bytes(slot)
        if kind in self._arrays:
            return extents(self._arrays[kind][number], content)
        return [content]

    def published(self, shard: int) -> int:
        """The version that a server begins with."""
        return int(self._numbers.published_versions[shard])

    def take(self, socket: "zmq.Socket[bytes]", kind: str, slot: int, number: int) -> None:
        """Read what comes of a slot into its place."""
        read(socket, self.frames(kind, slot, number))

    def holdings(self, wanted: Wanted) -> list[Holding]:
        """Who has what is wanted."""
        kinds = (
            (PARAMETERS, wanted.parameters),
            (STATES, wanted.states),
            (PAYLOADS, wanted.payloads),
        )
        of_servers = [
            Holding("server", shard, kind, slot)
            for kind, slots in kinds
            for slot in slots
            for shard in range(self._shards)
        ]
        of_workers = [
            Holding("worker", worker, MEMORIES, slot) for worker, slot in wanted.memories.items()
        ]
        return [*of_servers, *of_workers]
