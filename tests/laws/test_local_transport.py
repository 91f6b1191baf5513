"""The local engine's transport in every order of events, with processes that are only played.

Real processes die, stop, wake and answer when the kernel lets them; here a random number says so,
between any two messages. What they would read and write is followed slot by slot.
"""

import random
from collections import deque
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from distvi.aggregation import SCHEMES, check_progress, scheme_named
from distvi.engines.local import Limits, transport
from distvi.engines.local.crew import Child, Crew, Heard
from distvi.engines.local.messages import (
    Abandon,
    Abandoned,
    Applied,
    Apply,
    Compute,
    Computed,
    Message,
    Ready,
)
from distvi.engines.local.orders import Versions
from distvi.engines.local.transport import LocalTransport, Member
from distvi.engines.local.watch import ServerNow, Watch, WorkerNow
from distvi.protocol import (
    Commit,
    Entry,
    Outcome,
    Rules,
    State,
    drive,
    initial_state,
    replay,
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
        self.doing: Compute | Apply | None = None
        self.has_begun, self.is_alive, self.is_stopped = False, True, False

    @property
    def was_killed(self) -> bool:
        return True

    def tell(self, message: Message) -> None:
        self.inbox.append(message)
        assert len(self.inbox) < 10, "a stopped process is told more and more"

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
            else:
                assert isinstance(message, Apply)
                assert self.doing is None
                self.doing = message
                world.parameters[message.target, self.number] = -1  # half-written
        if self.waiting:
            self.doing = self.waiting.popleft()
            world.gradients[self.doing.gradient] = -1

    def end(self) -> None:
        done, self.doing = self.doing, None
        world = self.world
        if isinstance(done, Compute):
            base = world.bases[done.order]
            assert all(world.parameters[done.parameters, s] == base for s in range(world.servers))
            assert world.gradients[done.gradient] == -1
            world.gradients[done.gradient] = done.order
            is_finite = world.random.random() > 0.05
            self.outbox.append(Computed(done.order, 1.0, is_finite, 0.0, 0.0, 0.0, 0.0))
        elif isinstance(done, Apply):
            assert world.parameters[done.source, self.number] == done.version - 1
            orders = tuple(world.gradients[slot] for slot in done.gradients)
            assert world.applied.setdefault((done.version, self.number), orders) == orders
            world.parameters[done.target, self.number] = done.version
            self.outbox.append(Applied(done.version, 0.0, 0.0))


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
        del self.children[child.role, child.number]
        child.is_alive = False


class World:
    """A run: its clock, its faults, and what lies in the slots."""

    def __init__(self, name: str, seed: int, workers: int, servers: int, limits: Limits) -> None:
        self.random = random.Random(f"{name} {seed}")
        self.now_s, self.servers, self.faults = 100.0, servers, 0.1
        self.parameters: dict[tuple[int, int], int] = {}
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
            watch=Watch(
                [WorkerNow(number) for number in range(workers)],
                [ServerNow(number, 4) for number in range(servers)],
            ),
        )
        for server in range(servers):
            self.parameters[self.transport.versions.slot, server] = 0
            self.start("server", server)
        for worker in range(workers):
            self.start("worker", worker)

    def start(self, role: str, number: int) -> Child:
        child = Played(self, role, number, self.starts)
        self.starts += 1
        self.transport.crew.children[role, number] = child
        return child

    def move(self) -> None:
        """A few of the processes get on, or meet a fault."""
        for order in self.transport.orders._by_number.values():
            self.bases[order.number] = order.command.version
        children: list[Any] = list(self.transport.crew.children.values())
        for _ in range(self.random.randrange(4)):
            child = self.random.choice(children)
            self.now_s += self.random.expovariate(50.0)
            if child.is_alive and self.random.random() < self.faults:
                child.is_alive = self.random.random() < 0.7
                child.is_stopped = self.random.random() < 0.7
            elif child.is_alive and self.random.random() < 0.02:
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


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(name: str, seed: int, workers: int, servers: int, limits: Limits = LIMITS) -> World:
        world = World(name, seed, workers, servers, limits)
        monkeypatch.setattr(transport, "perf_counter", lambda: world.now_s)
        return world

    return make


def assert_consistent(world: World, state: State) -> None:
    """All that has been decided has been done, once, on every server; nothing has been lost."""
    played = replay(world.rules, initial_state(world.rules), (entry for entry, *_ in world.journal))
    assert list(played) == [(state, commands) for _, state, commands in world.journal]
    commits = [c for *_, commands in world.journal for c in commands if isinstance(c, Commit)]
    assert [commit.version for commit in commits] == list(range(1, state.version + 1))
    assert world.transport.versions.newest == state.version
    assert len(world.applied) == state.version * world.servers
    for commit in commits:
        for server in range(world.servers):
            assert len(world.applied[commit.version, server]) == len(commit.parts)
            assert -1 not in world.applied[commit.version, server]
    each = [o for (_, server), orders in world.applied.items() if not server for o in orders]
    assert len(set(each)) == len(each), "a gradient was applied twice"
    if not world.transport._events:
        held = sum(len(tickets) for tickets in state.held.values())
        workers = range(len(world.transport.members))
        touched = sum(len(world.transport.orders.unanswered(worker)) for worker in workers)
        assert world.transport.orders.used == held + touched


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_every_update_is_made_once(play: Any, name: str, seed: int) -> None:
    world = play(name, seed, workers=3, servers=2)
    state = initial_state(world.rules)
    for until in (1, 10, 11, UPDATES):
        state = world.advance(state, until)
        assert_consistent(world, state)
        world.now_s += 1000.0  # nobody listens for a while
        for _ in range(world.random.randrange(100)):
            world.move()
    assert state.outcome is Outcome.DONE
