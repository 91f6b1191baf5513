"""Processes of the local engine that are only played: a random number says what they do next.

What they would read and write is followed slot by slot. Time passes when the transport listens.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from distvi.aggregation import (
    check_progress,
    scheme_named,
)
from distvi.engines.local import Limits
from distvi.engines.local.crew import Child, Crew, Heard
from distvi.engines.local.members import Member
from distvi.engines.local.messages import (
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
from distvi.engines.local.orders import Versions
from distvi.engines.local.transport import LocalTransport
from distvi.engines.local.watch import ServerNow, Watch, WorkerNow
from distvi.protocol import (
    Entry,
    Rules,
    State,
    drive,
)

UPDATES = 20
LIMITS = Limits(start_s=50.0, patience_s=5.0, replacements=10**6)
OPTIONS: Mapping[str, dict[str, Any]] = {
    "async": {"orders": 2},
    "backup": {"n": 2},
    "backup-gradients": {"n": 3},
    "ssp": {"bound": 1},
    "softsync": {"n": 1},
    "k-sync": {"k": 1},
    "k-batch-sync": {"k": 2},
    "k-async": {"k": 2},
    "k-batch-async": {"k": 3},
    "drop-stale": {"bound": 2, "orders": 2},
}


class Played(Child):
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

    def tell(self, message: Message) -> None:
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
                for order in [each for each in self.waiting if each.order == message.order]:
                    self.waiting.remove(order)
                    self.outbox.append(Abandoned(message.order))
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
        if self.waiting and min(world.seals) >= self.waiting[0].version:
            self.doing = self.waiting.popleft()
            world.check_read(self.doing)
            world.gradients[self.doing.gradient] = -1

    def end(self) -> None:
        done, self.doing = self.doing, None
        world = self.world
        if isinstance(done, Compute):
            world.check_read(done)
            assert world.gradients[done.gradient] == -1
            world.gradients[done.gradient] = done.order
            is_finite = world.random.random() > 0.05
            self.outbox.append(Computed(done.order, 1.0, is_finite, 0.0, 0.0, 0.0, 0.0))
        elif isinstance(done, Apply):
            assert self.version == done.version - 1
            self.version = done.version
            orders = tuple(world.gradients[slot] for slot in done.gradients)
            assert world.applied.setdefault((done.version, self.number), orders) == orders
            if done.target is not None:
                world.parameters[done.target, self.number] = done.version
                world.seals[self.number] = done.version
                if world.random.random() < world.faults / 3:  # killed before it could tell
                    self.is_alive = False
                else:
                    self.outbox.append(Applied(done.version, 0.0, 0.0))
        elif isinstance(done, Save):
            assert self.version == done.version
            world.states[done.state, self.number] = done.version
            self.outbox.append(Saved(done.version, 0.0, 0.0))


class PlayedCrew(Crew):
    """Processes without any process."""

    world: "World"

    def hear(self, timeout_s: float) -> Iterator[Heard]:
        self.world.move()
        children: list[Any] = list(self.children.values())
        self.world.random.shuffle(children)
        heard = 0
        for child in children:
            if self.children.get((child.role, child.number)) is not child:
                continue
            if child.outbox and self.world.random.random() < 0.7:
                heard += 1
                yield Heard(child, child.outbox.popleft())
            elif not child.outbox and not child.is_alive:
                heard += 1
                self.forget(child)
                yield Heard(child, None)
        if not heard:
            self.world.now_s += max(timeout_s, 0.0)

    def forget(self, child: Any) -> None:
        if self.children.get((child.role, child.number)) is child:
            del self.children[child.role, child.number]
        child.is_alive = False


class World:
    """A run: its clock, its faults, and what lies in the slots."""

    def __init__(self, name: str, seed: int, workers: int, servers: int, limits: Limits) -> None:
        self.random = random.Random(f"{name} {seed}")
        self.now_s, self.servers, self.faults = 100.0, servers, 0.1
        self.seals = [0] * servers
        self.meddle: Callable[[], None] = lambda: None
        self.parameters: dict[tuple[int, int], int] = {}
        self.states: dict[tuple[int, int], int] = {}
        self.gradients: dict[int, int] = {}
        self.bases: dict[int, int] = {}
        self.applied: dict[tuple[int, int], tuple[int, ...]] = {}
        self.starts = 0
        scheme = scheme_named(name, workers, OPTIONS.get(name, {}))
        self.rules = Rules(scheme, updates=UPDATES, patience_s=3.0)
        self.lot = check_progress(scheme, workers)
        self.journal: list[tuple[Entry, State, tuple[Any, ...]]] = []
        crew = PlayedCrew()
        crew.world = self
        self.transport = LocalTransport(
            crew=crew,
            start=self.start,
            limits=limits,
            versions=Versions(0),
            members=[Member() for _ in range(workers)],
            batch_size=4,
            servers=servers,
            most_kept=5,
            watch=Watch(
                [WorkerNow(number) for number in range(workers)],
                [ServerNow(number, 4) for number in range(servers)],
            ),
        )
        for server in range(servers):
            self.parameters[self.transport.versions.slot, server] = 0
            self.states[0, server] = 0
            self.start("server", server)
        for worker in range(workers):
            self.start("worker", worker)

    def start(self, role: str, number: int) -> Child:
        assert (role, number) not in self.transport.crew.children, "it lives, and is started"
        child = Played(self, role, number, self.starts)
        self.starts += 1
        self.transport.crew.children[role, number] = child
        return child

    def check_read(self, order: Compute) -> None:
        """A worker reads the version that it was pointed to, all of it."""
        base = self.bases[order.order]
        assert base == order.version
        assert all(self.parameters[order.parameters, s] == base for s in range(self.servers))

    def move(self) -> None:
        """A few of the processes get on, or meet a fault."""
        self.meddle()
        for order in self.transport.orders._by_number.values():
            self.bases[order.number] = order.command.version
        children: list[Any] = list(self.transport.crew.children.values())
        for _ in range(self.random.randrange(4)):
            child = self.random.choice(children)
            self.now_s += self.random.expovariate(50.0)
            if child.is_alive and self.random.random() < self.faults:
                child.is_alive = self.random.random() < 0.7
                child.is_stopped = self.random.random() < 0.7
            elif child.is_alive and self.random.random() < self.faults / 5:
                child.is_stopped = False
            elif child.is_alive and not child.is_stopped:
                child.step()

    def mend(self) -> None:
        """No more faults from now on."""
        self.faults = 0.0
        children: list[Any] = list(self.transport.crew.children.values())
        for child in children:
            child.is_stopped = False

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
