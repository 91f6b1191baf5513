"""What can happen to a parameter server, seen from its control plane.

Events may come twice, late, or in another order than they were sent. None of that is an error:
``react`` answers each with ``Ignored`` where it has nothing to change.
"""

from dataclasses import dataclass
from enum import StrEnum

from distvi.protocol.tickets import Ticket


class Outcome(StrEnum):
    """How a run ended."""

    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Joined:
    """A worker is ready for its first parameters; each start has a higher incarnation."""

    worker: int
    incarnation: int = 0


@dataclass(frozen=True, slots=True)
class Left:
    """A worker has gone: it ended, crashed, or cannot be reached."""

    worker: int
    incarnation: int = 0


@dataclass(frozen=True, slots=True)
class GradientArrived:
    """A gradient is completely there, finite, and kept until a command speaks of its ticket."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class GradientNonFinite:
    """A gradient came that must not be applied: not finite, or damaged on its way."""

    ticket: Ticket
    why: str = "not finite"


@dataclass(frozen=True, slots=True)
class Alarm:
    """The time that the last ``SetAlarm`` named has come; one too many does no harm."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Whoever runs the machine wants it to end: the user, a signal, an early-stopping rule."""

    reason: str = "requested"
    outcome: Outcome = Outcome.STOPPED


Event = Joined | Left | GradientArrived | GradientNonFinite | Alarm | StopRequested
