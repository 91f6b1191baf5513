"""Processes of the local engine that are only played: a random number says what they do next.

What they would read and write is followed slot by slot. Time passes when the transport listens.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from distvi.aggregation import (
    check_liveness,
    scheme_named,
)
from distvi.engines.coordinator.membership import WorkerRecord
from distvi.engines.coordinator.messages import (
    Abandon,
    Abandoned,
    Applied,
    Apply,
    Begin,
    Compute,
    Computed,
    Message,
    Ready,
    Save,
    Saved,
)
from distvi.engines.coordinator.requests import Versions
from distvi.engines.coordinator.status import StatusTracker
from distvi.engines.coordinator.transport import FleetTransport
from distvi.engines.local import Limits
from distvi.engines.local.fleet import Fleet, Process, Received
from distvi.engines.status import ServerStatus, WorkerStatus
from distvi.protocol import (
    Entry,
    Rules,
    State,
    drive,
)

UPDATES = 20
LIMITS = Limits(start_s=50.0, worker_timeout_s=5.0, max_restarts=10**6)
OPTIONS: Mapping[str, dict[str, Any]] = {
    "async": {"in_flight": 2},
    "backup": {"n": 2},
    "backup-gradients": {"n": 3},
    "ssp": {"bound": 1},
    "softsync": {"n": 1},
    "k-sync": {"k": 1},
    "k-batch-sync": {"k": 2},
    "k-async": {"k": 2},
    "k-batch-async": {"k": 3},
    "drop-stale": {"bound": 2, "in_flight": 2},
}


class FakeProcess(Process):
    """A process that does what its random number says."""

    def __init__(self, world: "World", role: str, number: int, start: int) -> None:
        self.world, self.role, self.number, self.start = world, role, number, start
        self.process: Any = SimpleNamespace(pid=1000 * start + number + 1)
        self.log, self.started_s, self.is_ready = None, world.now_s, False
        self.inbox: deque[Message] = deque()
        self.outbox: deque[Message] = deque()
        self.waiting: deque[Compute] = deque()
        self.doing: Compute | Apply | Save | None = None
        self.version: int | None = None  # a server's, in memory of its own
        self.has_begun, self.is_alive, self.is_stopped = False, True, False
        self.is_killed = True

    @property
    def was_killed(self) -> bool:
        return self.is_killed

    def send(self, message: Message) -> None:
        self.inbox.append(message)
        assert len(self.inbox) < 20, "a stopped process is told more and more"

    def how_it_ended(self) -> str:
        return f"{self.name} was killed"

    def step(self) -> None:
        """Be ready, begin something, or end what was begun."""
        if not self.has_begun:
            self.has_begun = True
            self.outbox.append(Ready(0.1))
        elif self.doing is None:
            self.begin()
        else:
            self.end()

    def begin(self) -> None:
        world = self.world
        while self.inbox:
            message = self.inbox.popleft()
            if isinstance(message, Abandon):
                for request in [each for each in self.waiting if each.request == message.request]:
                    self.waiting.remove(request)
                    self.outbox.append(Abandoned(message.request))
            elif isinstance(message, Compute):
                self.waiting.append(message)
            elif isinstance(message, Begin):
                assert self.version is None
                assert world.parameters[message.parameters, self.number] == message.version
                assert world.states[message.state, self.number] == message.version
                self.version = message.version
            else:
                assert isinstance(message, Apply | Save)
                self.doing = message
                if isinstance(message, Save):
                    world.states[message.state, self.number] = -1  # half-written
                elif message.target is not None:
                    place = message.target, self.number
                    if world.parameters.get(place) != message.version:  # else: the same bits again
                        world.parameters[place] = -1
                break
        if self.waiting and min(world.published) >= self.waiting[0].version:
            self.doing = self.waiting.popleft()
            world.check_read(self.doing)
            world.gradients[self.doing.gradient] = -1

    def end(self) -> None:
        done, self.doing = self.doing, None
        world = self.world
        if isinstance(done, Compute):
            world.check_read(done)
            assert world.gradients[done.gradient] == -1
            world.gradients[done.gradient] = done.request
            is_finite = world.random.random() > 0.05
            self.outbox.append(Computed(done.request, 1.0, is_finite, 0.0, 0.0, 0.0, 0.0))
        elif isinstance(done, Apply):
            assert self.version == done.version - 1
            self.version = done.version
            requests = tuple(world.gradients[slot] for slot in done.gradients)
            assert world.applied.setdefault((done.version, self.number), requests) == requests
            if done.target is not None:
                world.parameters[done.target, self.number] = done.version
                world.published[self.number] = done.version
                if world.random.random() < world.faults / 3:  # killed before it could tell
                    self.is_alive = False
                else:
                    self.outbox.append(Applied(done.version, 0.0, 0.0))
        elif isinstance(done, Save):
            assert self.version == done.version
            world.states[done.state, self.number] = done.version
            self.outbox.append(Saved(done.version, 0.0, 0.0))


class FakeFleet(Fleet):
    """Processes without any process."""

    world: "World"

    def receive(self, timeout_s: float) -> Iterator[Received]:
        self.world.move()
        processes: list[Any] = list(self.processes.values())
        self.world.random.shuffle(processes)
        heard = 0
        for process in processes:
            if self.processes.get((process.role, process.number)) is not process:
                continue
            if process.outbox and self.world.random.random() < 0.7:
                heard += 1
                yield Received(process, process.outbox.popleft())
            elif not process.outbox and not process.is_alive:
                heard += 1
                self.forget(process)
                yield Received(process, None)
        if not heard:
            self.world.now_s += max(timeout_s, 0.0)

    def forget(self, process: Any) -> None:
        if self.processes.get((process.role, process.number)) is process:
            del self.processes[process.role, process.number]
        process.is_alive = False


class World:
    """A run: its clock, its faults, and what lies in the slots."""

    def __init__(self, name: str, seed: int, workers: int, servers: int, limits: Limits) -> None:
        self.random = random.Random(f"{name} {seed}")
        self.now_s, self.servers, self.faults = 100.0, servers, 0.1
        self.published = [0] * servers
        self.meddle: Callable[[], None] = lambda: None
        self.parameters: dict[tuple[int, int], int] = {}
        self.states: dict[tuple[int, int], int] = {}
        self.gradients: dict[int, int] = {}
        self.bases: dict[int, int] = {}
        self.applied: dict[tuple[int, int], tuple[int, ...]] = {}
        self.starts = 0
        scheme = scheme_named(name, workers, OPTIONS.get(name, {}))
        self.rules = Rules(scheme, updates=UPDATES, worker_timeout_s=3.0)
        self.lot = check_liveness(scheme, workers)
        self.journal: list[tuple[Entry, State, tuple[Any, ...]]] = []
        fleet = FakeFleet()
        fleet.world = self
        self.transport = FleetTransport(
            fleet=fleet,
            start=self.start,
            limits=limits,
            versions=Versions(0),
            members=[WorkerRecord() for _ in range(workers)],
            batch_size=4,
            servers=servers,
            most_kept=5,
            tracker=StatusTracker(
                [WorkerStatus(number) for number in range(workers)],
                [ServerStatus(number, 4) for number in range(servers)],
            ),
        )
        for server in range(servers):
            self.parameters[self.transport.versions.slot, server] = 0
            self.states[0, server] = 0
            self.start("server", server)
        for worker in range(workers):
            self.start("worker", worker)

    def start(self, role: str, number: int) -> Process:
        assert (role, number) not in self.transport.fleet.processes, "it lives, and is started"
        process = FakeProcess(self, role, number, self.starts)
        self.starts += 1
        self.transport.fleet.processes[role, number] = process
        return process

    def check_read(self, request: Compute) -> None:
        """A worker reads the version that it was pointed to, all of it."""
        base = self.bases[request.request]
        assert base == request.version
        assert all(self.parameters[request.parameters, s] == base for s in range(self.servers))

    def move(self) -> None:
        """A few of the processes get on, or meet a fault."""
        self.meddle()
        for request in self.transport.requests._by_number.values():
            self.bases[request.number] = request.command.version
        processes: list[Any] = list(self.transport.fleet.processes.values())
        for _ in range(self.random.randrange(4)):
            process = self.random.choice(processes)
            self.now_s += self.random.expovariate(50.0)
            if process.is_alive and self.random.random() < self.faults:
                process.is_alive = self.random.random() < 0.7
                process.is_stopped = self.random.random() < 0.7
            elif process.is_alive and self.random.random() < self.faults / 5:
                process.is_stopped = False
            elif process.is_alive and not process.is_stopped:
                process.step()

    def mend(self) -> None:
        """No more faults from now on."""
        self.faults = 0.0
        processes: list[Any] = list(self.transport.fleet.processes.values())
        for process in processes:
            process.is_stopped = False

    def observe(self, now_s: float, event: Any, state: State, commands: Any) -> None:
        self.journal.append((Entry(now_s, event), state, commands))

    def advance(self, state: State, until: int) -> State:
        """As `distvi.engines.local.LocalEngine.advance`."""
        moves = [0]

        def is_time(state: State) -> bool:
            moves[0] += 1
            assert moves[0] < 20_000, "the run does not get on"
            if moves[0] == 400:
                self.mend()
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
