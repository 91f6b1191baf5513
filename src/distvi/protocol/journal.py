"""The control plane's events as lines of JSON, and their replay.

A journal is enough to repeat every decision of a run: ``react`` is pure, so the same rules and
events give the same commands. Lines are made and read here; files are the engine's affair.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import NamedTuple

from distvi.errors import InputError
from distvi.protocol.commands import Command
from distvi.protocol.events import (
    Alarm,
    Event,
    GradientArrived,
    GradientNonFinite,
    Joined,
    Left,
    Outcome,
    StopRequested,
)
from distvi.protocol.machine import react
from distvi.protocol.rules import Rules
from distvi.protocol.state import State
from distvi.protocol.tickets import Ticket

_NAMES = {
    Joined: "joined",
    Left: "left",
    GradientArrived: "gradient_arrived",
    GradientNonFinite: "gradient_non_finite",
    Alarm: "alarm",
    StopRequested: "stop_requested",
}
_EVENTS = {name: kind for kind, name in _NAMES.items()}


class Entry(NamedTuple):
    """An event and when it happened, in seconds on the engine's clock."""

    now_s: float
    event: Event


def write_line(entry: Entry) -> str:
    """One event as one line of JSON, without its line break.

    Example:
        >>> write_line(Entry(1.5, Joined(worker=3)))
        '{"now_s": 1.5, "event": "joined", "worker": 3, "incarnation": 0}'
    """
    fields = {"now_s": entry.now_s, "event": _NAMES[type(entry.event)], **asdict(entry.event)}
    return json.dumps(fields, allow_nan=False)


def read_line(line: str) -> Entry:
    """The event of one line.

    Raises:
        InputError: The line is none of a journal.
    """
    try:
        fields = json.loads(line)
        now_s, kind = float(fields.pop("now_s")), _EVENTS[fields.pop("event")]
        if "ticket" in fields:
            fields["ticket"] = Ticket(**fields["ticket"])
        if "outcome" in fields:
            fields["outcome"] = Outcome(fields["outcome"])
        return Entry(now_s, kind(**fields))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"journal: {line.strip()[:120]!r} is no event ({error}); it may have been cut off"
        ) from error


def replay(
    rules: Rules, state: State, entries: Iterable[Entry]
) -> Iterator[tuple[State, tuple[Command, ...]]]:
    """The states and commands that a journal's events lead to, one pair an event.

    Args:
        rules: Those of the run that wrote the journal.
        state: Where that run began, usually ``initial_state(rules)``.
        entries: Its events, in their order.
    """
    for now_s, event in entries:
        state, commands = react(rules, state, event, now_s)
        yield state, commands
