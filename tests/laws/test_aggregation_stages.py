"""The algebra of stages: chain is associative with an identity, and no gradient is ever lost."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distvi.aggregation import (
    Stage,
    add,
    average,
    average_by_size,
    chain,
    collect,
    drop_stale,
    one_from_each,
    one_over_tau,
    scale_by_staleness,
    worth_waiting_for,
)
from distvi.errors import InputError
from distvi.protocol import Contribution, Decision, Lot, Member, Reason, Refusal, Ticket

repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=60)


class Seen(NamedTuple):
    """A view made up for a stage."""

    version: int = 0
    members: Mapping[int, Member] = MappingProxyType({w: Member(w, 0, 0) for w in range(4)})
    now_s: float = 0.0
    held: Mapping[int, tuple[Ticket, ...]] = MappingProxyType({})
    slowest: int = 0
    at_newest: int = 0
    broken: Mapping[int, None] = MappingProxyType({})


class Call(NamedTuple):
    """One call of a stage: what arrives, and what it sees."""

    lot: Lot
    view: Seen


@st.composite
def histories(draw: st.DrawFn) -> list[Call]:
    """Calls that a machine could make: versions rise, workers come and go, tickets are new."""
    calls, version, sequence = [], 0, 0
    for _ in range(draw(st.integers(0, 25))):
        version += draw(st.integers(0, 2))
        members = draw(st.sets(st.integers(0, 3), min_size=1))
        broken = dict.fromkeys(draw(st.sets(st.sampled_from(sorted(members)), max_size=2)))
        times_s = st.none() | st.floats(0, 9)
        lot = []
        for worker in draw(st.lists(st.integers(0, 3), max_size=2)):
            base = draw(st.integers(max(0, version - 4), version))
            lot.append(Contribution(Ticket(worker, 0, sequence, base, draw(st.integers(1, 9)))))
            sequence += 1
        seen = {w: Member(w, 0, 0, took_s=draw(times_s)) for w in members}
        view = Seen(version, seen, draw(st.floats(0, 9)), broken=broken)
        calls.append(Call(tuple(lot), view))
    return calls


stages = st.recursive(
    st.one_of(
        st.sampled_from([average, average_by_size, add, scale_by_staleness(one_over_tau)]),
        st.integers(1, 4).map(collect),
        st.just(collect(lambda members: members // 2)),
        st.none().map(one_from_each) | st.integers(1, 4).map(one_from_each),
        st.integers(0, 3).map(drop_stale),
        st.builds(worth_waiting_for, st.integers(1, 3), st.sampled_from([0.0, 2.0, 1e9])),
    ),
    lambda inner: st.lists(inner, max_size=3).map(lambda several: chain(*several)),
    max_leaves=4,
)


def outcomes(stage: Stage, calls: Sequence[Call]) -> list[tuple[Lot, tuple[Refusal, ...]]]:
    """What a stage passes and refuses over a history."""
    memory, seen = stage.init(), []
    for lot, view in calls:
        memory, passed, refused = stage.step(memory, lot, view)
        seen.append((passed, refused))
    return seen


@repeatable
@given(stage=stages, calls=histories())
def test_the_empty_chain_is_the_identity(stage: Stage, calls: list[Call]) -> None:
    assert outcomes(chain(), calls) == [(lot, ()) for lot, _ in calls]
    expected = outcomes(stage, calls)
    assert outcomes(chain(stage), calls) == expected
    assert outcomes(chain(chain(), stage), calls) == expected
    assert outcomes(chain(stage, chain()), calls) == expected


@repeatable
@given(first=stages, second=stages, third=stages, calls=histories())
def test_chain_is_associative(first: Stage, second: Stage, third: Stage, calls: list[Call]) -> None:
    expected = outcomes(chain(first, second, third), calls)
    assert outcomes(chain(chain(first, second), third), calls) == expected
    assert outcomes(chain(first, chain(second, third)), calls) == expected


@repeatable
@given(stage=stages, calls=histories())
def test_a_ticket_is_passed_refused_or_held_and_never_two_of_these(
    stage: Stage, calls: list[Call]
) -> None:
    given_so_far: set[Ticket] = set()
    decided: list[Ticket] = []
    memory = stage.init()
    for lot, view in calls:
        given_so_far |= {part.ticket for part in lot}
        memory, passed, refused = stage.step(memory, lot, view)
        decided += [part.ticket for part in passed] + [refusal.ticket for refusal in refused]
        remembered = tickets_in(memory)
        assert len(set(decided)) == len(decided)
        assert len(set(remembered)) == len(remembered)
        assert set(decided) | set(remembered) == given_so_far
        assert not set(decided) & set(remembered)


def tickets_in(memory: object) -> list[Ticket]:
    """The gradients that a memory holds, wherever they lie in it."""
    if isinstance(memory, Contribution):
        return [memory.ticket]
    if isinstance(memory, tuple):
        return [ticket for item in memory for ticket in tickets_in(item)]
    if hasattr(memory, "values"):
        return tickets_in(tuple(memory.values()))  # pyright: ignore[reportAttributeAccessIssue]
    return []


@repeatable
@given(bound=st.integers(0, 3), calls=histories())
def test_drop_stale_passes_nothing_older_than_its_bound(bound: int, calls: list[Call]) -> None:
    stage = drop_stale(bound)
    for (passed, refused), (lot, view) in zip(outcomes(stage, calls), calls, strict=True):
        assert all(view.version - part.ticket.base <= bound for part in passed)
        assert all(view.version - refusal.ticket.base > bound for refusal in refused)
        assert all(refusal.reason == Reason.STALE for refusal in refused)
        assert len(passed) + len(refused) == len(lot)


@repeatable
@given(calls=histories())
def test_one_from_each_passes_distinct_workers_only(calls: list[Call]) -> None:
    for stage in (one_from_each(3), worth_waiting_for(1, 2.0)):
        for passed, refused in outcomes(stage, calls):
            workers = [part.ticket.worker for part in passed]
            assert len(set(workers)) == len(workers)
            assert all(refusal.reason == Reason.SECOND for refusal in refused)


@pytest.mark.parametrize("stage", [one_from_each(), one_from_each(4), worth_waiting_for(1, 2.0)])
def test_nobody_waits_for_a_member_that_is_broken(stage: Stage) -> None:
    three = lot_of(1, 1, 1)
    memory, passed, _ = stage.step(stage.init(), three[:2], Seen(broken={3: None}))
    assert passed == ()
    assert stage.step(memory, three[2:], Seen(broken={3: None})).passed == three
    memory, passed, _ = stage.step(memory, three[2:], Seen())
    assert passed == ()
    assert stage.step(memory, (), Seen(broken={3: None})).passed == three
    assert stage.step(stage.init(), (), Seen(broken=dict.fromkeys(range(4)))).passed == ()


def lot_of(*sizes: int) -> Lot:
    return tuple(Contribution(Ticket(w, 0, 0, base=0, size=size)) for w, size in enumerate(sizes))


def weights(decision: Decision) -> list[float]:
    return [part.weight for part in decision.passed]


def test_weights_of_the_ways_to_combine() -> None:
    lot = lot_of(100, 300)
    assert weights(average.step(None, lot, Seen())) == [0.5, 0.5]
    assert weights(average_by_size.step(None, lot, Seen())) == [0.25, 0.75]
    assert weights(add.step((), lot, Seen())) == [1, 1]


def test_weights_and_rates_go_along_a_chain() -> None:
    lot = (
        Contribution(Ticket(0, 0, 0, base=2)),
        Contribution(Ticket(1, 0, 0, base=6)),
        Contribution(Ticket(2, 0, 0, 5)),
    )
    stage = chain(scale_by_staleness(one_over_tau), average)
    decision = stage.step(stage.init(), lot, Seen(version=6))
    assert weights(decision) == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert [part.rate for part in decision.passed] == [1 / 4, 1, 1]


def test_collect_counts_gradients_and_passes_all_it_has() -> None:
    stage = collect(3)
    memory, passed, _ = stage.step(stage.init(), lot_of(1, 1), Seen())
    assert passed == ()
    memory, passed, _ = stage.step(memory, lot_of(1, 1), Seen())
    assert len(passed) == 4
    assert stage.step(memory, (), Seen()).passed == ()


@pytest.mark.parametrize(
    ("build", "value"),
    [
        (collect, 0),
        (one_from_each, 0),
        (one_from_each, -1),
        (drop_stale, -1),
        (lambda least: worth_waiting_for(least, 2.0), 0),
        (lambda noise: worth_waiting_for(1, noise), -1.0),
    ],
)
def test_numbers_that_make_no_sense_are_refused(build, value: int) -> None:
    with pytest.raises(InputError, match=f"is {value}; it must be at least"):
        build(value)


def test_one_over_tau_leaves_fresh_gradients_as_they_are() -> None:
    assert [one_over_tau(tau) for tau in (0, 1, 2, 4)] == [1, 1, 0.5, 0.25]
