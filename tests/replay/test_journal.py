"""A journal of events is enough to repeat every command of a run."""

import random

import pytest

from distvi.aggregation import SCHEMES, scheme_named
from distvi.errors import InputError
from distvi.protocol import (
    Alarm,
    Command,
    Dismiss,
    Entry,
    Event,
    GradientArrived,
    GradientNonFinite,
    Joined,
    Left,
    Outcome,
    Rules,
    SendParameters,
    SetAlarm,
    State,
    StopRequested,
    Ticket,
    initial_state,
    react,
    read_line,
    replay,
    write_line,
)

SETTINGS = {
    "backup": {"n": 3},
    "dynamic-backup": {"least": 2, "noise": 1.0},
    "backup-gradients": {"n": 3},
    "ssp": {"bound": 1},
    "softsync": {"n": 2, "rate": "1/tau"},
    "k-sync": {"k": 2},
    "k-batch-sync": {"k": 2},
    "k-async": {"k": 2, "combine": "add"},
    "k-batch-async": {"k": 2},
    "drop-stale": {"bound": 2},
}


def run_of(rules: Rules, seed: int, events: int) -> tuple[list[Entry], list, State]:
    """A run with random times, losses and unusable gradients, as its engine saw it."""
    draw = random.Random(seed)
    state, entries, answers = initial_state(rules), [], []
    coming: list[tuple[float, int, Event]] = [(0.0, w, Joined(w)) for w in range(4)]
    for count in range(4, 4 + events):
        now_s, _, event = coming.pop(coming.index(min(coming, key=lambda entry: entry[:2])))
        state, commands = react(rules, state, event, now_s)
        entries.append(Entry(now_s, event))
        answers.append((state, commands))
        for place, command in enumerate(commands):
            after_s, next_event = _consequence(command, now_s, draw)
            if next_event is not None:
                coming.append((after_s, 100 * count + place, next_event))
        if isinstance(event, Left):
            coming.append(
                (now_s + 1, 100 * count + 99, Joined(event.worker, event.incarnation + 1))
            )
        if not coming or state.outcome is not None:
            break
    return entries, answers, state


def _consequence(command: Command, now_s: float, draw: random.Random) -> tuple[float, Event | None]:
    if isinstance(command, SetAlarm):
        return command.at_s, Alarm()
    if isinstance(command, Dismiss):
        return now_s, Joined(command.worker, command.incarnation + 1)
    if not isinstance(command, SendParameters):
        return now_s, None
    request = (command.worker, command.incarnation, command.sequence, command.version)
    after_s, fate = now_s + draw.lognormvariate(0, 1), draw.random()
    if fate < 0.05:
        return after_s, Left(command.worker, command.incarnation)
    if fate < 0.1:
        return after_s, GradientNonFinite(Ticket(*request, size=5))
    return after_s, GradientArrived(Ticket(*request, size=5))


@pytest.mark.parametrize("name", SCHEMES)
def test_a_journal_replays_to_identical_commands(name: str, seed: int) -> None:
    scheme = scheme_named(name, 4, SETTINGS.get(name, {}))
    rules = Rules(scheme, updates=60, worker_timeout_s=3.0, idle_limit_s=50.0)
    entries, answers, last = run_of(rules, seed, events=400)
    assert last.version > 10
    lines = [write_line(entry) for entry in entries]
    again = [read_line(line) for line in lines]
    assert again == entries
    assert list(replay(rules, initial_state(rules), again)) == answers


def test_a_replay_may_begin_anywhere(seed: int) -> None:
    rules = Rules(scheme_named("sync", workers=4))
    entries, answers, _ = run_of(rules, seed, events=100)
    state, _ = answers[49]
    assert list(replay(rules, state, entries[50:])) == answers[50:]


@pytest.mark.parametrize(
    "event",
    [
        Joined(3, 1),
        Left(3, 1),
        GradientArrived(Ticket(1, 2, 3, 4, 5)),
        GradientNonFinite(Ticket(1, 2, 3, 4, 5), "∞ in it"),
        Alarm(),
        StopRequested("early stopping", Outcome.DONE),
    ],
)
def test_every_event_survives_the_journal(event: Event) -> None:
    line = write_line(Entry(0.1 + 0.2, event))
    assert "\n" not in line
    assert read_line(line) == Entry(0.1 + 0.2, event)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "null",
        '{"now_s": 1}',
        '{"now_s": 1, "event": "exploded"}',
        '{"now_s": 1, "event": "joined"}',
        '{"now_s": "x", "event": "alarm"}',
        '{"now_s": 1, "event": "gradient_arrived", "ticket": {"worker": 1}}',
        '{"now_s": 1, "event": "stop_requested", "outcome": "fine"}',
    ],
)
def test_a_damaged_line_is_refused(line: str) -> None:
    with pytest.raises(InputError, match="is no event"):
        read_line(line)
