"""No slot of the local engine is given out while somebody may touch it, and none is lost."""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from distvi.engines.coordinator.requests import Requests, RequestSlots, Versions
from distvi.protocol import SendParameters

WORKERS = 3


@dataclass(eq=False)
class Told:
    """A request as its worker and the protocol see it."""

    request: RequestSlots
    may_be_touched: bool = True
    is_wanted: bool = True

    @property
    def is_over(self) -> bool:
        """Whether its gradient's slot may be given out again."""
        return not (self.may_be_touched or self.is_wanted or self.request.is_kept)


class Slots(RuleBasedStateMachine):
    """Workers that answer, die and are dismissed while versions come and go, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.versions = Versions(0)
        self.requests = Requests(self.versions)
        self.told: list[Told] = []
        self.claimed: int | None = None
        self.sequence = 0

    def those(self, *, to_ask: bool | None = None, wanted: bool | None = None) -> list[Told]:
        return [
            each
            for each in self.told
            if to_ask in (None, each.may_be_touched) and wanted in (None, each.is_wanted)
        ]

    @rule(worker=st.integers(0, WORKERS - 1), on_newest=st.booleans())
    def send(self, worker: int, *, on_newest: bool) -> None:
        version = self.versions.newest if on_newest else self.versions.latest
        self.sequence += 1
        request = self.requests.open(SendParameters(worker, 0, self.sequence, version), size=4)
        is_complete = version == self.versions.newest
        assert self.requests.may_begin(request) == is_complete
        assert request.parameters == (self.versions.slot if is_complete else self.claimed)
        assert request.gradient not in {each.request.gradient for each in self.told}
        self.told.append(Told(request))

    @precondition(lambda self: self.those(to_ask=True))
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from(self.those(to_ask=True)))
        assert self.requests.answer(each.request.number) is each.request
        each.may_be_touched = False
        self.close()

    @precondition(lambda self: self.those(wanted=True))
    @rule(data=st.data())
    def decide(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from(self.those(wanted=True)))
        assert self.requests.of(each.request.ticket) is each.request
        assert self.requests.decide(each.request.ticket.key) is each.request
        each.is_wanted = False
        self.close()

    @precondition(lambda self: self.those(to_ask=False, wanted=True))
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from(self.those(to_ask=False, wanted=True)))
        each.request.is_kept = True
        self.requests.decide(each.request.ticket.key)
        each.is_wanted = False

    @precondition(lambda self: any(each.request.is_kept for each in self.told))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        kept = [each for each in self.told if each.request.is_kept]
        self.requests.release(data.draw(st.sampled_from(kept)).request)
        self.close()

    @rule(worker=st.integers(0, WORKERS - 1))
    def dismiss(self, worker: int) -> None:
        self.requests.decide_all(worker, incarnation=0)
        for each in self.those(to_ask=True):
            if each.request.command.worker == worker:
                each.is_wanted = False

    @precondition(lambda self: self.claimed is None)
    @rule()
    def begin_update(self) -> None:
        in_use = {each.request.parameters for each in self.those(to_ask=True)}
        self.claimed = self.versions.promise(self.versions.newest + 1)
        assert self.claimed not in in_use | {self.versions.slot}

    @precondition(lambda self: self.claimed is not None)
    @rule()
    def end_update(self) -> None:
        before, slot = self.versions.newest, self.claimed
        self.versions.publish()
        assert (self.versions.newest, self.versions.slot) == (before + 1, slot)
        self.claimed = None

    def close(self) -> None:
        self.told = [each for each in self.told if not each.is_over]

    @invariant()
    def none_is_lost(self) -> None:
        assert self.requests.used == len(self.told)
        read = {each.request.parameters for each in self.those(to_ask=True)}
        assert self.versions.used == len(read | {self.versions.slot, self.claimed} - {None})

    @invariant()
    def each_is_found(self) -> None:
        for worker in range(WORKERS):
            mine = [
                each for each in self.those(to_ask=True) if each.request.command.worker == worker
            ]
            assert self.requests.unanswered(worker) == [each.request for each in mine]
            assert self.requests.overtaken(worker) == sum(not each.is_wanted for each in mine)


TestSlots = Slots.TestCase
TestSlots.settings = settings(max_examples=50, stateful_step_count=50)
