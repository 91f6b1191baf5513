"""What the machine answers to each event, one short story a test."""

from collections import deque

import pytest

from distvi.aggregation import (
    Scheme,
    after_own_update,
    asynchronous,
    backup_gradients,
    chain,
    collect,
    k_sync,
    ssp,
    stage_of,
    sync,
)
from distvi.errors import InputError, RunFailed
from distvi.protocol import (
    LIFE,
    Alarm,
    Cancel,
    Command,
    Commit,
    Decision,
    Dismiss,
    Event,
    Free,
    GradientArrived,
    GradientNonFinite,
    Ignored,
    Joined,
    Left,
    Outcome,
    Pacing,
    Reason,
    Refusal,
    Rules,
    SendParameters,
    SetAlarm,
    Stage,
    State,
    Status,
    Stop,
    StopRequested,
    Ticket,
    drive,
    initial_state,
    life_diagram,
    react,
    story,
)


def play(
    rules: Rules, *events: Event | tuple[float, Event], state: State | None = None
) -> tuple[State, list[tuple[Command, ...]]]:
    """The answers to some events, at the times given with them or all at time 0."""
    state = initial_state(rules) if state is None else state
    answers = []
    for item in events:
        now_s, event = item if isinstance(item, tuple) else (0.0, item)
        state, commands = react(rules, state, event, now_s)
        answers.append(commands)
    return state, answers


def gradient(
    worker: int, sequence: int = 0, base: int = 0, incarnation: int = 0, size: int = 1
) -> GradientArrived:
    return GradientArrived(Ticket(worker, incarnation, sequence, base, size))


def committed(answer: tuple[Command, ...]) -> list[int]:
    """Workers whose gradients an answer puts into an update."""
    return [
        part.ticket.worker
        for command in answer
        if isinstance(command, Commit)
        for part in command.contributions
    ]


# Exactly once


def test_a_repeated_push_is_answered_and_not_applied_twice() -> None:
    push = gradient(0)
    state, answers = play(Rules(asynchronous()), Joined(0), push, push)
    assert committed(answers[1]) == [0]
    assert answers[2] == (Ignored(push, Reason.DECIDED),)
    assert state.version == 1


def test_a_repeated_push_of_a_held_gradient_frees_nothing() -> None:
    _, answers = play(Rules(sync()), Joined(0), Joined(1), gradient(0), gradient(0))
    assert answers[3] == (Ignored(gradient(0), Reason.DECIDED),)


@pytest.mark.parametrize(
    ("push", "reason"),
    [
        (gradient(5), Reason.UNKNOWN_WORKER),
        (gradient(0, incarnation=1), Reason.OTHER_INCARNATION),
        (gradient(0, sequence=1), Reason.NEVER_REQUESTED),
        (gradient(0, sequence=-1), Reason.NEVER_REQUESTED),
    ],
)
def test_an_unknown_push_is_answered_with_the_reason(push: GradientArrived, reason: Reason) -> None:
    _, answers = play(Rules(asynchronous()), Joined(0), push)
    assert answers[1] == (Ignored(push, reason),)


def test_a_gradient_on_another_version_than_was_sent_is_refused() -> None:
    state, answers = play(Rules(asynchronous()), Joined(0), gradient(0, base=-1))
    assert answers[1][0] == Free(Ticket(0, 0, 0, -1), Reason.WRONG_BASE)
    assert isinstance(answers[1][1], SendParameters)
    assert state.version == 0


def test_gradients_may_arrive_in_another_order_than_they_were_ordered() -> None:
    rules = Rules(asynchronous(in_flight=2))
    state, answers = play(rules, Joined(0), gradient(0, sequence=1), gradient(0, sequence=0))
    assert [type(command) for command in answers[0]] == [SendParameters, SendParameters]
    assert state.version == 2
    assert state.counts[Status.COMMITTED] == 2


# Membership


def test_a_barrier_opens_when_the_worker_it_waits_for_has_gone() -> None:
    events = [Joined(0), Joined(1), Joined(2), gradient(0), gradient(1), Left(2)]
    state, answers = play(Rules(sync()), *events)
    assert committed(answers[4]) == []
    assert committed(answers[5]) == [0, 1]
    assert [c.worker for c in answers[5] if isinstance(c, SendParameters)] == [0, 1]
    assert state.version == 1


def test_a_delivered_gradient_outlives_its_worker() -> None:
    _, answers = play(Rules(sync()), Joined(0), Joined(1), gradient(0), Left(0), gradient(1))
    assert committed(answers[4]) == [0, 1]


def test_a_worker_that_comes_back_waits_for_the_update_its_gradient_is_in() -> None:
    events = [Joined(0), Joined(1), gradient(0), Left(0), Joined(0, 1), gradient(1)]
    _, answers = play(Rules(sync()), *events)
    assert answers[4] == ()
    assert SendParameters(worker=0, incarnation=1, sequence=0, version=1) in answers[5]


def test_a_new_incarnation_replaces_a_worker_whose_loss_nobody_reported() -> None:
    late = gradient(0)
    state, answers = play(Rules(asynchronous()), Joined(0), Joined(0, 1), Left(0, 0), late)
    assert answers[1] == (SendParameters(0, 1, 0, 0),)
    assert answers[2] == (Ignored(Left(0, 0), Reason.OTHER_INCARNATION),)
    assert answers[3] == (Ignored(late, Reason.OTHER_INCARNATION),)
    assert state.counts[Status.LOST] == 1


def test_a_join_that_arrives_after_its_own_loss_brings_nobody_back() -> None:
    state, answers = play(Rules(asynchronous()), Left(0), Joined(0))
    assert answers[0] == (Ignored(Left(0), Reason.UNKNOWN_WORKER),)
    assert answers[1] == (Ignored(Joined(0), Reason.KNOWN),)
    assert not state.members


def test_a_newcomer_holds_nobody_back_under_ssp() -> None:
    pushes = [gradient(0, sequence, sequence) for sequence in range(5)]
    state, answers = play(Rules(ssp(0)), Joined(0), *pushes, Joined(1))
    assert state.members[1].clock == 5
    assert isinstance(answers[-1][0], SendParameters)


def test_lockstep_waits_for_a_worker_that_is_replaced() -> None:
    events = [Joined(0), Joined(1), gradient(0), Joined(1, 1)]
    state, answers = play(Rules(sync()), *events)
    assert answers[3] == (SendParameters(1, 1, 0, 0),)
    _, answers = play(Rules(sync()), GradientArrived(Ticket(1, 1, 0, 0)), state=state)
    assert committed(answers[0]) == [0, 1]


def test_a_worker_that_is_replaced_goes_on_at_its_clock_under_ssp() -> None:
    events = [Joined(0), Joined(1), gradient(0), gradient(0, 1, 1), Joined(1, 1), Joined(0, 1)]
    state, _ = play(Rules(ssp(3)), *events)
    assert {worker: member.clock for worker, member in state.members.items()} == {0: 2, 1: 0}
    assert state.slowest == 0


# Limits


def test_a_silent_worker_is_dismissed_and_the_others_go_on() -> None:
    rules = Rules(sync(), worker_timeout_s=10.0)
    early, due = (9.0, Alarm()), (10.0, Alarm())
    events = [(0.0, Joined(0)), (0.0, Joined(1)), (1.0, gradient(0)), early, due]
    state, answers = play(rules, *events)
    assert answers[0][-1] == SetAlarm(10.0)
    assert answers[3] == (Ignored(Alarm(), Reason.EARLY),)
    assert answers[4][0] == Dismiss(1, 0, "silent for 10 s")
    assert committed(answers[4]) == [0]
    assert SetAlarm(20.0) in answers[4]
    _, answers = play(rules, (30.0, gradient(1)), (30.0, Joined(1, 1)), state=state)
    assert answers[0][0] == Ignored(gradient(1), Reason.UNKNOWN_WORKER)
    assert SendParameters(1, 1, 0, 1) in answers[1]


def test_patience_for_an_order_begins_when_the_one_before_is_delivered() -> None:
    rules = Rules(asynchronous(in_flight=2), worker_timeout_s=10.0)
    state, _ = play(rules, (0.0, Joined(0)), (9.0, gradient(0)), (10.0, Alarm()))
    assert 0 in state.members
    assert state.alarm_s == 19.0


def test_a_run_whose_workers_are_all_gone_fails_after_its_limit() -> None:
    rules = Rules(asynchronous(), idle_limit_s=5.0)
    state, answers = play(rules, (0.0, Joined(0)), (1.0, Left(0)), (6.0, Alarm()))
    assert answers[1] == (SetAlarm(6.0),)
    stop = answers[2][-1]
    assert isinstance(stop, Stop)
    assert stop.outcome is state.outcome is Outcome.FAILED
    assert "no worker is left" in stop.reason


def test_a_replacement_in_time_saves_the_run() -> None:
    rules = Rules(asynchronous(), idle_limit_s=5.0)
    state, _ = play(rules, (0.0, Joined(0)), (1.0, Left(0)), (5.0, Joined(0, 1)), (6.0, Alarm()))
    assert state.outcome is None


def test_without_patience_for_idleness_the_run_fails_at_once() -> None:
    state, _ = play(Rules(asynchronous(), idle_limit_s=0.0), Joined(0), Left(0))
    assert state.outcome is Outcome.FAILED


def test_unusable_gradients_in_a_row_end_the_run() -> None:
    def unusable(sequence: int) -> GradientNonFinite:
        return GradientNonFinite(Ticket(0, 0, sequence, 0), "not finite")

    rules = Rules(asynchronous(), nonfinite_limit=2)
    state, answers = play(rules, Joined(0), unusable(0))
    assert answers[1][0] == Free(Ticket(0, 0, 0, 0), "unusable: not finite")
    saved, _ = play(rules, gradient(0, 1), unusable(2), state=state)
    assert saved.outcome is None
    failed, answers = play(rules, unusable(1), state=state)
    assert failed.outcome is Outcome.FAILED
    assert "2 unusable gradients in a row" in str(answers[0][-1])


@pytest.mark.parametrize("limit", [{"updates": 2}, {"examples": 7}])
def test_a_run_ends_at_its_limit_and_sends_nothing_more(limit: dict[str, int]) -> None:
    rules = Rules(asynchronous(), **limit)
    state, answers = play(rules, Joined(0), gradient(0, size=4), gradient(0, 1, 1, size=4))
    assert [type(command) for command in answers[2]] == [Commit, Stop]
    assert state.outcome is Outcome.DONE


def test_what_is_held_or_on_its_way_when_the_run_stops_is_freed() -> None:
    events = [Joined(0), Joined(1), gradient(0), StopRequested("Ctrl-C"), gradient(1), gradient(1)]
    state, answers = play(Rules(sync()), *events, Joined(2), Alarm(), Left(1))
    assert answers[3] == (
        Free(Ticket(0, 0, 0, 0), Reason.STOPPED),
        Stop(Outcome.STOPPED, "Ctrl-C"),
    )
    assert answers[4] == (Free(Ticket(1, 0, 0, 0), Reason.STOPPED),)
    assert answers[5] == (Ignored(gradient(1), Reason.DECIDED),)
    assert answers[6] == (Ignored(Joined(2), Reason.STOPPED),)
    assert state.version == 0
    assert 1 not in state.members


@pytest.mark.parametrize(
    "limit",
    [
        {"updates": 0},
        {"examples": -1},
        {"worker_timeout_s": 0.0},
        {"nonfinite_limit": 0},
        {"idle_limit_s": -1.0},
        {"worker_timeout_s": float("nan")},
    ],
)
def test_limits_that_make_no_sense_are_refused(limit: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(limit))):
        Rules(sync(), **limit)  # pyright: ignore[reportArgumentType]


# State and time


def test_a_resumed_run_counts_on() -> None:
    rules = Rules(asynchronous(), updates=101)
    state = initial_state(rules, version=100, examples=5_000)
    state, answers = play(rules, Joined(0), gradient(0, base=100, size=50), state=state)
    assert answers[0] == (SendParameters(0, 0, 0, 100),)
    assert state.outcome is Outcome.DONE
    assert state.examples == 5_050


def test_time_never_runs_backwards() -> None:
    state, _ = play(Rules(sync()), (5.0, Joined(0)), (3.0, Joined(1)))
    assert state.now_s == 5.0


def test_a_state_stays_as_it_was() -> None:
    rules = Rules(asynchronous())
    before, _ = play(rules, Joined(0), Joined(1))
    remembered = before._asdict() | {"members": dict(before.members)}
    react(rules, before, gradient(0), 1.0)
    assert before._asdict() | {"members": dict(before.members)} == remembered
    with pytest.raises(TypeError):
        before.members[0] = before.members[1]  # pyright: ignore[reportIndexIssue]
    with pytest.raises(TypeError):
        before.counts[Status.HELD] = 1  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize("workers", [10, 100])
def test_the_questions_asked_of_the_pacing_do_not_grow_with_the_workers(workers: int) -> None:
    asked = 0

    def counting(pacing: Pacing) -> Pacing:
        def may_start(worker, view) -> bool:
            nonlocal asked
            asked += 1
            return pacing.may_start(worker, view)

        return pacing._replace(may_start=may_start)

    for scheme in (sync(), ssp(1), asynchronous(), k_sync(workers // 2)):
        scheme = Scheme(scheme.name, scheme.stage, counting(scheme.pacing), scheme.stragglers)
        asked, rules, delivered = 0, Rules(scheme), 0
        state = initial_state(rules)
        events: deque[Event] = deque(Joined(worker) for worker in range(workers))
        while delivered < 5 * workers:
            event = events.popleft()
            delivered += isinstance(event, GradientArrived)
            state, commands = react(rules, state, event, 0.0)
            for command in commands:
                if isinstance(command, SendParameters):
                    events.append(gradient(command.worker, command.sequence, command.version))
        assert asked <= 5 * delivered, scheme.name


# Stages that lie


def _twice(memory: None, lot: tuple, view: object) -> Decision:
    return Decision(None, lot, tuple(Refusal(part.ticket, "and refused") for part in lot))


def test_a_stage_that_decides_twice_is_named() -> None:
    scheme = Scheme("liar", Stage(lambda: None, _twice), after_own_update())
    with pytest.raises(RunFailed, match="scheme liar decided twice"):
        play(Rules(scheme), Joined(0), gradient(0))


# The loop


class Lockstep:
    """An engine that computes gradients one after the other, in no time."""

    def __init__(self, workers: int, gradients: int) -> None:
        self.events: deque[Event] = deque(Joined(worker) for worker in range(workers))
        self.gradients = gradients
        self.done: list[Command] = []

    def receive(self) -> tuple[float, Event] | None:
        return (float(len(self.done)), self.events.popleft()) if self.events else None

    def execute(self, command: Command) -> None:
        self.done.append(command)
        if isinstance(command, SendParameters) and self.gradients:
            self.gradients -= 1
            self.events.append(gradient(command.worker, command.sequence, command.version))


def test_drive_runs_an_engine_to_its_limit() -> None:
    engine, seen = Lockstep(workers=3, gradients=100), []
    state = drive(
        Rules(sync(), updates=4),
        engine,
        observers=(lambda now_s, event, state, commands: seen.append(event),),
    )
    assert state.version == 4
    assert len(seen) == 3 + 4 * 3
    assert engine.done[-1] == Stop(Outcome.DONE, "4 updates")


def test_drive_ends_an_engine_that_stalls_and_says_who_was_waited_for() -> None:
    engine = Lockstep(workers=3, gradients=5)
    state = drive(Rules(sync()), engine)
    assert state.outcome is Outcome.FAILED
    stop = engine.done[-1]
    assert isinstance(stop, Stop)
    assert "version 1, 3 workers, 2 gradients held; waiting for worker 2" in stop.reason


def test_the_story_names_the_longest_busy_first_and_counts_the_rest() -> None:
    state, _ = play(Rules(asynchronous()), *((float(w), Joined(w)) for w in range(4)))
    assert story(state, most=1).endswith("waiting for worker 0 (on version 0 for 3 s) and 3 more")
    assert "no worker is computing" in story(initial_state(Rules(asynchronous())))


# The table of a gradient's life


def test_every_status_is_reached_and_every_end_is_final() -> None:
    reached = {after for moves in LIFE.values() for after in moves.values()}
    assert reached == set(Status) - {Status.COMPUTING}
    assert set(LIFE) == set(Status)
    assert {status for status, moves in LIFE.items() if not moves} == set(Status) - {
        Status.COMPUTING,
        Status.HELD,
    }


def test_the_diagram_shows_every_move_of_the_table() -> None:
    lines = [line.strip() for line in life_diagram().splitlines()]
    assert lines[0] == "stateDiagram-v2"
    for status, moves in LIFE.items():
        for cause, after in moves.items():
            assert f"{status} --> {after}: {cause}" in lines
    assert len(lines) == 2 + sum(max(1, len(moves)) for moves in LIFE.values())


def test_a_cancelled_order_that_arrives_all_the_same_is_only_answered() -> None:
    state, answers = play(Rules(k_sync(1)), Joined(0), Joined(1), gradient(0), gradient(1))
    assert Cancel(1, 0, 0) in answers[2]
    assert SendParameters(1, 0, 1, 1) in answers[2]
    assert answers[3] == (Ignored(gradient(1), Reason.DECIDED),)
    assert state.counts[Status.CANCELLED] == 1


def test_a_scheme_of_ones_own_may_hold_gradients_over_an_update() -> None:
    spill = stage_of(lambda lot, view: (lot, ()))
    scheme = Scheme("pairs", chain(spill, collect(2)), after_own_update())
    state, answers = play(Rules(scheme), Joined(0), Joined(1), gradient(0), gradient(1))
    assert committed(answers[3]) == [0, 1]
    assert state.version == 1


def test_all_who_wait_are_asked_each_time_the_gate_opens() -> None:
    rules = Rules(backup_gradients(6))
    sent = (0, 1), (0, 3), (1, 1), (1, 3)  # they take the two tokens that are left, then wait
    delivered = [gradient(worker, sequence) for sequence, worker in sent]
    state, _ = play(rules, *map(Joined, range(4)), *delivered)
    _, answers = play(rules, Left(0), Left(2), state=state)
    assert answers == [(SendParameters(1, 0, 2, 0),), (SendParameters(3, 0, 2, 0),)]
