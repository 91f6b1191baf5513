"""Between the protocol and the processes: events from messages, and commands to messages.

Commands are carried out in their order. One update is made at a time: a commit waits until every
server has made the one before it, and all commands behind it wait, too. Workers are pointed to the
version in the making, and begin when all servers have published it, whatever dies meanwhile.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from distvi.engines.base import Halted
from distvi.engines.coordinator.clock import Clock
from distvi.engines.coordinator.fleet import Fleet, Post, Process, Role
from distvi.engines.coordinator.membership import Membership, WorkerRecord
from distvi.engines.coordinator.messages import (
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
from distvi.engines.coordinator.requests import Requests, RequestSlots, Versions
from distvi.engines.coordinator.servers import Servers
from distvi.engines.coordinator.status import StatusTracker
from distvi.protocol import (
    Alarm,
    Cancel,
    Command,
    Commit,
    Dismiss,
    Event,
    Free,
    GradientArrived,
    GradientNonFinite,
    Ignored,
    Outcome,
    SendParameters,
    SetAlarm,
    Stop,
    StopRequested,
    TicketId,
)

_ROUND_S = 0.1  # between two looks at limits and interruptions
_STALLED_S = 1.0  # for an update; then workers wait for the servers, and the clock stands still


class Limits(NamedTuple):
    """How long is waited, and how often a process is replaced.

    Attributes:
        start_s: For a process to be ready.
        worker_timeout_s: For an answer, an update or a save.
        max_restarts: Of processes that died, in the whole run.
    """

    start_s: float = 300.0
    worker_timeout_s: float = 60.0
    max_restarts: int = 16


@dataclass(eq=False)
class FleetTransport:
    """See `distvi.protocol.Transport`.

    Attributes:
        fleet: The processes.
        limits: In time and in numbers.
        versions: Slots of the parameters.
        members: The workers.
        requests: That they have been given.
        request_size: Examples in a request's batches.
        servers: How many there are.
        most_kept: Once so many payloads are kept for servers that die, the servers save.
        tracker: Told what happens when.
        clock: By which workers are judged.
        interrupted: Asked while nothing happens.
        neg_elbos: Of each update, the mean over its contributions.
        end: Why the protocol has stopped.
    """

    fleet: Fleet
    limits: Limits
    versions: Versions
    members: Sequence[WorkerRecord]
    requests: Requests
    request_size: int
    servers: int
    most_kept: int
    tracker: StatusTracker
    clock: Clock = field(default_factory=Clock)
    interrupted: Callable[[], bool] = lambda: False
    neg_elbos: list[float] = field(default_factory=list)
    end: str = ""
    restarts: int = 0
    _has_begun: bool = False
    _waiting: deque[Command] = field(default_factory=deque)
    _events: deque[Event] = field(default_factory=deque)
    _alarm_s: float | None = None
    _looked_s: float = 0.0
    _idle_since_s: float | None = None

    def __post_init__(self) -> None:
        self._looked_s = self.clock.machine()
        self._members = Membership(
            self.members, self.requests, self.fleet, self.tracker, self._events, self.request_size
        )
        self._servers = Servers(
            self.servers,
            self.fleet,
            self.versions,
            self.requests,
            self.tracker,
            self.most_kept,
            self.clock.machine,
        )

    def start(self, role: Role, number: int) -> Process:
        """Start a process.

        Raises:
            Halted: the system has no room for another one.
        """
        turn, memory = 0, -1
        if role == "worker":
            turn = self.members[number].turn
            if self.requests.memories is not None:
                memory = self.requests.memories.slot(number)
        process = self.fleet.start(Post(role, number, turn, memory))
        self.tracker.started(process)
        return process

    def pause(self) -> None:
        """Listen to nobody for a while."""
        self.clock.stop()

    def go_on(self) -> None:
        """Listen again."""
        self.clock.go_on()
        self._looked_s = self.clock.machine()

    def _is_stalled(self) -> bool:
        """Whether workers may be waiting for requests because a server does not do its part."""
        update = self._servers.update
        if update is None and not self._waiting:
            return False
        update_s = 0.0 if update is None else self.clock.machine() - update.since_s
        return update_s > _STALLED_S or not self._servers.are_ready

    @property
    def recovery(self) -> tuple[Begin, list[Apply]]:
        """What a server that started now would be told."""
        log = [entry.message.again(is_written=True) for entry in self._servers.log]
        return self._servers.saved, log

    # Events

    def begin(self) -> None:
        """Wait until every process is ready for which there is room; then all join at once.

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
        for worker in self.fleet.of("worker"):
            if worker.is_ready:
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
        starting = any(
            not (process.is_ready or process.waits_for_room)
            for process in self.fleet.processes.values()
        )
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
                f"waited {waited_s:.0f} s for {', '.join(dismissed)}: dismissed, or without a "
                "machine that has room, and the others cannot go on alone"
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
        """Receive what has come, or wait a little; whether anything came."""
        came, timeout_s = False, _ROUND_S
        if self._alarm_s is not None:
            timeout_s = min(timeout_s, self._alarm_s - self.clock.now_s())
        for process, message in self.fleet.receive(timeout_s):
            came = True
            if message is None:
                self._died(process)
            else:
                self._received(process, message)
        if self.clock.machine() - self._looked_s >= _ROUND_S:
            self._look_around()
        if self._alarm_s is not None and self.clock.now_s() >= self._alarm_s:
            self._alarm_s = None
            self._events.append(Alarm())
        return came

    def _look_around(self) -> None:
        """What need not be known after every message."""
        before_s, self._looked_s = self._looked_s, self.clock.machine()
        if self._is_stalled():  # that is no worker's fault
            self.clock.put_back(self._looked_s - before_s)
        self._check_limits()

    def _received(self, process: Process, message: Message) -> None:
        if isinstance(message, Computed):
            request = self.requests.answer(message.request, remembers=message.is_finite)
            request.neg_elbo = message.neg_elbo
            kind = GradientArrived if message.is_finite else GradientNonFinite
            self._events.append(kind(request.ticket))
            self.tracker.computed(process.number, request, message, self.versions.latest)
            self._members.answered(process)
        elif isinstance(message, Abandoned):
            self.requests.answer(message.request)
            self._members.answered(process)
        elif isinstance(message, Applied):
            command = self._servers.applied(process.number, message)
            if command is not None:
                self._committed(command)
        elif isinstance(message, Saved):
            self._servers.has_saved(process.number, message)
        elif isinstance(message, Ready):
            self._ready(process, message)
        elif isinstance(message, Failed):
            last = message.traceback.strip().splitlines()[-1]
            raise Halted(f"{process.name} failed with {last}\n{message.traceback.rstrip()}")

    def _ready(self, process: Process, message: Ready) -> None:
        process.is_ready = True
        self.tracker.ready(process, message)
        if process.role == "server":
            self._servers.started(process)
            self._carry_out()
        elif self._has_begun:
            self._members.join(process.number)

    def _died(self, process: Process) -> None:
        how = process.how_it_ended()
        if not process.is_ready and not process.was_killed:
            raise Halted(f"{how} before it was ready")  # and so would all that replace it
        self._ended(process, how)

    def _ended(self, process: Process, how: str) -> None:
        self.tracker.died(process, how)
        is_worker = process.role == "worker"
        if is_worker:
            self._members.ended(process.number)
        if process.makes_room or self.restarts < self.limits.max_restarts:
            self.restarts += not process.makes_room
            other = self.start(process.role, process.number)
            if is_worker and other.waits_for_room:
                self._members.left(process.number)
            return
        used = f"all {self.limits.max_restarts} restarts have been used"
        if not is_worker:
            raise Halted(f"{how}, and {used}")
        self._members.left(process.number)
        if not self.fleet.of("worker"):
            reason = f"{how}; no worker is left, and {used}"
            self._events.append(StopRequested(reason, Outcome.FAILED))

    def _check_limits(self) -> None:
        now_s, limits = self.clock.machine(), self.limits
        for process in list(self.fleet.processes.values()):
            is_due = not (process.is_ready or process.waits_for_room)
            if is_due and now_s - process.started_s > limits.start_s:
                why = f"{process.name} was not ready {limits.start_s:g} s after it was started"
                self._give_up(process, why + process.see_log)
        for server, what in self._servers.overdue(limits.worker_timeout_s):
            self._give_up(
                server, f"{server.name} did not {what} within {limits.worker_timeout_s:g} s"
            )

    def _give_up(self, process: Process, why: str) -> None:
        """End a process that has been waited for too long, and start another in its place."""
        if not self._has_begun:
            raise Halted(why)
        self.fleet.stop(process)
        self._ended(process, f"{why} and was ended")

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
        workers = [worker for worker in self.fleet.of("worker") if not worker.waits_for_room]
        return bool(workers or self._events) and all(worker.is_ready for worker in workers)

    def _one(self, command: Command) -> None:
        if isinstance(command, SendParameters):
            self._members.send(command)
        elif isinstance(command, Commit):
            self._servers.make(command)
        elif isinstance(command, Free):
            self.requests.decide(command.ticket.key)
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
        requests = [self._decided(each.ticket.key) for each in command.contributions]
        self.neg_elbos.append(sum(request.neg_elbo for request in requests) / len(requests))
        self._carry_out()

    def _decided(self, key: TicketId) -> RequestSlots:
        request = self.requests.decide(key)
        assert request is not None
        return request
