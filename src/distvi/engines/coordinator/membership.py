"""Workers between the protocol, which has members, and the fleet, which has processes.

A member is an incarnation of a worker. One whose process has died stays a member until the process
in its place is ready, and joins as its next incarnation: so lockstep waits for it, and its updates
are those of an undisturbed run. One that is not replaced has left. And one that has been silent for
too long is dismissed, whether it lives or is being replaced; a process that lives is let in again
once it has answered all it was asked.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from distvi.engines.base import Halted
from distvi.engines.coordinator.fleet import Fleet, Process
from distvi.engines.coordinator.messages import Abandon, Compute
from distvi.engines.coordinator.requests import Requests, RequestSlots
from distvi.engines.coordinator.status import StatusTracker
from distvi.protocol import (
    Cancel,
    Dismiss,
    Event,
    GradientArrived,
    GradientNonFinite,
    Ignored,
    Joined,
    Left,
    Reason,
    SendParameters,
)

_OVERTAKEN = 2  # cancelled requests that a worker has not answered, until it is told of no more
_TOO_LATE = 5  # answers of each worker that come too late, between updates, until the run halts


@dataclass(eq=False, slots=True)
class WorkerRecord:
    """A worker as the protocol knows it.

    Attributes:
        incarnation: The highest so far.
        turn: Number of its next request, counted from the run's first.
        is_member: Whether its process has joined, and has not been dismissed since.
        untold: Requests that it will be told of when it has answered older ones.
        dismissal: Why it was dismissed last.
    """

    incarnation: int = -1
    turn: int = 0
    is_member: bool = False
    untold: deque[RequestSlots] = field(default_factory=deque)
    dismissal: str = ""


@dataclass(eq=False)
class Membership:
    """All workers.

    Attributes:
        each: By number.
        requests: That they have been given.
        fleet: Their processes.
        tracker: Told what happens when.
        events: Where the protocol will hear of who joins and leaves.
        request_size: Examples in a request's batches.
    """

    each: Sequence[WorkerRecord]
    requests: Requests
    fleet: Fleet
    tracker: StatusTracker
    events: deque[Event]
    request_size: int
    _too_late: int = 0

    # What they do

    def join(self, worker: int) -> None:
        """Let a worker in, or in again."""
        member = self.each[worker]
        member.incarnation += 1
        member.is_member = True
        self.events.append(Joined(worker, member.incarnation))

    def answered(self, process: Process) -> None:
        """A worker has answered a request, or given it up."""
        member = self.each[process.number]
        own = self.requests.unanswered(process.number)
        self.tracker.answered(process.number, has_more=any(map(self.requests.may_begin, own)))
        if not member.is_member:
            self._late(process, member)
            self._rejoin(process)
        self._tell_more(process, member)

    def _late(self, process: Process, member: WorkerRecord) -> None:
        """Answers that all come too late would be computed in vain for ever."""
        self._too_late += 1
        if self._too_late >= _TOO_LATE * len(self.each):
            raise Halted(
                f"{self._too_late} gradients in a row came after their worker had been dismissed, "
                f"the last from {process.name} ({member.dismissal}): gradients take longer than "
                "that; give the workers more time with --worker-timeout-s"
            )

    def _rejoin(self, process: Process) -> None:
        if not self.each[process.number].is_member and not self.requests.unanswered(process.number):
            self.join(process.number)

    def ended(self, worker: int) -> None:
        """A worker's process is dead, and touches no slot any more."""
        member = self.each[worker]
        unanswered = self.requests.unanswered(worker)
        member.turn -= len(unanswered) - len(member.untold)  # their batches are asked for again
        member.untold.clear()
        for request in unanswered:
            self._drop(request)
        self.requests.forget(worker)
        member.is_member = False

    def left(self, worker: int) -> None:
        """Nobody is to wait for a worker that has ended; if it has left before, nothing changes."""
        if (incarnation := self.each[worker].incarnation) >= 0:
            self.events.append(Left(worker, incarnation))

    def updated(self) -> None:
        """An update was made: not all answers come too late, and those on it are begun."""
        self._too_late = 0
        for worker in self.requests.at_work:
            if self.each[worker].is_member:
                self.tracker.began(worker)

    @property
    def are_computing(self) -> bool:
        """Whether an answer is in the making that the protocol waits for."""
        return any(
            member.is_member and not request.decided
            for worker, member in enumerate(self.each)
            for request in self.requests.unanswered(worker)
        )

    @property
    def dismissed(self) -> list[str]:
        """Those that live and are no members: they may come back."""
        workers = self.fleet.of("worker")
        return [process.name for process in workers if not self.each[process.number].is_member]

    # What they are told

    def send(self, command: SendParameters) -> None:
        """Send a request."""
        member = self.each[command.worker]
        request = self.requests.open(command, self.request_size)
        process = self.fleet.processes.get(("worker", command.worker))
        if process is None or command.incarnation != member.incarnation or not member.is_member:
            self._drop(request)  # it died, or was dismissed, and the protocol will hear of it next
            return
        member.untold.append(request)
        self._tell_more(process, member)

    def _tell_more(self, process: Process, member: WorkerRecord) -> None:
        """Tell a worker of its requests, but let one that is stopped not heap up cancelled ones."""
        while member.untold and self.requests.overtaken(process.number) < _OVERTAKEN:
            request = member.untold.popleft()
            slots = request.parameters, request.payload, request.memory
            message = Compute(request.number, request.command.version, *slots, member.turn)
            self.fleet.send(process, message)
            member.turn += 1
            self.tracker.sent()
            if self.requests.may_begin(request):
                self.tracker.began(process.number)

    def cancel(self, command: Cancel) -> None:
        """Let a request be abandoned."""
        request = self.requests.decide((command.worker, command.incarnation, command.sequence))
        if request is None or request.answered:
            return
        member = self.each[command.worker]
        process = self.fleet.processes.get(("worker", command.worker))
        if request in member.untold:
            member.untold.remove(request)
            self._drop(request)
        elif process is not None:
            self.fleet.send(process, Abandon(request.number))

    def dismiss(self, command: Dismiss) -> None:
        """Wait for a worker no more."""
        member = self.each[command.worker]
        self.requests.decide_all(command.worker, command.incarnation)
        if command.incarnation != member.incarnation or not member.is_member:
            return  # it has died, and may be back already
        member.is_member, member.dismissal = False, command.reason
        while member.untold:
            self._drop(member.untold.popleft())
        self.tracker.dismissed(command)
        process = self.fleet.processes.get(("worker", command.worker))
        if process is not None:
            self._rejoin(process)  # where its answer came while the command waited

    def ignored(self, command: Ignored) -> None:
        """The protocol has no use for the answer of one that is no member any more."""
        event = command.event
        gone = (Reason.UNKNOWN_WORKER, Reason.OTHER_INCARNATION)
        if isinstance(event, GradientArrived | GradientNonFinite) and command.reason in gone:
            self.requests.decide(event.ticket.key)

    def _drop(self, request: RequestSlots) -> None:
        """Nobody computes it, and nobody wants it."""
        self.requests.decide(request.ticket.key)
        self.requests.answer(request.number)
