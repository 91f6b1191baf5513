"""Who may touch which slot: the life of a request's parameters and payload, without any numbers.

A slot is given out again only when nobody can touch it any more. A worker may read and write the
slots of a request until it has answered or its process is dead, whatever the protocol has decided
meanwhile: a worker that was stopped and dismissed wakes up in the middle of its work.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from distvi.engines.coordinator.slots import FreeSlots
from distvi.protocol import SendParameters, Ticket, TicketId


@dataclass(slots=True)
class RequestSlots:
    """One request for a payload, such as a gradient.

    Attributes:
        number: Its number among all requests of the run.
        command: What the protocol said.
        size: Examples in its batches.
        parameters: The slot that its worker reads.
        payload: The slot that its worker writes.
        memory: The slot to which its worker copies what it remembers; -1: none.
        answered: Whether the worker is done with the slots.
        decided: Whether the protocol is done with the payload.
        is_kept: Whether the servers may need it again.
        remembers: Whether its worker remembers something else since it has answered.
        neg_elbo: What the worker found.
    """

    number: int
    command: SendParameters
    size: int
    parameters: int
    payload: int
    memory: int = -1
    answered: bool = False
    decided: bool = False
    is_kept: bool = False
    remembers: bool = False
    neg_elbo: float = float("nan")

    @property
    def ticket(self) -> Ticket:
        """The ticket of its payload."""
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


class Memories:
    """What workers remember: the slot of each after its last request that is answered and decided.

    Those are what belongs to a checkpoint: a run that goes on from it asks for all later answers
    again.

    Args:
        begun: Workers that remember something from an earlier part of the run.
    """

    def __init__(self, begun: Iterable[int] = ()) -> None:
        self._free = FreeSlots("memories")
        self._settled: dict[int, tuple[int, int]] = {}  # number of the request, slot
        self.lost = 0
        for worker in begun:
            self._settled[worker] = 0, self._free.take()

    def take(self) -> int:
        """A slot that nobody uses."""
        return self._free.take()

    def slot(self, worker: int) -> int:
        """Of what a worker remembers; -1: it begins anew."""
        return self._settled[worker][1] if worker in self._settled else -1

    def settle(self, request: RequestSlots) -> None:
        """A request is answered and decided: what is remembered since takes the old's place."""
        worker = request.command.worker
        newest, slot = self._settled.get(worker, (0, -1))
        if request.remembers and request.number > newest:
            self._settled[worker] = request.number, request.memory
            request.memory = slot
        if request.memory >= 0:
            self._free.give_back(request.memory)
            request.memory = -1

    def forget(self, worker: int, requests: Iterable[RequestSlots]) -> None:
        """A worker is dead, and its memory with it.

        Args:
            worker: Which one.
            requests: Its requests that are not settled.
        """
        remembered = [request for request in requests if request.remembers]
        for request in remembered:
            request.remembers = False
        if settled := self._settled.pop(worker, None):
            self._free.give_back(settled[1])
        self.lost += bool(remembered or settled)

    @property
    def used(self) -> int:
        """Slots in use."""
        return self._free.used


class Requests:
    """All requests of which a slot is in use.

    Args:
        versions: Of the parameters.
        keeps_base: Whether servers need the parameters that a payload was computed on.
        memories: What each worker remembers at first, by slot; None: workers remember nothing.
    """

    def __init__(
        self,
        versions: Versions,
        *,
        keeps_base: bool = False,
        memories: Memories | None = None,
    ) -> None:
        self._versions, self.keeps_base = versions, keeps_base
        self.memories = memories
        self._free = FreeSlots("payloads")
        self._count = 0
        self._by_number: dict[int, RequestSlots] = {}
        self._by_key: dict[TicketId, RequestSlots] = {}

    def open(self, command: SendParameters, size: int) -> RequestSlots:
        """A new request on the newest version, or on the one in the making."""
        self._count += 1
        request = RequestSlots(
            self._count,
            command,
            size,
            parameters=self._versions.read(command.version),
            payload=self._free.take(),
            memory=-1 if self.memories is None else self.memories.take(),
        )
        self._by_number[request.number] = request
        self._by_key[command.worker, command.incarnation, command.sequence] = request
        return request

    def answer(self, number: int, *, remembers: bool = False) -> RequestSlots:
        """The worker will not touch the request's slots any more.

        Args:
            number: Of the request.
            remembers: Whether what it remembers has changed.
        """
        request = self._by_number[number]
        request.answered, request.remembers = True, remembers
        if not self.keeps_base:
            self._versions.release(request.parameters)
        self._settle(request)
        return request

    def decide(self, key: TicketId) -> RequestSlots | None:
        """The protocol has no more use for the payload."""
        request = self._by_key.get(key)
        if request is not None and not request.decided:
            request.decided = True
            self._settle(request)
        return request

    def release(self, request: RequestSlots) -> None:
        """The servers have no more use for a payload that was kept for them."""
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
        return {each.command.worker for each in self._by_number.values() if not each.answered}

    def overtaken(self, worker: int) -> int:
        """Requests on which a worker computes although nobody wants them any more."""
        return sum(request.decided for request in self.unanswered(worker))

    def of(self, ticket: Ticket) -> RequestSlots:
        """The request of a payload that has not been decided, or is kept."""
        return self._by_key[ticket.key]

    def forget(self, worker: int) -> None:
        """A worker is dead, and what it remembered with it."""
        if self.memories is not None:
            own = [each for each in self._by_number.values() if each.command.worker == worker]
            self.memories.forget(worker, own)

    def _settle(self, request: RequestSlots) -> None:
        if request.answered and request.decided:
            if self.memories is not None:
                self.memories.settle(request)
            self._close(request)

    def _close(self, request: RequestSlots) -> None:
        if request.answered and request.decided and not request.is_kept:
            self._free.give_back(request.payload)
            if self.keeps_base:
                self._versions.release(request.parameters)
            del self._by_number[request.number], self._by_key[request.ticket.key]

    @property
    def used(self) -> int:
        """Payload slots in use."""
        return self._free.used
