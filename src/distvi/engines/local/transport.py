"""Between the protocol and the processes: events from messages, and commands to messages.

Commands are carried out in their order. One update is made at a time: a commit waits until every
server has made the one before it, and all commands behind it wait, too. Workers are pointed to the
version in the making, and begin when all servers have sealed it, whichever process dies meanwhile.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

from distvi.engines.base import Halted
from distvi.engines.local.clock import Clock
from distvi.engines.local.crew import Child, Crew
from distvi.engines.local.members import Member, Members
from distvi.engines.local.messages import (
    Abandoned,
    Applied,
    Apply,
    Begin,
    Computed,
    Failed,
    Message,
    Ready,
    Saved,
)
from distvi.engines.local.orders import Order, Orders, Versions
from distvi.engines.local.servers import Servers
from distvi.engines.local.watch import Watch
from distvi.protocol import (
    Alarm,
    Cancel,
    Command,
    Commit,
    Dismiss,
    Event,
    Free,
    GradientArrived,
    GradientUnusable,
    Ignored,
    Outcome,
    SendParameters,
    SetAlarm,
    Stop,
    StopRequested,
)

_ROUND_S = 0.1  # between two looks at limits and interruptions
_STALLED_S = 1.0  # for an update; then workers wait for the servers, and the clock stands still


class Limits(NamedTuple):
    """How long is waited, and how often a process is replaced.

    Attributes:
        start_s: For a process to be ready.
        patience_s: For a gradient, an update or a save.
        replacements: Of processes that died, in the whole run.
    """

    start_s: float = 300.0
    patience_s: float = 60.0
    replacements: int = 16


@dataclass(eq=False)
class LocalTransport:
    """See `distvi.protocol.Transport`.

    Attributes:
        crew: The processes.
        start: Starts the process of a role and number.
        limits: In time and in numbers.
        versions: Slots of the parameters.
        members: The workers.
        batch_size: Examples in a gradient.
        servers: How many there are.
        most_kept: Once so many gradients are kept for servers that die, the servers save.
        watch: Told what happens when.
        interrupted: Asked while nothing happens.
        neg_elbos: Of each update, the mean over its gradients.
        end: Why the protocol has stopped.
    """

    crew: Crew
    start: Callable[[str, int], Child]
    limits: Limits
    versions: Versions
    members: Sequence[Member]
    batch_size: int
    servers: int
    most_kept: int
    watch: Watch
    interrupted: Callable[[], bool] = lambda: False
    neg_elbos: list[float] = field(default_factory=list)
    end: str = ""
    replaced: int = 0
    _has_begun: bool = False
    _waiting: deque[Command] = field(default_factory=deque)
    _events: deque[Event] = field(default_factory=deque)
    _alarm_s: float | None = None
    _looked_s: float = field(default_factory=perf_counter)
    _idle_since_s: float | None = None

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.orders = Orders(self.versions)
        self._members = Members(
            self.members, self.orders, self.crew, self.watch, self._events, self.batch_size
        )
        self._servers = Servers(
            self.servers, self.crew, self.versions, self.orders, self.watch, self.most_kept
        )

    def pause(self) -> None:
        """Listen to nobody for a while."""
        self.clock.stop()

    def go_on(self) -> None:
        """Listen again."""
        self.clock.go_on()
        self._looked_s = perf_counter()

    def _is_stalled(self) -> bool:
        """Whether workers may be waiting for orders because a server does not do its part."""
        update = self._servers.update
        if update is None and not self._waiting:
            return False
        update_s = 0.0 if update is None else perf_counter() - update.since_s
        return update_s > _STALLED_S or not self._servers.are_ready

    @property
    def recovery(self) -> tuple[Begin, list[Apply]]:
        """What a server that started now would be told."""
        return self._servers.saved, [entry.message.again for entry in self._servers.log]

    # Events

    def begin(self) -> None:
        """Wait until every process is ready; then all workers join at once.

        Raises:
            Halted: an exception in a process, or one that is not ready in time.
        """
        if self._has_begun:
            return
        while not (self._servers.are_ready and self._workers_are_ready()):
            if self.interrupted():
                return
            self._listen()
        self._has_begun = True
        for worker in self.crew.of("worker"):
            self._members.join(worker.number)

    def receive(self) -> tuple[float, Event] | None:
        """The next event; None when no process could cause one any more.

        Raises:
            Halted: an exception in a process, or one that is not ready or not done in time.
        """
        while not self._events:
            came = self._listen()
            if self.interrupted():
                self._events.append(Alarm())  # one too many: the loop looks up, and pauses
            elif not came and self._is_hopeless():
                return None
        return self.clock.now_s(), self._events.popleft()

    def _is_hopeless(self) -> bool:
        """Whether nobody is computing, starting or updating, and nobody comes back."""
        starting = any(not child.is_ready for child in self.crew.children.values())
        computing = self._members.are_computing
        if starting or computing or self._servers.update is not None or self._waiting:
            self._idle_since_s = None
            return False
        now_s, dismissed = self.clock.now_s(), self._members.dismissed
        if self._idle_since_s is None:
            self._idle_since_s = now_s
        waited_s = now_s - self._idle_since_s
        if dismissed and waited_s > self.limits.start_s:
            raise Halted(
                f"waited {waited_s:.0f} s for {', '.join(dismissed)} to come back: dismissed, "
                "and the others cannot go on alone"
            )
        return not dismissed

    def settle(self) -> None:
        """Wait until all commands have been carried out, and the newest version is saved.

        Events wait too, so the clock stops here: what a server takes is no worker's fault.

        Raises:
            Halted: as `receive`.
        """
        self.clock.stop()
        servers = self._servers
        while servers.update is not None or self._waiting or not servers.is_saved:
            if servers.update is None and not self._waiting:
                servers.save()
            self._listen()

    def _listen(self) -> bool:
        """Hear what has come, or wait a little; whether anything came."""
        came, timeout_s = False, _ROUND_S
        if self._alarm_s is not None:
            timeout_s = min(timeout_s, self._alarm_s - self.clock.now_s())
        for child, message in self.crew.hear(timeout_s):
            came = True
            if message is None:
                self._died(child)
            else:
                self._heard(child, message)
        if perf_counter() - self._looked_s >= _ROUND_S:
            self._look_around()
        if self._alarm_s is not None and self.clock.now_s() >= self._alarm_s:
            self._alarm_s = None
            self._events.append(Alarm())
        return came

    def _look_around(self) -> None:
        """What need not be known after every message."""
        before_s, self._looked_s = self._looked_s, perf_counter()
        if self._is_stalled():  # that is no worker's fault
            self.clock.put_back(self._looked_s - before_s)
        self._check_limits()

    def _heard(self, child: Child, message: Message) -> None:
        if isinstance(message, Computed):
            order = self.orders.answer(message.order)
            order.neg_elbo = message.neg_elbo
            kind = GradientArrived if message.is_finite else GradientUnusable
            self._events.append(kind(order.ticket))
            self.watch.computed(child.number, order, message, self.versions.latest)
            self._members.answered(child)
        elif isinstance(message, Abandoned):
            self.orders.answer(message.order)
            self._members.answered(child)
        elif isinstance(message, Applied):
            command = self._servers.applied(child.number, message)
            if command is not None:
                self._committed(command)
        elif isinstance(message, Saved):
            self._servers.has_saved(child.number, message)
        elif isinstance(message, Ready):
            self._ready(child, message)
        elif isinstance(message, Failed):
            last = message.traceback.strip().splitlines()[-1]
            raise Halted(f"{child.name} failed with {last}\n{message.traceback.rstrip()}")

    def _ready(self, child: Child, message: Ready) -> None:
        child.is_ready = True
        self.watch.ready(child, message)
        if child.role == "server":
            self._servers.started(child)
            self._carry_out()
        elif self._has_begun:
            self._members.join(child.number)

    def _died(self, child: Child) -> None:
        how = child.how_it_ended()
        if not child.is_ready and not child.was_killed:
            raise Halted(f"{how} before it was ready")  # and so would all that replace it
        self._ended(child, how)

    def _ended(self, child: Child, how: str) -> None:
        self.watch.died(child, how)
        if child.role == "worker":
            self._members.ended(child.number)
        self._replace(child, how)

    def _replace(self, child: Child, how: str) -> None:
        if self.replaced < self.limits.replacements:
            self.replaced += 1
            self.start(child.role, child.number)
            return
        used = f"all {self.limits.replacements} replacements have been used"
        if child.role == "server":
            raise Halted(f"{how}, and {used}")
        if not self.crew.of("worker"):
            reason = f"{how}; no worker is left, and {used}"
            self._events.append(StopRequested(reason, Outcome.FAILED))

    def _check_limits(self) -> None:
        now_s, limits = perf_counter(), self.limits
        for child in list(self.crew.children.values()):
            if not child.is_ready and now_s - child.started_s > limits.start_s:
                why = f"{child.name} was not ready {limits.start_s:g} s after it was started"
                self._give_up(child, why + (f"; see {child.log}" if child.log else ""))
        for server, what in self._servers.overdue(limits.patience_s):
            self._give_up(server, f"{server.name} did not {what} within {limits.patience_s:g} s")

    def _give_up(self, child: Child, why: str) -> None:
        """End a process that has been waited for too long, and start another in its place."""
        if not self._has_begun:
            raise Halted(why)
        self.crew.forget(child)
        self._ended(child, f"{why} and was ended")

    # Commands

    @property
    def commits(self) -> list[Commit]:
        """Those that have not been carried out; none once `settle` has returned."""
        begun = [] if self._servers.commit is None else [self._servers.commit]
        return begun + [command for command in self._waiting if isinstance(command, Commit)]

    def execute(self, command: Command) -> None:
        """Carry a command out, after those before it."""
        self._waiting.append(command)
        self._carry_out()

    def _carry_out(self) -> None:
        while self._waiting:
            if isinstance(self._waiting[0], Commit) and not self._servers.are_free:
                return
            self._one(self._waiting.popleft())

    def _workers_are_ready(self) -> bool:
        workers = self.crew.of("worker")
        return bool(workers or self._events) and all(worker.is_ready for worker in workers)

    def _one(self, command: Command) -> None:
        if isinstance(command, SendParameters):
            self._members.send(command)
        elif isinstance(command, Commit):
            self._servers.make(command)
        elif isinstance(command, Free):
            self.orders.decide(command.ticket.key)
        elif isinstance(command, Cancel):
            self._members.cancel(command)
        elif isinstance(command, Dismiss):
            self._members.dismiss(command)
        elif isinstance(command, Ignored):
            self._members.ignored(command)
        elif isinstance(command, SetAlarm):
            self._alarm_s = command.at_s
        elif isinstance(command, Stop):
            self.end = command.reason

    def _committed(self, command: Commit) -> None:
        """All servers have made an update."""
        self._members.updated()
        orders = [self._decided(part.ticket.key) for part in command.parts]
        self.neg_elbos.append(sum(order.neg_elbo for order in orders) / len(orders))
        self._carry_out()

    def _decided(self, key: tuple[int, int, int]) -> Order:
        order = self.orders.decide(key)
        assert order is not None
        return order
