"""A fleet whose processes are only played: a random number says what they do next.

Real processes die, stop, wake and answer when the kernel lets them. Here a seed says who gets on,
what arrives when, and who is killed or stopped, between any two messages. Time is virtual, and
passes when somebody listens. There are no threads and no clocks: a seed gives one run.
"""

import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from distvi.engines.coordinator.clock import MachineClock
from distvi.engines.coordinator.fleet import Fleet, Post, Process, Received, Role
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
from distvi.engines.coordinator.slots import Numbers

Task = Compute | Apply | Save
"""What takes a process a while."""

_STEP_S = 0.02
"""Between two steps of a fleet, in the mean."""

_MOST_UNREAD: dict[Role, int] = {"worker": 20, "server": 80}
"""Of a process that stands still; a server that starts anew is told of all that it has missed."""


class Actor(ABC):
    """What a played process does; the process deals with its messages."""

    @abstractmethod
    def take(self, message: Begin) -> None:
        """A server has a version to begin with."""

    @abstractmethod
    def begin(self, task: Task) -> None:
        """A task is begun: from now on, what it will write is nonsense."""

    @abstractmethod
    def end(self, task: Task) -> Computed | Applied | Saved | None:
        """A task is done. What it reads was there until now, and what it writes is complete."""


Cast = Callable[[Post, MachineClock], Actor]
"""Who plays a process; asked when it gets ready, and given the virtual clock."""


class Odds(NamedTuple):
    """How often something happens to a process when it could get on.

    Attributes:
        killed: It dies; and as often when it has done something and not yet told.
        stopped: It stands still.
        woken: It does not any more.
    """

    killed: float = 0.0
    stopped: float = 0.0
    woken: float = 0.0


CALM = Odds()
ROUGH = Odds(killed=0.03, stopped=0.05, woken=0.1)


@dataclass(eq=False, kw_only=True)
class PlayedProcess(Process):
    """A process that gets on step by step.

    Attributes:
        post: What it was started as.
        identity: Its number among all that were started.
        inbox: What it has not read.
        outbox: What has not arrived.
        doing: What it has begun.
        is_alive: Whether it has not died.
        is_stopped: Whether it stands still.
        ends_by_itself: Whether it was not killed, once it is dead.
    """

    post: Post
    identity: int
    inbox: deque[Message] = field(default_factory=deque)
    outbox: deque[Message] = field(default_factory=deque)
    doing: Task | None = None
    is_alive: bool = True
    is_stopped: bool = False
    ends_by_itself: bool = False
    _actor: Actor | None = None
    _waiting: deque[Compute] = field(default_factory=deque)

    @property
    def pid(self) -> int:
        """A number that no other process of the fleet has."""
        return self.identity

    @property
    def was_killed(self) -> bool:
        """Whether it did not end by itself."""
        return not self.ends_by_itself

    def how_it_ended(self) -> str:
        """In words."""
        return f"{self.name} {'ended' if self.ends_by_itself else 'was killed'}"

    def step(self, cast: Callable[[Post], Actor], published: int) -> Message | None:
        """Be ready, begin something, or end what was begun.

        Args:
            cast: Who plays it.
            published: The version that all servers have published.

        Returns:
            What it has to tell.
        """
        if self._actor is None:
            self._actor = cast(self.post)
            return Ready(0.0)
        if self.doing is None:
            self._begin(self._actor, published)
            return None
        done, self.doing = self.doing, None
        return self._actor.end(done)

    def _begin(self, actor: Actor, published: int) -> None:
        while self.inbox and self.doing is None:
            message = self.inbox.popleft()
            if isinstance(message, Compute):
                self._waiting.append(message)
            elif isinstance(message, Abandon):
                self._abandon(message)
            elif isinstance(message, Begin):
                actor.take(message)
            else:
                assert isinstance(message, Apply | Save)
                self.doing = message
        if self._waiting and published >= self._waiting[0].version:
            self.doing = self._waiting.popleft()
        if self.doing is not None:
            actor.begin(self.doing)

    def _abandon(self, message: Abandon) -> None:
        for request in [each for each in self._waiting if each.request == message.request]:
            self._waiting.remove(request)
            self.outbox.append(Abandoned(request.request))


class PlayedFleet(Fleet):
    """Processes without any process.

    Attributes:
        time_s: What the virtual clock shows.
        odds: Of faults, by role.
        random: Says what happens.
        meddle: Called whenever somebody listens, before anything happens.
        observe: Told of each message, when it is sent to a process or has come from it, and of
            the end of a process (None).

    Args:
        cast: Who plays a process.
        numbers: That the processes share.
        seed: Of all that happens.
    """

    def __init__(self, cast: Cast, numbers: Numbers, seed: int | str = 0) -> None:
        super().__init__()
        self.numbers = numbers
        self.random = random.Random(seed)
        self.time_s = 100.0
        self.odds: dict[Role, Odds] = {"worker": CALM, "server": CALM}
        self.meddle: Callable[[], None] = lambda: None
        self.observe: Callable[[PlayedProcess, Message | None], None] = lambda process, said: None
        self.starts: dict[tuple[Role, int], int] = {}
        self._cast = cast

    def now_s(self) -> float:
        """The virtual clock: for `distvi.engines.coordinator.clock.Clock`."""
        return self.time_s

    def start(self, post: Post) -> PlayedProcess:
        """Start a process; it is ready when it says so."""
        place: tuple[Role, int] = post.role, post.number
        assert place not in self.processes, f"{post.role} {post.number} lives, and is started"
        start, identity = self.starts.get(place, 0), 1 + sum(self.starts.values())
        self.starts[place] = start + 1
        process = PlayedProcess(*place, start, self.time_s, post=post, identity=identity)
        self.processes[place] = process
        return process

    def played(self, role: Role, number: int) -> PlayedProcess:
        """The process that lives in a place."""
        process = self.processes[role, number]
        assert isinstance(process, PlayedProcess)
        return process

    def send(self, process: Process, message: Message) -> None:
        """Send a message; one that has died does not read it."""
        assert isinstance(process, PlayedProcess)
        self.observe(process, message)
        process.inbox.append(message)
        unread, most = len(process.inbox), _MOST_UNREAD[process.role]
        assert unread < most, f"{process.name} is told more and more"

    def receive(self, timeout_s: float) -> Iterator[Received]:
        """What has come; if nothing has, the time that it was waited for is over."""
        self.move()
        heard = 0
        for process in self._shuffled():
            if self.processes.get((process.role, process.number)) is not process:
                continue  # ended while another was listened to
            if process.outbox and self.random.random() < 0.7:
                heard += 1
                message = process.outbox.popleft()
                self.observe(process, message)
                yield Received(process, message)
            elif not process.outbox and not process.is_alive:
                heard += 1
                self.stop(process)
                self.observe(process, None)
                yield Received(process, None)
        if not heard:
            self.time_s += max(timeout_s, 0.0)

    def stop(self, process: Process) -> None:
        """End a process; it is stepped on no more."""
        assert isinstance(process, PlayedProcess)
        if self.processes.get((process.role, process.number)) is process:
            del self.processes[process.role, process.number]
        process.is_alive = False

    def move(self) -> None:
        """A few of the processes get on, or meet a fault."""
        self.meddle()
        for _ in range(self.random.randrange(4)):
            if processes := self._shuffled():
                self.time_s += self.random.expovariate(1 / _STEP_S)
                self._move(processes[0])

    def _move(self, process: PlayedProcess) -> None:
        odds, chance = self.odds[process.role], self.random.random()
        if not process.is_alive:
            return
        if process.is_stopped:
            process.is_stopped = chance >= odds.woken
        elif chance < odds.killed:
            process.is_alive = False
        elif chance < odds.killed + odds.stopped:
            process.is_stopped = True
        else:
            self._step(process, odds)

    def _step(self, process: PlayedProcess, odds: Odds) -> None:
        published = int(self.numbers.published_versions.min())
        said = process.step(lambda post: self._cast(post, self.now_s), published)
        if said is None:
            return
        if not isinstance(said, Ready) and self.random.random() < odds.killed:
            process.is_alive = False  # before it could tell
        else:
            process.outbox.append(said)

    def mend(self) -> None:
        """No more faults from now on."""
        self.odds = {"worker": CALM, "server": CALM}
        for process in self._shuffled():
            process.is_stopped = False

    def _shuffled(self) -> list[PlayedProcess]:
        found = [each for each in self.processes.values() if isinstance(each, PlayedProcess)]
        self.random.shuffle(found)
        return found
