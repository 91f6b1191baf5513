"""All that the control plane remembers between two events."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from distvi.protocol.events import Outcome
from distvi.protocol.lifecycle import Status
from distvi.protocol.rules import Member, Rules
from distvi.protocol.table import Table
from distvi.protocol.tickets import Ticket


class State(NamedTuple):
    """The control plane between two events; immutable, tables included. Also a ``View``.

    Attributes:
        version: Updates made so far; the version of the newest parameters.
        now_s: Time of the last event, seconds; never runs backwards.
        members: Workers that are here, by number.
        waiting: Members with room for another request.
        broken: Members that have sent nothing usable for long.
        held: Gradients that arrived and are not decided, by worker.
        clocks: How many members stand at each clock.
        slowest: Lowest of those clocks (the last known one while nobody is here).
        incarnations: Highest incarnation heard of, by worker.
        memory: What the scheme's stage remembers.
        gate: The pacing's gate after those who wait were last asked.
        at_newest: Gradients of the newest version that are being computed or held.
        counts: Number of gradients ever requested, by where they stand.
        examples: Examples that updates have used.
        nonfinite_in_a_row: Gradients that were not finite since the last that was.
        alarm_s: When the alarm that is set goes off.
        idle_since_s: Since when no gradient is in the making.
        outcome: How the run ended; ``None`` while it goes on.
    """

    version: int
    now_s: float
    members: Table[Member]
    waiting: Table[None]
    broken: Table[None]
    held: Table[tuple[Ticket, ...]]
    clocks: Table[int]
    slowest: int
    incarnations: Table[int]
    memory: Any
    gate: object
    at_newest: int
    counts: Mapping[Status, int]
    examples: int
    nonfinite_in_a_row: int
    alarm_s: float | None
    idle_since_s: float | None
    outcome: Outcome | None


def initial_state(rules: Rules, *, version: int = 0, examples: int = 0) -> State:
    """The state before the first event, of a new run or of one resumed at ``version``.

    Workers of a resumed run join with incarnations of their own; nothing that was on its way
    when the earlier process ended is expected any more.
    """
    nothing: Table[Any] = Table()
    return State(
        version=version,
        now_s=float("-inf"),
        members=nothing,
        waiting=nothing,
        broken=nothing,
        held=nothing,
        clocks=nothing,
        slowest=0,
        incarnations=nothing,
        memory=rules.scheme.stage.init(),
        gate=None,
        at_newest=0,
        counts=MappingProxyType(dict.fromkeys(Status, 0)),
        examples=examples,
        nonfinite_in_a_row=0,
        alarm_s=None,
        idle_since_s=None,
        outcome=None,
    )
