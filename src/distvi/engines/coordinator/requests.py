"""Who may touch which slot: the life of a request's parameters and gradient, without any numbers.

A slot is given out again only when nobody can touch it any more. A worker may read and write the
slots of a request until it has answered or its process is dead, whatever the protocol has decided
meanwhile: a worker that was stopped and dismissed wakes up in the middle of its gradient.
"""

from dataclasses import dataclass

from distvi.engines.local.memory import FreeSlots
from distvi.protocol import SendParameters, Ticket

TicketId = tuple[int, int, int]


@dataclass(slots=True)
class RequestSlots:
    """One request for a gradient.

    Attributes:
        number: Its number among all requests of the run.
        command: What the protocol said.
        size: Examples in the gradient's batch.
        parameters: The slot that its worker reads.
        gradient: The slot that its worker writes.
        answered: Whether the worker is done with both slots.
        decided: Whether the protocol is done with the gradient.
        is_kept: Whether the servers may need it again.
        neg_elbo: What the worker found.
    """

    number: int
    command: SendParameters
    size: int
    parameters: int
    gradient: int
    answered: bool = False
    decided: bool = False
    is_kept: bool = False
    neg_elbo: float = float("nan")

    @property
    def ticket(self) -> Ticket:
        """The ticket of its gradient."""
        command = self.command
        return Ticket(
            command.worker, command.incarnation, command.sequence, command.version, self.size
        )


class Versions:
    """Slots of the versions of the parameters that somebody may still read.

    Args:
        version: The first.
    """

    def __init__(self, version: int) -> None:
        self._free = FreeSlots("versions of the parameters")
        self._readers: dict[int, int] = {}
        self.newest, self.slot = version, self._claim()
        self._promised: tuple[int, int] | None = None

    def _claim(self) -> int:
        """A slot with one reader: whoever claimed it."""
        slot = self._free.take()
        self._readers[slot] = 1
        return slot

    def promise(self, version: int) -> int:
        """A slot for a version in the making."""
        slot = self._claim()
        self._promised = version, slot
        return slot

    @property
    def latest(self) -> int:
        """The newest version, or the one in the making."""
        return self.newest if self._promised is None else self._promised[0]

    def read(self, version: int) -> int:
        """The slot of the newest version, or of the one in the making, for one more reader."""
        slot = self.slot
        if version != self.newest:
            assert self._promised is not None
            promised, slot = self._promised
            assert version == promised
        self._readers[slot] += 1
        return slot

    def release(self, slot: int) -> None:
        """One reader fewer."""
        self._readers[slot] -= 1
        if not self._readers[slot]:
            del self._readers[slot]
            self._free.give_back(slot)

    def publish(self) -> None:
        """The version that was promised is complete: it is the newest."""
        assert self._promised is not None
        self.release(self.slot)
        (self.newest, self.slot), self._promised = self._promised, None

    @property
    def used(self) -> int:
        """Slots in use."""
        return self._free.used


class Requests:
    """All requests of which a slot is in use.

    Args:
        versions: Of the parameters.
    """

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._free = FreeSlots("gradients")
        self._count = 0
        self._by_number: dict[int, RequestSlots] = {}
        self._by_key: dict[TicketId, RequestSlots] = {}

    def open(self, command: SendParameters, size: int) -> RequestSlots:
        """A new request on the newest version, or on the one in the making."""
        self._count += 1
        parameters, gradient = self._versions.read(command.version), self._free.take()
        request = RequestSlots(self._count, command, size, parameters, gradient)
        self._by_number[request.number] = request
        self._by_key[command.worker, command.incarnation, command.sequence] = request
        return request

    def answer(self, number: int) -> RequestSlots:
        """The worker will not touch the request's slots any more."""
        request = self._by_number[number]
        request.answered = True
        self._versions.release(request.parameters)
        self._close(request)
        return request

    def decide(self, key: TicketId) -> RequestSlots | None:
        """The protocol has no more use for the gradient."""
        request = self._by_key.get(key)
        if request is not None:
            request.decided = True
            self._close(request)
        return request

    def release(self, request: RequestSlots) -> None:
        """The servers have no more use for a gradient that was kept for them."""
        request.is_kept = False
        self._close(request)

    def decide_all(self, worker: int, incarnation: int) -> None:
        """The requests on which an incarnation still computes have ended with it."""
        for request in self.unanswered(worker, incarnation):
            self.decide(request.ticket.key)

    def unanswered(self, worker: int, incarnation: int | None = None) -> list[RequestSlots]:
        """Requests whose slots a worker may still touch."""
        return [
            request
            for request in self._by_number.values()
            if request.command.worker == worker
            and not request.answered
            and incarnation in (None, request.command.incarnation)
        ]

    def may_begin(self, request: RequestSlots) -> bool:
        """Whether its version is known to be complete."""
        return request.command.version <= self._versions.newest

    @property
    def at_work(self) -> set[int]:
        """Workers that have not answered all their requests."""
        return {o.command.worker for o in self._by_number.values() if not o.answered}

    def overtaken(self, worker: int) -> int:
        """Requests on which a worker computes although nobody wants them any more."""
        return sum(request.decided for request in self.unanswered(worker))

    def of(self, ticket: Ticket) -> RequestSlots:
        """The order of a gradient that has not been decided, or is kept."""
        return self._by_key[ticket.key]

    def _close(self, request: RequestSlots) -> None:
        if request.answered and request.decided and not request.is_kept:
            self._free.give_back(request.gradient)
            del self._by_number[request.number], self._by_key[request.ticket.key]

    @property
    def used(self) -> int:
        """Gradient slots in use."""
        return self._free.used
