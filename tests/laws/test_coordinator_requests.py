"""No slot is given out while somebody may touch it, and none is lost; nor is what is remembered."""

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from distvi.engines.coordinator.requests import Memories, Requests, RequestSlots, Versions
from distvi.engines.coordinator.slots import CAPACITY, FreeSlots
from distvi.errors import RunFailed
from distvi.protocol import SendParameters

WORKERS = 3


@dataclass(eq=False)
class Told:
    """A request as its worker, the protocol and the servers see it.

    Attributes:
        request: The request.
        memory: The slot that its worker was given; -1: none.
        may_be_touched: Whether its worker has not answered.
        is_wanted: Whether the protocol has not decided.
        is_kept: Whether the servers may need it again.
    """

    request: RequestSlots
    memory: int
    may_be_touched: bool = True
    is_wanted: bool = True
    is_kept: bool = False

    @property
    def worker(self) -> int:
        return self.request.command.worker

    @property
    def number(self) -> int:
        return self.request.number

    @property
    def is_over(self) -> bool:
        """Whether its payload's slot may be given out again."""
        return not (self.may_be_touched or self.is_wanted or self.is_kept)


class Slots(RuleBasedStateMachine):
    """Workers that answer, die and are dismissed while versions come and go, in any order."""

    @initialize(
        keeps_base=st.booleans(), begun=st.none() | st.sets(st.integers(0, WORKERS - 1), max_size=2)
    )
    def set_up(self, *, keeps_base: bool, begun: set[int] | None) -> None:
        self.versions = Versions(0)
        self.memories = None if begun is None else Memories(begun)
        self.requests = Requests(self.versions, keeps_base=keeps_base, memories=self.memories)
        self.keeps_base = keeps_base
        self.told: list[Told] = []
        self.promised: int | None = None
        self.sequence = self.lost = 0
        # What each worker has remembered in its present life: number of the request, slot.
        self.remembered: list[list[tuple[int, int]]] = [[] for _ in range(WORKERS)]
        for worker in sorted(begun or ()):
            assert self.memories is not None
            self.remembered[worker] = [(0, self.memories.slot(worker))]

    def those(self, *, unanswered: bool | None = None, wanted: bool | None = None) -> list[Told]:
        return [
            each
            for each in self.told
            if unanswered in (None, each.may_be_touched) and wanted in (None, each.is_wanted)
        ]

    def readers(self) -> set[int]:
        """Slots of parameters that workers, or servers that need them, may still read."""
        return {
            each.request.parameters
            for each in self.told
            if each.may_be_touched or (self.keeps_base and not each.is_over)
        }

    def settled(self, worker: int) -> tuple[int, int] | None:
        """The last request that is answered and decided, and after which something is known."""
        undecided = {each.number for each in self.those(wanted=True)}
        known = [each for each in self.remembered[worker] if each[0] not in undecided]
        return known[-1] if known else None

    # Requests

    @rule(worker=st.integers(0, WORKERS - 1), on_newest=st.booleans())
    def send(self, worker: int, *, on_newest: bool) -> None:
        version = self.versions.newest if on_newest else self.versions.latest
        self.sequence += 1
        request = self.requests.open(SendParameters(worker, 0, self.sequence, version), size=4)
        is_complete = version == self.versions.newest
        assert self.requests.may_begin(request) == is_complete
        assert request.parameters == (self.versions.slot if is_complete else self.promised)
        assert request.payload not in {each.request.payload for each in self.told}
        assert (request.memory >= 0) == (self.memories is not None)
        if self.memories is not None:
            assert request.memory not in self.memories_in_use()
        self.told.append(Told(request, request.memory))

    @precondition(lambda self: self.those(unanswered=True))
    @rule(data=st.data(), is_finite=st.booleans())
    def answer(self, data: st.DataObject, *, is_finite: bool) -> None:
        """A worker answers its requests in their order."""
        first = {each.worker: each for each in reversed(self.those(unanswered=True))}
        each = data.draw(st.sampled_from([first[worker] for worker in sorted(first)]))
        assert self.requests.answer(each.number, remembers=is_finite) is each.request
        each.may_be_touched = False
        if is_finite and self.memories is not None:
            self.remembered[each.worker].append((each.number, each.memory))
        self.close()

    @precondition(lambda self: self.those(wanted=True))
    @rule(data=st.data())
    def decide(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from(self.those(wanted=True)))
        assert self.requests.of(each.request.ticket) is each.request
        assert self.requests.decide(each.request.ticket.key) is each.request
        each.is_wanted = False
        self.close()

    @precondition(lambda self: self.those(unanswered=False, wanted=True))
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from(self.those(unanswered=False, wanted=True)))
        each.request.is_kept = each.is_kept = True
        self.requests.decide(each.request.ticket.key)
        each.is_wanted = False

    @precondition(lambda self: any(each.is_kept for each in self.told))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        kept = [each for each in self.told if each.is_kept]
        each = data.draw(st.sampled_from(kept))
        self.requests.release(each.request)
        each.is_kept = False
        self.close()

    @rule(worker=st.integers(0, WORKERS - 1))
    def dismiss(self, worker: int) -> None:
        self.requests.decide_all(worker, incarnation=0)
        for each in self.those(unanswered=True):
            if each.worker == worker:
                each.is_wanted = False

    @rule(worker=st.integers(0, WORKERS - 1))
    def die(self, worker: int) -> None:
        """As `distvi.engines.coordinator.membership.Membership.ended` does."""
        for request in self.requests.unanswered(worker):
            self.requests.decide(request.ticket.key)
            self.requests.answer(request.number)
        self.requests.forget(worker)
        for each in self.those(unanswered=True):
            if each.worker == worker:
                each.may_be_touched = each.is_wanted = False
        self.lost += bool(self.remembered[worker])
        self.remembered[worker] = []
        self.close()

    # Versions

    @precondition(lambda self: self.promised is None)
    @rule()
    def begin_update(self) -> None:
        self.promised = self.versions.promise(self.versions.newest + 1)
        assert self.promised not in self.readers() | {self.versions.slot}

    @precondition(lambda self: self.promised is not None)
    @rule()
    def end_update(self) -> None:
        before, slot = self.versions.newest, self.promised
        self.versions.publish()
        assert (self.versions.newest, self.versions.slot) == (before + 1, slot)
        self.promised = None

    def close(self) -> None:
        self.told = [each for each in self.told if not each.is_over]

    # What is promised

    def memories_in_use(self) -> set[int]:
        """Slots that a worker may write, or of which a checkpoint may be made."""
        open_ones = {each.memory for each in self.told if each.may_be_touched or each.is_wanted}
        settled = (self.settled(worker) for worker in range(WORKERS))
        return open_ones | {slot for _, slot in filter(None, settled)}

    @invariant()
    def none_is_lost(self) -> None:
        assert self.requests.used == len(self.told)
        own = {self.versions.slot, self.promised} - {None}
        assert self.versions.used == len(self.readers() | own)
        if self.memories is not None:
            assert self.memories.used == len(self.memories_in_use())

    @invariant()
    def what_is_remembered_is_that_of_the_last_answer_that_is_decided(self) -> None:
        if self.memories is not None:
            for worker in range(WORKERS):
                settled = self.settled(worker)
                assert self.memories.slot(worker) == (-1 if settled is None else settled[1])
            assert self.memories.lost == self.lost

    @invariant()
    def each_is_found(self) -> None:
        for worker in range(WORKERS):
            mine = [each for each in self.those(unanswered=True) if each.worker == worker]
            assert self.requests.unanswered(worker) == [each.request for each in mine]
            assert self.requests.overtaken(worker) == sum(not each.is_wanted for each in mine)


TestSlots = Slots.TestCase
TestSlots.settings = settings(max_examples=100, stateful_step_count=50)


def test_slots_are_given_out_from_the_lowest_on_and_not_without_end() -> None:
    free = FreeSlots("payloads")
    assert [free.take() for _ in range(CAPACITY)] == list(range(CAPACITY))
    with pytest.raises(RunFailed, match=f"more than {CAPACITY} payloads are in use at once"):
        free.take()
    free.give_back(7)
    assert (free.take(), free.used) == (7, CAPACITY)
