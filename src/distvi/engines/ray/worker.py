"""A worker process: pulls what it starts from, answers requests, pushes payloads.

Sending and receiving are ZeroMQ's own threads' affair: what has been pushed is on its way while the
next request is computed, and what has been pulled has come meanwhile.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import zmq

from distvi.engines.coordinator.messages import Abandon, Abandoned, Compute, Message, Ready
from distvi.engines.coordinator.slots import extents
from distvi.engines.coordinator.worker import Worker
from distvi.engines.ray.messages import Fetch, Gone, Network, Part, Pull, Push, Put, Servers
from distvi.engines.ray.sockets import Frames, read, receive, send, skip
from distvi.engines.ray.station import Station
from distvi.system.prefetch import Prefetch

_REQUESTS = 1 << 32  # more than any run has
_REMEMBERED = 64  # pushes that a server's end could have lost: more than a worker has requests


class Pushed(NamedTuple):
    """A payload that was pushed."""

    request: int
    slot: int


class WorkerProcess:
    """A worker.

    Args:
        station: Its place in the run.
    """

    def __init__(self, station: Station) -> None:
        self._station = station
        assignment, shards = station.assignment, station.slots.shards
        self._control = station.control
        self._addresses = [""] * len(shards.each)
        self._servers: dict[int, zmq.Socket[bytes]] = {}
        self._poller = zmq.Poller()
        self._poller.register(self._control, zmq.POLLIN)
        self._waiting: deque[Compute] = deque()
        self._missing: dict[int, set[int]] = {}
        self._pushed: deque[Pushed] = deque(maxlen=_REMEMBERED)
        self._worker = Worker(
            assignment.number,
            assignment.workers,
            station.slots,
            station.numbers,
            station.built,
            assignment.memory,
            station.clock,
        )

    def run(self) -> None:
        """Answer requests for ever."""
        worker = self._worker
        compile_time_s = worker.compile()
        with Prefetch(worker.batch, self._station.assignment.first_request, _REQUESTS) as batches:
            self._station.tell(Ready(compile_time_s))
            for request in self._requests():
                received_s = self._station.clock()
                batch = next(batches)
                while batch.turn < request.turn:  # one of a request that was abandoned
                    batch = next(batches)
                computed = worker.answer(request, batch, received_s)
                if computed.is_finite:
                    pushed = Pushed(request.request, request.payload)
                    self._pushed.append(pushed)
                    for shard in range(len(self._addresses)):
                        self._push(shard, pushed)
                self._station.tell(computed)
                worker.pushed()

    def _requests(self) -> Iterator[Compute]:
        """Requests whose parameters are here, without those that are abandoned before."""
        while True:
            is_ready = bool(self._waiting) and not self._missing[self._waiting[0].request]
            came = dict(self._poller.poll(0 if is_ready else None))
            if self._control in came:
                self._told(receive(self._control))
            for shard, socket in list(self._servers.items()):
                if socket in came:
                    self._answered(socket, receive(socket), shard)
            if not came and is_ready:
                request = self._waiting.popleft()
                del self._missing[request.request]
                yield request

    # From the coordinator

    def _told(self, message: Message | Network) -> None:
        station = self._station
        if isinstance(message, Compute):
            self._waiting.append(message)
            self._missing[message.request] = set(range(len(self._addresses)))
            for shard in range(len(self._addresses)):
                self._pull(shard, message)
        elif isinstance(message, Abandon):
            self._abandon([each for each in self._waiting if each.request == message.request])
        elif isinstance(message, Servers):
            for shard, address in enumerate(message.addresses):
                if address != self._addresses[shard]:
                    self._connect(shard, address)
        elif isinstance(message, Put):
            station.put(message, [station.numbers.memories.bytes(message.slot)])
        elif isinstance(message, Fetch):
            station.fetched(message, [station.numbers.memories.bytes(message.slot)])

    def _abandon(self, known: list[Compute]) -> None:
        for request in known:  # of others the answer is on its way
            self._waiting.remove(request)
            del self._missing[request.request]
            self._station.tell(Abandoned(request.request))

    def _connect(self, shard: int, address: str) -> None:
        """A server listens elsewhere: ask again, and push again what may be lost with the old."""
        if (old := self._servers.pop(shard, None)) is not None:
            self._poller.unregister(old)
            old.close(linger=0)
        self._addresses[shard] = address
        if not address:
            return
        socket = self._station.sockets.connected(address, self._station.assignment.name)
        self._servers[shard] = socket
        self._poller.register(socket, zmq.POLLIN)
        for request in self._waiting:
            if shard in self._missing[request.request]:
                self._pull(shard, request)
        newer = {request.payload for request in self._waiting}
        for pushed in self._pushed:
            if pushed.slot not in newer:
                self._push(shard, pushed)

    # To and from servers

    def _pull(self, shard: int, request: Compute) -> None:
        if shard in self._servers:
            send(self._servers[shard], Pull(request.parameters, request.version))

    def _push(self, shard: int, pushed: Pushed) -> None:
        if shard in self._servers:
            slot = self._station.numbers.payloads.bytes(pushed.slot)
            message = extents(self._station.slots.sources[shard], slot)
            send(self._servers[shard], Push(pushed.slot, pushed.request), message)

    def _answered(
        self, socket: "zmq.Socket[bytes]", message: Message | Network, shard: int
    ) -> None:
        if not isinstance(message, Part | Gone):
            skip(socket)
            return
        wanted = [
            request
            for request in self._waiting
            if (request.parameters, request.version) == (message.slot, message.version)
            and shard in self._missing[request.request]
        ]
        if isinstance(message, Gone):
            self._abandon(wanted)
        elif wanted:
            read(socket, self._part(shard, message.slot))
            for request in wanted:
                self._missing[request.request].discard(shard)
        else:  # of a request that has been abandoned: its slot may have another version
            skip(socket)

    def _part(self, shard: int, slot: int) -> Frames:
        flat = self._station.numbers.parameters.bytes(slot)
        return extents(self._station.slots.parts[shard], flat)
