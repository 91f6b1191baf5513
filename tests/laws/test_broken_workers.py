"""Workers that send nothing usable: who waits for them, and until when."""

from collections import deque

import pytest

from distvi.aggregation import (
    Scheme,
    asynchronous,
    backup_workers,
    dynamic_backup,
    k_async,
    sync,
)
from distvi.protocol import (
    BROKEN_AFTER,
    Commit,
    Event,
    Free,
    GradientArrived,
    GradientNonFinite,
    Joined,
    Left,
    Outcome,
    Rules,
    SendParameters,
    Ticket,
    initial_state,
    react,
    violations,
)
from tests.laws.test_protocol_events import gradient, play

BARRIERS = [sync(), backup_workers(7), k_async(8), dynamic_backup(1, 8.0)]


@pytest.mark.parametrize("scheme", BARRIERS, ids=lambda scheme: scheme.name)
def test_a_run_goes_on_without_a_worker_that_sends_nothing_usable(scheme: Scheme) -> None:
    """One of eight, for ever: its gradients are refused, and after some in a row nobody waits."""
    rules = Rules(scheme, updates=30, nonfinite_limit=8 * BROKEN_AFTER)
    state, refused, updates = initial_state(rules), 0, []
    events: deque[Event] = deque(Joined(worker) for worker in range(8))
    while state.outcome is None:
        state, commands = react(rules, state, events.popleft(), 0.0)
        assert violations(rules, state) == ()
        for command in commands:
            if isinstance(command, SendParameters):
                request = (command.worker, command.incarnation, command.sequence, command.version)
                kind = GradientNonFinite if command.worker == 3 else GradientArrived
                events.append(kind(Ticket(*request)))
            elif isinstance(command, Free):
                refused += command.ticket.worker == 3
            elif isinstance(command, Commit):
                updates.append([part.ticket.worker for part in command.contributions])
    assert state.outcome is Outcome.DONE
    assert updates == [[0, 1, 2, 4, 5, 6, 7]] * 30
    assert refused >= BROKEN_AFTER if scheme.name != "backup(n=7)" else refused


def test_one_usable_gradient_mends_a_worker() -> None:
    def unusable(sequence: int, base: int) -> GradientNonFinite:
        return GradientNonFinite(Ticket(1, 0, sequence, base))

    rules = Rules(sync(), nonfinite_limit=100)
    bad = [unusable(sequence, 0) for sequence in range(BROKEN_AFTER)]
    state, _ = play(rules, Joined(0), Joined(1), gradient(0), *bad[:-1])
    assert (state.version, dict(state.broken)) == (0, {})
    state, (commands,) = play(rules, bad[-1], state=state)
    assert [type(command) for command in commands] == [Free, Commit, SendParameters, SendParameters]
    assert (state.version, dict(state.broken)) == (1, {1: None})
    state, _ = play(rules, gradient(1, BROKEN_AFTER, 1), state=state)
    assert (state.version, dict(state.broken)) == (1, {})  # it is waited for again, and was first
    state, _ = play(rules, gradient(0, 1, 1), state=state)
    assert state.version == 2
    assert violations(rules, state) == ()


def test_a_worker_that_begins_anew_is_given_a_chance() -> None:
    rules = Rules(sync(), nonfinite_limit=100)
    bad = [GradientNonFinite(Ticket(1, 0, sequence, 0)) for sequence in range(BROKEN_AFTER)]
    state, _ = play(rules, Joined(0), Joined(1), *bad)
    assert dict(state.broken) == {1: None}
    for event in (Left(1), Joined(1, 1)):
        state, _ = play(rules, event, state=state)
        assert dict(state.broken) == {}
        assert violations(rules, state) == ()


def test_members_know_how_long_their_last_gradient_took() -> None:
    rules = Rules(asynchronous(in_flight=2))
    state, _ = play(rules, (1.0, Joined(0)))
    assert state.members[0].took_s is None
    for sequence, (now_s, took_s) in enumerate([(3.0, 2.0), (3.5, 0.5), (5.5, 2.0)]):
        base = (0, 0, 1)[sequence]  # the second was sent with the first
        state, _ = play(rules, (now_s, gradient(0, sequence, base)), state=state)
        assert state.members[0].took_s == took_s
