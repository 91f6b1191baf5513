"""A server process, or its backup: keeps payloads and versions, and makes the updates.

A *backup* has what a server that starts anew needs: every payload, handed on by its primary before
it counts as arrived, and the last version that was saved, with the state. So it costs no
computation, and of the network one push more. When it is promoted it begins at that version and
makes the updates since again, as `distvi.engines.coordinator.servers` says.
"""

from typing import NamedTuple

import zmq

from distvi.algorithms.base import Keep
from distvi.engines.coordinator.messages import Apply, Begin, Message, Ready, Save
from distvi.engines.coordinator.server import ShardServer
from distvi.engines.coordinator.slots import extents
from distvi.engines.ray.messages import (
    Arrived,
    Copied,
    Fetch,
    Follow,
    Gone,
    Network,
    Part,
    Promote,
    Pull,
    Push,
    Put,
)
from distvi.engines.ray.sockets import Frames, read, receive, receive_from, send, skip
from distvi.engines.ray.station import Station

PARAMETERS, STATES, PAYLOADS, MEMORIES = "parameters", "states", "payloads", "memories"
"""Kinds of slots, as `distvi.engines.coordinator.slots.Numbers` has them."""


class Puller(NamedTuple):
    """A worker that waits for a version."""

    name: str
    wanted: Pull


class ServerProcess:
    """A server.

    Args:
        station: Its place in the run.
        data: Where workers, and a primary, reach it.
    """

    def __init__(self, station: Station, data: "zmq.Socket[bytes]") -> None:
        self._station, self._data = station, data
        self._control = station.control
        assignment, slots = station.assignment, station.slots
        self._shard, self._is_primary = assignment.number, not assignment.is_backup
        self._server = ShardServer(
            self._shard, slots, station.numbers, station.built, station.clock
        )
        self._arrays = {
            PARAMETERS: slots.parts[self._shard],
            STATES: slots.states[self._shard],
            PAYLOADS: slots.sources[self._shard],
        }
        # Of each slot what it has: a version, a version, the number of a request.
        self._tags: dict[str, dict[int, int]] = {PARAMETERS: {}, STATES: {}, PAYLOADS: {}}
        self._newest = -1
        self._pullers: list[Puller] = []
        self._backup: zmq.Socket[bytes] | None = None
        self._keeps_base = slots.shards.rule.keeps is Keep.BASE

    def run(self) -> None:
        """Do what is asked for ever."""
        compile_time_s = self._server.compile(self._station.assignment.contributions)
        self._station.tell(Ready(compile_time_s))
        poller = zmq.Poller()
        for socket in (self._control, self._data):
            poller.register(socket, zmq.POLLIN)
        while True:
            came = dict(poller.poll())
            if self._control in came:
                self._told(receive(self._control))
            if self._data in came:
                self._asked(*receive_from(self._data))

    def _frames(self, kind: str, slot: int) -> Frames:
        return extents(self._arrays[kind], getattr(self._station.numbers, kind).bytes(slot))

    # From the coordinator

    def _told(self, message: Message | Network) -> None:
        if isinstance(message, Begin | Apply | Save):
            self._update(message)
        elif isinstance(message, Put):
            self._station.put(message, self._frames(message.kind, message.slot))
            self._tags[message.kind][message.slot] = message.tag
        elif isinstance(message, Fetch):
            self._station.fetched(message, self._frames(message.kind, message.slot))
        elif isinstance(message, Follow):
            self._follow(message.address)
        elif isinstance(message, Promote):
            self._is_primary = True
            self._station.tell(Ready(0.0))

    def _update(self, message: Begin | Apply | Save) -> None:
        answer = self._server.handle(message)
        if isinstance(message, Begin):
            self._newest = message.version
        elif isinstance(message, Apply):
            self._newest = message.version
            if message.target is not None:
                self._tags[PARAMETERS][message.target] = message.version
                if self._keeps_base:
                    self._hand_on(PARAMETERS, message.target)
        else:
            self._tags[STATES][message.state] = message.version
            versions = self._tags[PARAMETERS].items()
            self._hand_on(PARAMETERS, next(s for s, v in versions if v == message.version))
            self._hand_on(STATES, message.state)
            self._station.tell(Arrived(0, message.version, self._backup is not None))
        if answer is not None:
            self._station.tell(answer)
        pullers, self._pullers = self._pullers, []
        for puller in pullers:
            self._give(puller)

    # For the backup

    def _hand_on(self, kind: str, slot: int) -> None:
        if self._backup is not None:
            tag = self._tags[kind][slot]
            message = Push(slot, tag) if kind == PAYLOADS else Put(kind, slot, tag)
            send(self._backup, message, self._frames(kind, slot))

    def _follow(self, address: str) -> None:
        """Have another backup, or none: it gets all that is here, and from now on all that comes.

        States come last: with one that is new it says that a save has arrived.
        """
        if self._backup is not None:
            self._backup.close(linger=0)
            self._backup = None
        if not address:
            return
        name = self._station.assignment.name
        self._backup = self._station.sockets.connected(address, name)
        for kind in (PARAMETERS, PAYLOADS, STATES):
            for slot in self._tags[kind]:
                self._hand_on(kind, slot)
        send(self._backup, Copied())

    # From workers, and from the primary

    def _asked(self, name: str, message: Message | Network) -> None:
        if isinstance(message, Pull):
            self._give(Puller(name, message))
        elif isinstance(message, Push):
            self._take(message)
        elif isinstance(message, Put) and not self._is_primary:
            read(self._data, self._frames(message.kind, message.slot))
            self._tags[message.kind][message.slot] = message.tag
            if message.kind == STATES:
                self._station.tell(Arrived(0, message.tag, is_forwarded=False))
        elif isinstance(message, Copied):
            self._station.tell(message)
        else:  # from a primary that has been given up
            skip(self._data)

    def _give(self, puller: Puller) -> None:
        """Send a worker its version, or keep in mind that it waits."""
        slot, version = puller.wanted
        if self._tags[PARAMETERS].get(slot) == version and self._newest >= version:
            part = Part(self._shard, slot, version)
            send(self._data, part, self._frames(PARAMETERS, slot), to=puller.name)
        elif self._newest > version:
            send(self._data, Gone(self._shard, slot, version), to=puller.name)
        else:
            self._pullers.append(puller)

    def _take(self, message: Push) -> None:
        """Take a payload, unless its slot has it or a newer one."""
        is_new = message.request > self._tags[PAYLOADS].get(message.slot, 0)
        if is_new:
            read(self._data, self._frames(PAYLOADS, message.slot))
            self._tags[PAYLOADS][message.slot] = message.request
            self._hand_on(PAYLOADS, message.slot)
        else:
            skip(self._data)
        is_forwarded = is_new and self._backup is not None
        self._station.tell(Arrived(message.request, 0, is_forwarded))
