"""What the control plane tells an engine to do, in this order.

Every ``SendParameters`` is a request for one gradient, and every request ends exactly once: in a
``Commit``, a ``Free`` or a ``Cancel``, or with its worker (``Left``, a newer ``Joined``, or
``Dismiss``). Engines can rely on it for the storage of gradients.
"""

from dataclasses import dataclass
from enum import StrEnum

from distvi.protocol.events import Event, Outcome
from distvi.protocol.tickets import Lot, Ticket


class Reason(StrEnum):
    """Why a gradient is not used or an event changes nothing."""

    STALE = "computed on parameters that are too old"
    SECOND = "its worker is already in this update"
    NON_FINITE = "unusable"
    WRONG_BASE = "not computed on the version that was sent"
    STOPPED = "the run has stopped"
    DECIDED = "repeated, cancelled or decided before"
    NEVER_REQUESTED = "never requested"
    UNKNOWN_WORKER = "the worker is no member"
    OTHER_INCARNATION = "the worker has another incarnation"
    KNOWN = "the worker is a member already, or has gone since"
    EARLY = "nothing is due yet"


@dataclass(frozen=True, slots=True)
class SendParameters:
    """Send a worker the parameters of ``version``; its gradient carries ``sequence``."""

    worker: int
    incarnation: int
    sequence: int
    version: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Apply one update, on all servers or on none; its result is ``version``.

    The contributions come sorted by worker and sequence, so that their sum does not depend on the
    order of arrival.
    """

    version: int
    contributions: Lot

    def staleness(self) -> tuple[int, ...]:
        """Updates between the version each gradient was computed on and the one it changes."""
        return tuple(self.version - 1 - part.ticket.base for part in self.contributions)


@dataclass(frozen=True, slots=True)
class Free:
    """Drop a gradient that arrived: it will never be applied. Its worker may be told why."""

    ticket: Ticket
    reason: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Tell a worker to abandon a request; whatever exists of that gradient may go."""

    worker: int
    incarnation: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Dismiss:
    """A worker was silent for too long and is no member any more.

    If it lives it may join again under a higher incarnation.
    """

    worker: int
    incarnation: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """The answer to an event that changed nothing; it frees nothing either."""

    event: Event
    reason: Reason


@dataclass(frozen=True, slots=True)
class SetAlarm:
    """Deliver an ``Alarm`` at ``at_s`` or later, in place of any earlier request."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Stop:
    """The run is over; no parameters are sent and nothing is committed after this."""

    outcome: Outcome
    reason: str


Command = SendParameters | Commit | Free | Cancel | Dismiss | Ignored | SetAlarm | Stop
