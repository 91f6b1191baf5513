"""Between the protocol and the processes: events from messages, and commands to messages.

Commands are carried out in their order; behind a commit they wait until every server has made the
update. So a version is complete before anybody is pointed to it, whichever process dies.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

from distvi.engines.base import Halted
from distvi.engines.local.crew import Child, Crew
from distvi.engines.local.messages import (
    Abandon,
    Abandoned,
    Applied,
    Apply,
    Compute,
    Computed,
    Failed,
    Message,
    Ready,
)
from distvi.engines.local.orders import Order, Orders, Versions
from distvi.engines.local.watch import Watch
from distvi.parameters import rates
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
    Joined,
    Left,
    Outcome,
    Reason,
    SendParameters,
    SetAlarm,
    Stop,
    StopRequested,
)

_ROUND_S = 0.1  # between two looks at limits and interruptions


class Limits(NamedTuple):
    """How long is waited, and how often a process is replaced.

    Attributes:
        start_s: For a process to be ready.
        patience_s: For a gradient or an update.
        replacements: Of processes that died, in the whole run.
    """

    start_s: float = 300.0
    patience_s: float = 60.0
    replacements: int = 16


@dataclass(eq=False, slots=True)
class Member:
    """A worker as the protocol knows it.

    Attributes:
        incarnation: The highest so far.
        batch: Its next.
        is_member: Whether it has joined, and has not been dismissed since.
    """

    incarnation: int = -1
    batch: int = 0
    is_member: bool = False


@dataclass(eq=False)
class Update:
    """A commit that the servers are carrying out.

    Attributes:
        command: What the protocol said.
        message: What the servers were told.
        missing: Servers that have not made it.
        since_s: When they were told, or when one was told again.
    """

    command: Commit
    message: Apply
    missing: set[int]
    since_s: float


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
    watch: Watch
    interrupted: Callable[[], bool] = lambda: False
    neg_elbos: list[float] = field(default_factory=list)
    end: str = ""
    replaced: int = 0
    _has_begun: bool = False
    _state_slot: int = 0
    _update: Update | None = None
    _waiting: deque[Command] = field(default_factory=deque)
    _events: deque[Event] = field(default_factory=deque)
    _alarm_s: float | None = None
    _paused_s: float = 0.0
    _pause_s: float | None = None

    def __post_init__(self) -> None:
        self.orders = Orders(self.versions)

    # The clock stands still while the main process does something else

    def now_s(self) -> float:
        """Seconds on the protocol's clock."""
        return (self._pause_s or perf_counter()) - self._paused_s

    def pause(self) -> None:
        """Nobody listens for a while: that is no worker's fault."""
        self._pause_s = perf_counter()

    def go_on(self) -> None:
        """Listen again."""
        if self._pause_s is not None:
            self._paused_s += perf_counter() - self._pause_s
            self._pause_s = None

    @property
    def state_slot(self) -> int:
        """Where the optimizer's state of the newest version is."""
        return self._state_slot

    # Events

    def begin(self) -> None:
        """Wait until every process is ready; then all workers join at once.

        Raises:
            Halted: an exception in a process, or one that is not ready in time.
        """
        if self._has_begun:
            return
        while not (self._servers_are_ready() and self._workers_are_ready()):
            if self.interrupted():
                return
            self._listen()
        self._has_begun = True
        for worker in self.crew.of("worker"):
            self._join(worker.number)

    def receive(self) -> tuple[float, Event] | None:
        """The next event.

        Raises:
            Halted: an exception in a process, or one that is not ready or not done in time.
        """
        while not self._events:
            self._listen()
            if self.interrupted():
                self._events.append(StopRequested("interrupted"))
        return self.now_s(), self._events.popleft()

    def settle(self) -> None:
        """Wait until all commands have been carried out.

        Raises:
            Halted: as `receive`.
        """
        while self._update is not None or self._waiting:
            self._listen()

    def _listen(self) -> None:
        timeout_s = _ROUND_S
        if self._alarm_s is not None:
            timeout_s = min(timeout_s, self._alarm_s - self.now_s())
        for child, message in self.crew.hear(timeout_s):
            if message is None:
                self._died(child)
            else:
                self._heard(child, message)
        if self._alarm_s is not None and self.now_s() >= self._alarm_s:
            self._alarm_s = None
            self._events.append(Alarm())
        self._check_limits()

    def _heard(self, child: Child, message: Message) -> None:
        if isinstance(message, Computed):
            order = self.orders.answer(message.order)
            order.neg_elbo = message.neg_elbo
            kind = GradientArrived if message.is_finite else GradientUnusable
            self._events.append(kind(order.ticket))
            self.watch.computed(child.number, order, message, self.versions.newest)
            self._rejoin(child)
        elif isinstance(message, Abandoned):
            self.orders.answer(message.order)
            self._rejoin(child)
        elif isinstance(message, Applied):
            self._applied(child.number, message)
        elif isinstance(message, Ready):
            self._ready(child, message)
        elif isinstance(message, Failed):
            last = message.traceback.strip().splitlines()[-1]
            raise Halted(f"{child.name} failed with {last}\n{message.traceback.rstrip()}")

    def _ready(self, child: Child, message: Ready) -> None:
        child.is_ready = True
        self.watch.ready(child, message)
        if child.role == "worker" and self._has_begun:
            self._join(child.number)
        elif self._update is not None and child.number in self._update.missing:
            self._update.since_s = self.now_s()
            child.tell(self._update.message)
        else:
            self._carry_out()

    def _join(self, worker: int) -> None:
        member = self.members[worker]
        member.incarnation += 1
        member.is_member = True
        self._events.append(Joined(worker, member.incarnation))

    def _rejoin(self, child: Child) -> None:
        """One that was dismissed has come back, once it has answered all it had been asked."""
        if not self.members[child.number].is_member and not self.orders.unanswered(child.number):
            self._join(child.number)

    def _died(self, child: Child) -> None:
        how = child.how_it_ended()
        self.watch.died(child, how)
        if child.role == "worker":
            member = self.members[child.number]
            for order in self.orders.unanswered(child.number):
                self.orders.decide(order.ticket.key)
                self.orders.answer(order.number)
            if member.is_member:
                self._events.append(Left(child.number, member.incarnation))
                member.is_member = False
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
        for child in list(self.crew.children.values()):
            waited_s = perf_counter() - child.started_s
            if not child.is_ready and waited_s > self.limits.start_s:
                raise Halted(
                    f"waited {waited_s:.0f} s for {child.name} to start"
                    + (f"; see {child.log}" if child.log else "")
                )
        update = self._update
        if update is None or self.now_s() - update.since_s <= self.limits.patience_s:
            return
        for server in self.crew.of("server"):
            if server.number in update.missing and server.is_ready:
                self.crew.forget(server)
                self.watch.died(server, "")
                self._replace(
                    server,
                    f"server {server.number} did not make update {update.command.version} within "
                    f"{self.limits.patience_s:g} s and was ended",
                )

    # Commands

    def execute(self, command: Command) -> None:
        """Carry a command out, after those before it."""
        self._waiting.append(command)
        self._carry_out()

    def _carry_out(self) -> None:
        while self._waiting and self._update is None:
            if isinstance(self._waiting[0], Commit) and not self._servers_are_ready():
                return
            self._one(self._waiting.popleft())

    def _servers_are_ready(self) -> bool:
        servers = self.crew.of("server")
        return len(servers) == self.servers and all(server.is_ready for server in servers)

    def _workers_are_ready(self) -> bool:
        workers = self.crew.of("worker")
        return bool(workers or self._events) and all(worker.is_ready for worker in workers)

    def _one(self, command: Command) -> None:
        if isinstance(command, SendParameters):
            self._send(command)
        elif isinstance(command, Commit):
            self._commit(command)
        elif isinstance(command, Free):
            self.orders.decide(command.ticket.key)
        elif isinstance(command, Cancel):
            key = (command.worker, command.incarnation, command.sequence)
            order = self.orders.decide(key)
            child = self.crew.children.get(("worker", command.worker))
            if order is not None and not order.answered and child is not None:
                child.tell(Abandon(order.number))
        elif isinstance(command, Dismiss):
            self._dismiss(command)
        elif isinstance(command, Ignored):
            self._ignored(command)
        elif isinstance(command, SetAlarm):
            self._alarm_s = command.at_s
        elif isinstance(command, Stop):
            self.end = command.reason

    def _send(self, command: SendParameters) -> None:
        member = self.members[command.worker]
        order = self.orders.open(command, self.batch_size)
        child = self.crew.children.get(("worker", command.worker))
        message = Compute(order.number, order.parameters, order.gradient, member.batch)
        member.batch += 1
        if child is None or command.incarnation != member.incarnation or not member.is_member:
            # It died, or was dismissed, and the protocol will hear of it next: nobody computes.
            self.orders.decide(order.ticket.key)
            self.orders.answer(order.number)
            return
        self.watch.sent(order)
        child.tell(message)

    def _dismiss(self, command: Dismiss) -> None:
        self.members[command.worker].is_member = False
        self.orders.decide_all(command.worker, command.incarnation)
        self.watch.dismissed(command)
        child = self.crew.children.get(("worker", command.worker))
        if child is not None and child.is_ready:
            self._rejoin(child)  # where its answer came while the command waited

    def _ignored(self, command: Ignored) -> None:
        event = command.event
        gone = (Reason.UNKNOWN_WORKER, Reason.OTHER_INCARNATION)
        if isinstance(event, Left):
            self.orders.decide_all(event.worker, event.incarnation)
        elif isinstance(event, GradientArrived | GradientUnusable) and command.reason in gone:
            self.orders.decide(event.ticket.key)

    def _commit(self, command: Commit) -> None:
        orders = [self.orders.of(part.ticket) for part in command.parts]
        rate, factors = rates(command.parts)
        message = Apply(
            version=command.version,
            source=self.versions.slot,
            target=self.versions.claim(),
            source_state=self._state_slot,
            target_state=1 - self._state_slot,
            gradients=tuple(order.gradient for order in orders),
            factors=factors,
            rate=rate,
        )
        self._update = Update(command, message, set(range(self.servers)), self.now_s())
        for server in self.crew.of("server"):
            server.tell(message)

    def _applied(self, server: int, message: Applied) -> None:
        update = self._update
        if update is None or message.version != update.command.version:
            return  # said twice, by a server that had been given up
        update.missing.discard(server)
        self.watch.applied(server, message)
        if update.missing:
            return
        self.versions.publish(update.command.version, update.message.target)
        self._state_slot = update.message.target_state
        orders = [self._decided(part.ticket.key) for part in update.command.parts]
        self.neg_elbos.append(sum(order.neg_elbo for order in orders) / len(orders))
        self._update = None
        self._carry_out()

    def _decided(self, key: tuple[int, int, int]) -> Order:
        order = self.orders.decide(key)
        assert order is not None
        return order
