"""One event's working copy of the state, and the few ways in which it can change.

The outside sees ``react`` as a pure function; inside, one event may send parameters to a thousand
workers, and reads better as a few assignments. Nobody keeps a ``Transaction``; its tables are
immutable and share what did not change with those of the state before.
"""

from types import MappingProxyType
from typing import Any

from distvi.errors import RunFailed
from distvi.protocol.commands import (
    Cancel,
    Command,
    Commit,
    Free,
    Ignored,
    Reason,
    SendParameters,
    Stop,
)
from distvi.protocol.events import Event, Outcome
from distvi.protocol.lifecycle import LIFE, Cause, Status
from distvi.protocol.rules import BROKEN_AFTER, Member, Request, Rules
from distvi.protocol.state import State
from distvi.protocol.tickets import Contribution, Lot, Refusal, Ticket


class Transaction:
    """The state while one event is worked on. It offers what ``View`` promises."""

    def __init__(self, rules: Rules, state: State, now_s: float) -> None:
        self.rules = rules
        self.now_s = max(now_s, state.now_s)
        self.version = state.version
        self.slowest = state.slowest
        self.memory: Any = state.memory
        self.gate = state.gate
        self.at_newest = state.at_newest
        self.examples = state.examples
        self.nonfinite_in_a_row = state.nonfinite_in_a_row
        self.alarm_s = state.alarm_s
        self.idle_since_s = state.idle_since_s
        self.outcome = state.outcome
        self.members = state.members
        self.waiting = state.waiting
        self.broken = state.broken
        self.held = state.held
        self.clocks = state.clocks
        self.incarnations = state.incarnations
        self.counts = dict(state.counts)
        self.commands: list[Command] = []
        self.to_ask: dict[int, None] = {}
        """Workers whose own affairs changed in this event: they are asked again for a start."""
        self.others_awaited = False
        """Whether a barrier may wait for others than before the event."""

    def freeze(self) -> State:
        """The state after the event."""
        return State(
            version=self.version,
            now_s=self.now_s,
            members=self.members,
            waiting=self.waiting,
            broken=self.broken,
            held=self.held,
            clocks=self.clocks,
            slowest=self.slowest,
            incarnations=self.incarnations,
            memory=self.memory,
            gate=self.gate,
            at_newest=self.at_newest,
            counts=MappingProxyType(self.counts),
            examples=self.examples,
            nonfinite_in_a_row=self.nonfinite_in_a_row,
            alarm_s=self.alarm_s,
            idle_since_s=self.idle_since_s,
            outcome=self.outcome,
        )

    # Members

    def ignore(self, event: Event, reason: Reason) -> None:
        """Answer an event that changes nothing."""
        self.commands.append(Ignored(event, reason))

    def hear_of(self, worker: int, incarnation: int) -> None:
        """Remember the highest incarnation, so that none comes back from the dead."""
        if incarnation > self.incarnations.get(worker, -1):
            self.incarnations = self.incarnations.set(worker, incarnation)

    def add_member(self, worker: int, incarnation: int, clock: int | None = None) -> None:
        """Let a worker in, level with the slowest where it brings no clock."""
        self.hear_of(worker, incarnation)
        clock = self.slowest if clock is None else clock
        self.members = self.members.set(worker, Member(worker, incarnation, clock=clock))
        self.waiting = self.waiting.set(worker, None)
        self._move_clock(None, clock)
        self.to_ask[worker] = None
        self.others_awaited = True

    def remove_member(self, record: Member) -> None:
        """Let a worker go; the gradients it was computing are lost, those it delivered stay."""
        self.members = self.members.without(record.worker)
        self.waiting = self.waiting.without(record.worker)
        self.broken = self.broken.without(record.worker)
        self.to_ask.pop(record.worker, None)
        for request in record.requests:
            self._move(Status.COMPUTING, Cause.WORKER_GONE)
            self._leave_newest(request.base)
        self._move_clock(record.clock, None)
        self.others_awaited = True

    def replace_member(self, record: Member, incarnation: int) -> None:
        """A worker is back before it was missed: it goes on at its clock, and all clocks stay."""
        slowest = self.slowest
        self.remove_member(record)
        self.add_member(record.worker, incarnation, record.clock)
        self.slowest = slowest

    def judge(self, worker: int, unusable_in_a_row: int) -> None:
        """Note how many answers of a member in a row were of no use; none after a usable one."""
        record = self.members[worker]
        if record.unusable_in_a_row == unusable_in_a_row:
            return
        record = record._replace(unusable_in_a_row=unusable_in_a_row)
        self.members = self.members.set(worker, record)
        if unusable_in_a_row == 0:
            self.broken = self.broken.without(worker)
        elif unusable_in_a_row == BROKEN_AFTER:
            self.broken = self.broken.set(worker, None)
            self.others_awaited = True

    def _move_clock(self, before: int | None, after: int | None) -> None:
        if after is not None:
            self.clocks = self.clocks.set(after, self.clocks.get(after, 0) + 1)
        if before is None:
            return
        if left := self.clocks[before] - 1:
            self.clocks = self.clocks.set(before, left)
            return
        self.clocks = self.clocks.without(before)
        if before == self.slowest and self.clocks:
            self.slowest = min(self.clocks)

    # The life of a gradient: each change is a move in the table LIFE

    def _move(self, status: Status, cause: Cause) -> None:
        self.counts[status] -= 1
        self.counts[LIFE[status][cause]] += 1

    def _leave_newest(self, base: int) -> None:
        if base == self.version:
            self.at_newest -= 1

    def send(self, record: Member) -> Member:
        """Request a gradient from a worker, on the newest version."""
        request = Request(record.sequence, self.version, self.now_s)
        record = record._replace(sequence=record.sequence + 1, requests=(*record.requests, request))
        self.members = self.members.set(record.worker, record)
        self.counts[Status.COMPUTING] += 1
        self.at_newest += 1
        self.commands.append(
            SendParameters(record.worker, record.incarnation, request.sequence, request.base)
        )
        return record

    def deliver(self, record: Member, request: Request) -> None:
        """A request was answered, well or badly: the worker is one gradient further."""
        left = tuple(
            other._replace(since_s=self.now_s) for other in record.requests if other is not request
        )
        took_s = self.now_s - request.since_s
        record = record._replace(clock=record.clock + 1, requests=left, took_s=took_s)
        self.members = self.members.set(record.worker, record)
        self._move_clock(record.clock - 1, record.clock)
        self._has_room(record.worker)

    def hold(self, ticket: Ticket) -> None:
        """Take a gradient that arrived into custody."""
        self._move(Status.COMPUTING, Cause.ARRIVES)
        held = (*self.held.get(ticket.worker, ()), ticket)
        self.held = self.held.set(ticket.worker, held)

    def discard(self, ticket: Ticket, base: int, reason: str, cause: Cause) -> None:
        """Drop a gradient that no stage may see."""
        self._move(Status.COMPUTING, cause)
        self._leave_newest(base)
        self.commands.append(Free(ticket, reason))

    def refuse(self, refusal: Refusal, cause: Cause = Cause.NOT_TAKEN) -> None:
        """Drop a gradient that was held."""
        self._release(refusal.ticket, cause)
        self._leave_newest(refusal.ticket.base)
        self.commands.append(Free(refusal.ticket, refusal.reason))

    def commit(self, lot: Lot) -> None:
        """Make one update of gradients that were held."""
        for part in lot:
            self._release(part.ticket, Cause.PASSED)
            self.examples += part.ticket.size
        self.version += 1
        self.at_newest = 0
        self.commands.append(Commit(self.version, tuple(sorted(lot, key=_order_of_sum))))

    def _release(self, ticket: Ticket, cause: Cause) -> None:
        held = self.held.get(ticket.worker, ())
        kept = tuple(other for other in held if other is not ticket)
        if len(kept) == len(held):
            raise RunFailed(
                f"a stage of scheme {self.rules.scheme.name} decided twice on {ticket}, or made "
                "it up: a stage may pass or refuse each ticket that it was given once"
            )
        self.held = self.held.set(ticket.worker, kept) if kept else self.held.without(ticket.worker)
        self._move(Status.HELD, cause)
        if ticket.worker in self.waiting:
            self.to_ask[ticket.worker] = None

    def cancel_requests(self, record: Member) -> None:
        """Make a worker abandon all that it computes."""
        for request in record.requests:
            self._move(Status.COMPUTING, Cause.OVERTAKEN)
            self._leave_newest(request.base)
            self.commands.append(Cancel(record.worker, record.incarnation, request.sequence))
        self.members = self.members.set(record.worker, record._replace(requests=()))
        self._has_room(record.worker)

    def _has_room(self, worker: int) -> None:
        if worker not in self.waiting:
            self.waiting = self.waiting.set(worker, None)
        self.to_ask[worker] = None

    def has_no_room(self, worker: int) -> None:
        """A worker has all the requests it may have."""
        self.waiting = self.waiting.without(worker)

    def stop(self, outcome: Outcome, reason: str) -> None:
        """End the run; what is held will not be used."""
        self.outcome = outcome
        for ticket in [ticket for tickets in self.held.values() for ticket in tickets]:
            self.refuse(Refusal(ticket, Reason.STOPPED), Cause.STOP)
        self.memory = self.rules.scheme.stage.init()
        self.commands.append(Stop(outcome, reason))


def _order_of_sum(part: Contribution) -> tuple[int, int, int]:
    return part[0].key
