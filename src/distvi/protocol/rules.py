"""What a run of the protocol can be told: the scheme, and the run's limits.

A scheme is a **stage** (what the server does with gradients that arrive), a **pacing** (which
worker may start on the newest version) and what becomes of the **stragglers** of an update. The
ones with names are built in ``distvi.aggregation``; anyone can write others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, runtime_checkable

from distvi.errors import InputError
from distvi.protocol.tickets import Lot, Refusal, Ticket

BROKEN_AFTER = 20
"""Unusable answers in a row after which nobody waits for a worker."""


class Request(NamedTuple):
    """A gradient that a worker has been sent parameters for.

    Attributes:
        sequence: Its number among the worker's requests.
        base: Version of the parameters that were sent.
        since_s: When it became the worker's next task: as it was sent, or as the request before
            it was delivered.
    """

    sequence: int
    base: int
    since_s: float


class Member(NamedTuple):
    """A member of the run.

    Attributes:
        worker: Its number.
        incarnation: Which start of it this is.
        clock: Gradients it has delivered, as Ho et al. (2013) count; a newcomer begins at the
            clock of the slowest member, so that nobody waits for what it never did.
        sequence: Number of its next request.
        requests: What it computes, and what it will compute next.
        took_s: How long its last answer took, from when it became its next task.
        unusable_in_a_row: Answers since its last usable one.
    """

    worker: int
    incarnation: int
    clock: int
    sequence: int = 0
    requests: tuple[Request, ...] = ()
    took_s: float | None = None
    unusable_in_a_row: int = 0


@runtime_checkable
class View(Protocol):
    """What stages and pacings may look at; a ``State`` is one. Read it, never keep it."""

    @property
    def version(self) -> int:
        """Updates made so far."""
        ...

    @property
    def now_s(self) -> float:
        """Time of the event, in seconds on the engine's clock."""
        ...

    @property
    def members(self) -> Mapping[int, Member]:
        """Workers that are here, by number."""
        ...

    @property
    def broken(self) -> Mapping[int, None]:
        """Members whose last ``BROKEN_AFTER`` answers were all unusable: barriers let them be.

        They are asked on, and one usable answer mends them.
        """
        ...

    @property
    def held(self) -> Mapping[int, tuple[Ticket, ...]]:
        """Gradients that arrived and are not decided, by worker (who may have left since)."""
        ...

    @property
    def slowest(self) -> int:
        """Lowest clock of all members."""
        ...

    @property
    def at_newest(self) -> int:
        """Gradients of the newest version that are being computed or held."""
        ...


class Decision(NamedTuple):
    """What a stage made of a lot; whatever it neither passed nor refused it holds."""

    memory: Any
    passed: Lot = ()
    refused: tuple[Refusal, ...] = ()


class Stage(NamedTuple):
    """A step between the arrival of gradients and their update: two pure functions.

    Attributes:
        init: The memory before the first gradient; memories are immutable values.
        step: ``(memory, lot, view) -> Decision``. It is called with every lot that the stage
            before it passed, and with an empty one whenever a worker has joined, left or broken,
            so that a barrier can open. A gradient is passed, refused or held; never dropped.
    """

    init: Callable[[], Any]
    step: Callable[[Any, Lot, View], Decision]


def _always_open(view: View) -> object:
    return None


class Pacing(NamedTuple):
    """Which worker may start on the newest version.

    Attributes:
        may_start: Asked of a worker that has fewer than ``in_flight`` requests. It may depend on
            that worker, on its held gradients, and on whatever ``gate`` tells of the rest.
        gate: A value that changes whenever workers that wait could find another answer; they are
            asked again only then, which keeps a barrier of n workers from costing n * n questions.
        in_flight: Requests a worker may have at a time. With 2 it receives its next parameters
            while it still computes: no time is lost on the way, one more own update of staleness.
    """

    may_start: Callable[[Member, View], bool]
    gate: Callable[[View], object] = _always_open
    in_flight: int = 1


class Stragglers(StrEnum):
    """What happens at an update to those still computing on an older version."""

    FINISH = "finish"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Scheme:
    """How workers and updates are kept in step.

    Attributes:
        name: For messages.
        stage: From arrival to update.
        pacing: Who may start.
        stragglers: Whether a late worker finishes or is told to abandon its gradient.
        workers_needed: Fewest workers with which the scheme means what it says.
        is_lockstep: Whether an update is made of one gradient of every member on its newest
            version, so that nothing depends on who is faster.
    """

    name: str
    stage: Stage
    pacing: Pacing
    stragglers: Stragglers = Stragglers.FINISH
    workers_needed: int = 1
    is_lockstep: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """The scheme and the limits of a run; ``None`` is no limit.

    Attributes:
        scheme: How workers and updates are kept in step.
        updates: The run is done at this version.
        examples: The run is done when updates have used this many examples.
        worker_timeout_s: A worker that keeps its parameters for longer is dismissed.
        idle_limit_s: The run fails when no gradient has been in the making for this long: all
            workers are gone, or the scheme lets none of them start.
        nonfinite_limit: The run fails after this many gradients in a row that are not finite.

    Raises:
        InputError: A limit is not positive (``idle_limit_s`` may be 0).
    """

    scheme: Scheme
    updates: int | None = None
    examples: int | None = None
    worker_timeout_s: float | None = None
    idle_limit_s: float | None = None
    nonfinite_limit: int | None = None

    def __post_init__(self) -> None:
        for name in ("updates", "examples", "worker_timeout_s", "nonfinite_limit"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise InputError(f"{name} = {limit}: give a number above 0, or leave it out")
        if self.idle_limit_s is not None and not self.idle_limit_s >= 0:
            raise InputError(f"idle_limit_s = {self.idle_limit_s}: give 0 or more, or leave it out")
