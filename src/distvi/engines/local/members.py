"""Workers between the protocol, which has members, and the crew, which has processes.

A member is an incarnation of a worker. It ends with its process, or is dismissed when it has been
silent for too long; then the same process is let in again once it has answered all it was asked.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from distvi.engines.base import Halted
from distvi.engines.local.crew import Child, Crew
from distvi.engines.local.messages import Abandon, Compute
from distvi.engines.local.orders import Order, Orders
from distvi.engines.local.watch import Watch
from distvi.protocol import (
    Cancel,
    Dismiss,
    Event,
    GradientArrived,
    GradientUnusable,
    Ignored,
    Joined,
    Left,
    Reason,
    SendParameters,
)

_OVERTAKEN = 2  # cancelled orders that a worker has not answered, until it is told of no more
_TOO_LATE = 5  # gradients of each worker that come too late, between updates, until the run halts


@dataclass(eq=False, slots=True)
class Member:
    """A worker as the protocol knows it.

    Attributes:
        incarnation: The highest so far.
        batch: Its next.
        is_member: Whether it has joined, and has not been dismissed since.
        untold: Orders that it will be told of when it has answered older ones.
        dismissal: Why it was dismissed last.
    """

    incarnation: int = -1
    batch: int = 0
    is_member: bool = False
    untold: deque[Order] = field(default_factory=deque)
    dismissal: str = ""


@dataclass(eq=False)
class Members:
    """All workers.

    Attributes:
        each: By number.
        orders: That they have been given.
        crew: Their processes.
        watch: Told what happens when.
        events: Where the protocol will hear of who joins and leaves.
        batch_size: Examples in a gradient.
    """

    each: Sequence[Member]
    orders: Orders
    crew: Crew
    watch: Watch
    events: deque[Event]
    batch_size: int
    _too_late: int = 0

    # What they do

    def join(self, worker: int) -> None:
        """Let a worker in, or in again."""
        member = self.each[worker]
        member.incarnation += 1
        member.is_member = True
        self.events.append(Joined(worker, member.incarnation))

    def answered(self, child: Child) -> None:
        """A worker has answered an order, or given it up."""
        member = self.each[child.number]
        own = self.orders.unanswered(child.number)
        self.watch.answered(child.number, has_more=any(map(self.orders.may_begin, own)))
        if not member.is_member:
            self._late(child, member)
            self._rejoin(child)
        self._tell_more(child, member)

    def _late(self, child: Child, member: Member) -> None:
        """Gradients that all come too late would be computed in vain for ever."""
        self._too_late += 1
        if self._too_late >= _TOO_LATE * len(self.each):
            raise Halted(
                f"{self._too_late} gradients in a row came after their worker had been dismissed, "
                f"the last from {child.name} ({member.dismissal}): gradients take longer than "
                "that; give the workers more patience"
            )

    def _rejoin(self, child: Child) -> None:
        if not self.each[child.number].is_member and not self.orders.unanswered(child.number):
            self.join(child.number)

    def ended(self, worker: int) -> None:
        """A worker's process is dead, and touches no slot any more."""
        member = self.each[worker]
        member.untold.clear()
        for order in self.orders.unanswered(worker):
            self._drop(order)
        if member.is_member:
            self.events.append(Left(worker, member.incarnation))
            member.is_member = False

    def updated(self) -> None:
        """An update was made: not all gradients come too late, and those on it are begun."""
        self._too_late = 0
        for worker in self.orders.at_work:
            if self.each[worker].is_member:
                self.watch.began(worker)

    @property
    def are_computing(self) -> bool:
        """Whether a gradient is in the making that the protocol waits for."""
        return any(
            member.is_member and not order.decided
            for worker, member in enumerate(self.each)
            for order in self.orders.unanswered(worker)
        )

    @property
    def dismissed(self) -> list[str]:
        """Those that live and are no members: they may come back."""
        workers = self.crew.of("worker")
        return [child.name for child in workers if not self.each[child.number].is_member]

    # What they are told

    def send(self, command: SendParameters) -> None:
        """Ask for a gradient."""
        member = self.each[command.worker]
        order = self.orders.open(command, self.batch_size)
        child = self.crew.children.get(("worker", command.worker))
        if child is None or command.incarnation != member.incarnation or not member.is_member:
            self._drop(order)  # it died, or was dismissed, and the protocol will hear of it next
            return
        member.untold.append(order)
        self._tell_more(child, member)

    def _tell_more(self, child: Child, member: Member) -> None:
        """Tell a worker of its orders, but let one that is stopped not heap up cancelled ones."""
        while member.untold and self.orders.overtaken(child.number) < _OVERTAKEN:
            order = member.untold.popleft()
            version, slots = order.command.version, (order.parameters, order.gradient)
            child.tell(Compute(order.number, version, *slots, member.batch))
            member.batch += 1
            self.watch.sent()
            if self.orders.may_begin(order):
                self.watch.began(child.number)

    def cancel(self, command: Cancel) -> None:
        """Let an order be abandoned."""
        order = self.orders.decide((command.worker, command.incarnation, command.sequence))
        if order is None or order.answered:
            return
        member = self.each[command.worker]
        child = self.crew.children.get(("worker", command.worker))
        if order in member.untold:
            member.untold.remove(order)
            self._drop(order)
        elif child is not None:
            child.tell(Abandon(order.number))

    def dismiss(self, command: Dismiss) -> None:
        """Wait for a worker no more."""
        member = self.each[command.worker]
        self.orders.decide_all(command.worker, command.incarnation)
        if command.incarnation != member.incarnation or not member.is_member:
            return  # it has died, and may be back already
        member.is_member, member.dismissal = False, command.reason
        while member.untold:
            self._drop(member.untold.popleft())
        self.watch.dismissed(command)
        child = self.crew.children.get(("worker", command.worker))
        if child is not None:
            self._rejoin(child)  # where its answer came while the command waited

    def ignored(self, command: Ignored) -> None:
        """The protocol has no use for a gradient of one that is no member any more."""
        event = command.event
        gone = (Reason.UNKNOWN_WORKER, Reason.OTHER_INCARNATION)
        if isinstance(event, GradientArrived | GradientUnusable) and command.reason in gone:
            self.orders.decide(event.ticket.key)

    def _drop(self, order: Order) -> None:
        """Nobody computes it, and nobody wants it."""
        self.orders.decide(order.ticket.key)
        self.orders.answer(order.number)
