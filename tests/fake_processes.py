"""Played processes that compute nothing: what they would read and write is followed slot by slot.

Every slot holds marks, whole numbers that say whose content it is; -1 is half-written.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from distvi.aggregation import scheme_named
from distvi.engines.coordinator.clock import Clock, MachineClock
from distvi.engines.coordinator.fleet import Post
from distvi.engines.coordinator.membership import WorkerRecord
from distvi.engines.coordinator.messages import (
    Applied,
    Apply,
    Begin,
    Compute,
    Computed,
    Message,
    Save,
    Saved,
)
from distvi.engines.coordinator.requests import Memories, Requests, Versions
from distvi.engines.coordinator.slots import ArraySlots, Numbers, Slots
from distvi.engines.coordinator.status import StatusTracker
from distvi.engines.coordinator.transport import FleetTransport, Limits
from distvi.engines.statistics import Traffic
from distvi.engines.status import ServerStatus, WorkerStatus
from distvi.protocol import (
    Entry,
    GradientArrived,
    Rules,
    State,
    Ticket,
    drive,
)
from distvi.testing.fleet import ROUGH, Actor, PlayedFleet, PlayedProcess, Task

UPDATES = 20
HALF_WRITTEN = -1
LIMITS = Limits(start_s=50.0, worker_timeout_s=5.0, max_restarts=10**6)
OPTIONS: Mapping[str, dict[str, Any]] = {
    "async": {"in_flight": 2},
    "backup": {"n": 2},
    "dynamic-backup": {"noise": 1.0},
    "backup-gradients": {"n": 3},
    "ssp": {"bound": 1},
    "softsync": {"n": 1},
    "k-sync": {"k": 1},
    "k-batch-sync": {"k": 2},
    "k-async": {"k": 2},
    "k-batch-async": {"k": 3},
    "drop-stale": {"bound": 2, "in_flight": 2},
}


def marks(slots: Slots, slot: int) -> np.ndarray:
    """What a slot holds."""
    return slots.bytes(slot).view(np.int64)


def _is_awaited(ticket: Ticket, state: State) -> bool:
    """Whether the protocol waits for a gradient."""
    member = state.members.get(ticket.worker)
    if member is None or member.incarnation != ticket.incarnation:
        return False
    return any(request.sequence == ticket.sequence for request in member.requests)


class FollowedWorker(Actor):
    """A worker whose payload is the number of its request, and its memory, too."""

    def __init__(self, world: "World", number: int) -> None:
        self._world, self._number = world, number

    def take(self, message: Begin) -> None:
        raise AssertionError("only servers are told where to begin")

    def begin(self, task: Task) -> None:
        assert isinstance(task, Compute)
        self._world.check_read(task)
        for slot in self._written(task):
            assert slot[0] != task.request, "written before"
            slot[0] = HALF_WRITTEN

    def end(self, task: Task) -> Computed:
        assert isinstance(task, Compute)
        world = self._world
        world.check_read(task)
        is_finite = world.fleet.random.random() > 0.05
        payload, *memory = self._written(task)
        assert payload[0] == HALF_WRITTEN
        payload[0] = task.request
        if memory and is_finite:
            assert memory[0][0] == HALF_WRITTEN
            memory[0][0] = task.request
        return Computed(task.request, 1.0, is_finite, 0.0, 0.0, 0.0, 0.0)

    def _written(self, task: Compute) -> list[np.ndarray]:
        numbers = self._world.numbers
        memory = [marks(numbers.memories, task.memory)] if task.memory >= 0 else []
        assert bool(memory) == (self._world.memories is not None)
        return [marks(numbers.payloads, task.payload), *memory]


class FollowedServer(Actor):
    """A server whose part is the number of a version, and its state, too."""

    def __init__(self, world: "World", number: int) -> None:
        self._world, self._number = world, number
        self.version: int | None = None  # in memory of its own

    def take(self, message: Begin) -> None:
        numbers = self._world.numbers
        assert self.version is None
        assert marks(numbers.parameters, message.parameters)[self._number] == message.version
        assert marks(numbers.states, message.state)[self._number] == message.version
        self.version = message.version

    def begin(self, task: Task) -> None:
        numbers = self._world.numbers
        if isinstance(task, Save):
            marks(numbers.states, task.state)[self._number] = HALF_WRITTEN
            return
        assert isinstance(task, Apply)
        self._check_bases(task)
        if task.target is not None:
            target = marks(numbers.parameters, task.target)
            if target[self._number] != task.version:  # else: the same bits again
                target[self._number] = HALF_WRITTEN

    def end(self, task: Task) -> Applied | Saved | None:
        world = self._world
        if isinstance(task, Save):
            assert self.version == task.version
            marks(world.numbers.states, task.state)[self._number] = task.version
            return Saved(task.version, 0.0, 0.0)
        assert isinstance(task, Apply)
        assert self.version == task.version - 1
        self._check_bases(task)
        self.version = task.version
        requests = tuple(int(marks(world.numbers.payloads, slot)[0]) for slot in task.payloads)
        assert world.applied.setdefault((task.version, self._number), requests) == requests
        if task.target is None:
            return None
        marks(world.numbers.parameters, task.target)[self._number] = task.version
        world.numbers.published_versions[self._number] = task.version
        return Applied(task.version, 0.0, 0.0)

    def _check_bases(self, task: Apply) -> None:
        """What each payload was computed on is still there, if the rule needs it."""
        numbers = self._world.numbers
        assert len(task.bases) == (len(task.payloads) if self._world.keeps_base else 0)
        for payload, base in zip(task.payloads, task.bases, strict=bool(task.bases)):
            request = int(marks(numbers.payloads, payload)[0])
            version = self._world.tickets[request].base
            assert marks(numbers.parameters, base)[self._number] == version


class World:
    """A run: its fleet, its journal, and what was heard of each worker."""

    def __init__(
        self,
        name: str,
        seed: int,
        workers: int,
        servers: int,
        limits: Limits = LIMITS,
        *,
        keeps_base: bool = False,
        has_memory: bool = False,
    ) -> None:
        self.servers, self.keeps_base = servers, keeps_base
        sizes = (8 * servers, 8, 8 * servers, 8, 8 * servers)
        self.numbers = Numbers(*(ArraySlots(size) for size in sizes))
        self.fleet = PlayedFleet(self.cast, self.numbers, f"{name} {seed}")
        self.fleet.odds = {"worker": ROUGH, "server": ROUGH}
        self.fleet.observe, self.fleet.meddle = self.hear, self.look
        self.memories = Memories() if has_memory else None
        self.tickets: dict[int, Ticket] = {}
        self.applied: dict[tuple[int, int], tuple[int, ...]] = {}
        self.remembered: dict[int, list[int]] = {worker: [] for worker in range(workers)}
        self.lost = 0
        self.meddle: Callable[[], None] = lambda: None
        scheme = scheme_named(name, workers, OPTIONS.get(name, {}))
        self.rules = Rules(scheme, updates=UPDATES, worker_timeout_s=3.0)
        self.journal: list[tuple[Entry, State, tuple[Any, ...]]] = []
        self.transport = self._transport(workers, limits)
        for server in range(servers):
            self.transport.start("server", server)
        for worker in range(workers):
            self.transport.start("worker", worker)

    def _transport(self, workers: int, limits: Limits) -> FleetTransport:
        versions, share = Versions(0), (4,) * self.servers
        return FleetTransport(
            fleet=self.fleet,
            limits=limits,
            versions=versions,
            members=[WorkerRecord() for _ in range(workers)],
            requests=Requests(versions, keeps_base=self.keeps_base, memories=self.memories),
            request_size=4,
            servers=self.servers,
            most_kept=5,
            tracker=StatusTracker(
                [WorkerStatus(number) for number in range(workers)],
                [ServerStatus(number, 4) for number in range(self.servers)],
                Traffic(share, share),
            ),
            clock=Clock(self.fleet.now_s),
        )

    def cast(self, post: Post, clock: MachineClock) -> Actor:
        kind = FollowedWorker if post.role == "worker" else FollowedServer
        return kind(self, post.number)

    def hear(self, process: PlayedProcess, message: Message | None) -> None:
        """Follow what each worker remembers, as far as the main process has heard of it."""
        if isinstance(message, Computed) and message.is_finite:
            self.remembered[process.number].append(message.request)
        elif message is None and process.role == "worker":
            self.forget(process.number)

    def forget(self, worker: int) -> None:
        self.lost += bool(self.remembered[worker])
        self.remembered[worker] = []

    def look(self) -> None:
        """Between any two messages: what a checkpoint would take is whole, and its worker's."""
        self.meddle()
        requests = self.transport.requests
        self.tickets |= {each.number: each.ticket for each in requests._by_number.values()}
        if self.memories is None:
            return
        assert self.memories.lost <= self.lost
        for worker, known in self.remembered.items():
            if ("worker", worker) in self.fleet.processes:
                slot = self.memories.slot(worker)
                assert slot < 0 or marks(self.numbers.memories, slot)[0] in known

    def check_read(self, request: Compute) -> None:
        """A worker reads the version that it was pointed to, all of it."""
        assert self.tickets[request.request].base == request.version
        assert (marks(self.numbers.parameters, request.parameters) == request.version).all()

    def check_memories(self, state: State) -> None:
        """A checkpoint takes what each remembered after its last answer that is decided."""
        assert self.memories is not None
        assert self.memories.lost == self.lost
        pending = {
            event.ticket
            for event in self.transport._events
            if isinstance(event, GradientArrived) and _is_awaited(event.ticket, state)
        }
        held = {ticket for tickets in state.held.values() for ticket in tickets}
        for worker, known in self.remembered.items():
            decided = [r for r in known if self.tickets[r] not in held | pending]
            slot = self.memories.slot(worker)
            found = int(marks(self.numbers.memories, slot)[0]) if slot >= 0 else None
            assert found == (decided[-1] if decided else None)

    def observe(self, now_s: float, event: Any, state: State, commands: Any) -> None:
        self.journal.append((Entry(now_s, event), state, commands))

    def advance(self, state: State, until: int) -> State:
        """As `distvi.engines.coordinator.engine.FleetEngine.advance`."""
        moves = [0]

        def is_time(state: State) -> bool:
            moves[0] += 1
            assert moves[0] < 20_000, "the run does not get on"
            if moves[0] == 400:
                self.fleet.mend()
            return state.version >= until

        self.transport.begin()
        self.transport.go_on()
        try:
            state = drive(
                self.rules, self.transport, state=state, observers=(self.observe,), pause=is_time
            )
            self.transport.settle()
        finally:
            self.transport.pause()
        return state
