"""No slot of the local engine is given out while somebody may touch it, and none is lost."""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from distvi.engines.local.orders import Order, Orders, Versions
from distvi.protocol import SendParameters

WORKERS = 3


@dataclass(eq=False)
class Told:
    """An order as its worker and the protocol see it."""

    order: Order
    may_be_touched: bool = True
    is_wanted: bool = True

    @property
    def is_over(self) -> bool:
        """Whether its gradient's slot may be given out again."""
        return not (self.may_be_touched or self.is_wanted or self.order.is_kept)


class Slots(RuleBasedStateMachine):
    """Workers that answer, die and are dismissed while versions come and go, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.versions = Versions(0)
        self.orders = Orders(self.versions)
        self.told: list[Told] = []
        self.claimed: int | None = None
        self.sequence = 0

    def those(self, *, touched: bool | None = None, wanted: bool | None = None) -> list[Told]:
        return [
            each
            for each in self.told
            if touched in (None, each.may_be_touched) and wanted in (None, each.is_wanted)
        ]

    @rule(worker=st.integers(0, WORKERS - 1), on_newest=st.booleans())
    def send(self, worker: int, *, on_newest: bool) -> None:
        version = self.versions.newest if on_newest else self.versions.latest
        self.sequence += 1
        order = self.orders.open(SendParameters(worker, 0, self.sequence, version), size=4)
        is_complete = version == self.versions.newest
        assert self.orders.may_begin(order) == is_complete
        assert order.parameters == (self.versions.slot if is_complete else self.claimed)
        assert order.gradient not in {each.order.gradient for each in self.told}
        self.told.append(Told(order))

    @precondition(lambda self: self.those(touched=True))
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from(self.those(touched=True)))
        assert self.orders.answer(each.order.number) is each.order
        each.may_be_touched = False
        self.close()

    @precondition(lambda self: self.those(wanted=True))
    @rule(data=st.data())
    def decide(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from(self.those(wanted=True)))
        assert self.orders.of(each.order.ticket) is each.order
        assert self.orders.decide(each.order.ticket.key) is each.order
        each.is_wanted = False
        self.close()

    @precondition(lambda self: self.those(touched=False, wanted=True))
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from(self.those(touched=False, wanted=True)))
        each.order.is_kept = True
        self.orders.decide(each.order.ticket.key)
        each.is_wanted = False

    @precondition(lambda self: any(each.order.is_kept for each in self.told))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        kept = [each for each in self.told if each.order.is_kept]
        self.orders.release(data.draw(st.sampled_from(kept)).order)
        self.close()

    @rule(worker=st.integers(0, WORKERS - 1))
    def dismiss(self, worker: int) -> None:
        self.orders.decide_all(worker, incarnation=0)
        for each in self.those(touched=True):
            if each.order.command.worker == worker:
                each.is_wanted = False

    @precondition(lambda self: self.claimed is None)
    @rule()
    def begin_update(self) -> None:
        in_use = {each.order.parameters for each in self.those(touched=True)}
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
        assert self.orders.used == len(self.told)
        read = {each.order.parameters for each in self.those(touched=True)}
        assert self.versions.used == len(read | {self.versions.slot, self.claimed} - {None})

    @invariant()
    def each_is_found(self) -> None:
        for worker in range(WORKERS):
            mine = [
                each for each in self.those(touched=True) if each.order.command.worker == worker
            ]
            assert self.orders.unanswered(worker) == [each.order for each in mine]
            assert self.orders.overtaken(worker) == sum(not each.is_wanted for each in mine)


TestSlots = Slots.TestCase
TestSlots.settings = settings(max_examples=50, stateful_step_count=50)
