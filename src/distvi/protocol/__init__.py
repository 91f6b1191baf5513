"""The parameter server's control plane: a pure state machine, standard library only.

Begin with ``machine.py`` (what each event does) and ``lifecycle.py`` (what may become of a
gradient). ``distvi.aggregation`` has the schemes; an engine runs the machine with ``drive``.
"""

from distvi.protocol.commands import (
    Cancel,
    Command,
    Commit,
    Dismiss,
    Free,
    Ignored,
    Reason,
    SendParameters,
    SetAlarm,
    Stop,
)
from distvi.protocol.drive import Observer, Transport, drive, story
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
from distvi.protocol.invariants import violations
from distvi.protocol.journal import Entry, read_line, replay, write_line
from distvi.protocol.lifecycle import LIFE, Cause, Status, life_diagram
from distvi.protocol.machine import react
from distvi.protocol.rules import (
    BROKEN_AFTER,
    Decision,
    Member,
    Pacing,
    Request,
    Rules,
    Scheme,
    Stage,
    Stragglers,
    View,
)
from distvi.protocol.state import State, initial_state
from distvi.protocol.table import Table
from distvi.protocol.tickets import Contribution, Lot, Refusal, Ticket, TicketId

__all__ = [
    "BROKEN_AFTER",
    "LIFE",
    "Alarm",
    "Cancel",
    "Cause",
    "Command",
    "Commit",
    "Contribution",
    "Decision",
    "Dismiss",
    "Entry",
    "Event",
    "Free",
    "GradientArrived",
    "GradientNonFinite",
    "Ignored",
    "Joined",
    "Left",
    "Lot",
    "Member",
    "Observer",
    "Outcome",
    "Pacing",
    "Reason",
    "Refusal",
    "Request",
    "Rules",
    "Scheme",
    "SendParameters",
    "SetAlarm",
    "Stage",
    "State",
    "Status",
    "Stop",
    "StopRequested",
    "Stragglers",
    "Table",
    "Ticket",
    "TicketId",
    "Transport",
    "View",
    "drive",
    "initial_state",
    "life_diagram",
    "react",
    "read_line",
    "replay",
    "story",
    "violations",
    "write_line",
]
