"""What coordinator, workers and servers say to each other: small typed messages.

A message is a NamedTuple of plain values. The parameters, payloads, states and memories that it
speaks of lie in slots (`distvi.engines.coordinator.slots`) and are named by number. How it travels
is the fleet's affair. `distvi.testing.drawing` draws who sends what to whom.
"""

from typing import NamedTuple

# From the coordinator to a worker


class Compute(NamedTuple):
    """A request for one payload, such as a gradient.

    Attributes:
        request: Its number; the answer carries it.
        version: Of the parameters: the work is begun when all servers have published it.
        parameters: Slot to read.
        payload: Slot to write.
        memory: Slot to which to copy what is remembered after it; -1: none.
        turn: Which of the worker's requests it is, counted from the run's first; that says which
            batches it consumes.
    """

    request: int
    version: int
    parameters: int
    payload: int
    memory: int
    turn: int


class Abandon(NamedTuple):
    """A request's payload is not wanted any more."""

    request: int


# From a worker


class Computed(NamedTuple):
    """A payload is completely in its slot, or is of no use.

    Attributes:
        request: Which request it answers.
        neg_elbo: Of the batch, in nats.
        is_finite: Whether that and the whole payload are; if not, nothing is remembered of it.
        received_s: When it could be begun, on the machine's clock; the following times too.
        started_s: When computing began.
        computed_s: When it was over.
        pushed_s: When the payload was in its slot.
    """

    request: int
    neg_elbo: float
    is_finite: bool
    received_s: float
    started_s: float
    computed_s: float
    pushed_s: float


class Abandoned(NamedTuple):
    """A request was given up; its slots are not touched any more."""

    request: int


# From the coordinator to a server


class Begin(NamedTuple):
    """What a server's part is at first.

    Attributes:
        version: Of the parameters.
        parameters: Their slot.
        state: Slot of the server's state.
    """

    version: int
    parameters: int
    state: int


class Apply(NamedTuple):
    """A request for one update of the server's part.

    Attributes:
        version: Of the result.
        target: Slot of the parameters to write; None: they have been written.
        payloads: Slots, in the order of their sum.
        factors: Of each of them.
        bases: Slots of the parameters that each was computed on; empty where servers need none.
        rate: Factor of the learning rate.
        is_again: Whether a server that was started anew makes it again, without an answer.
    """

    version: int
    target: int | None
    payloads: tuple[int, ...]
    factors: tuple[float, ...]
    bases: tuple[int, ...]
    rate: float
    is_again: bool = False

    def again(self, *, is_written: bool) -> "Apply":
        """The same for a server that was started anew.

        Args:
            is_written: Whether its slot has the parameters already.
        """
        return self._replace(target=None if is_written else self.target, is_again=True)


class Save(NamedTuple):
    """A request to write the server's state.

    Attributes:
        version: Of the parameters that it belongs to: the server's last.
        state: Slot to write.
    """

    version: int
    state: int


# From a server


class Applied(NamedTuple):
    """The server's part of a version is completely in its slot."""

    version: int
    started_s: float
    ended_s: float


class Saved(NamedTuple):
    """The server's part of the server's state is completely in its slot."""

    version: int
    started_s: float
    ended_s: float


# From both


class Ready(NamedTuple):
    """A process has prepared and compiled everything."""

    compile_time_s: float


class Failed(NamedTuple):
    """A process has met an exception and ends."""

    traceback: str


Message = (
    Compute
    | Abandon
    | Computed
    | Abandoned
    | Begin
    | Apply
    | Applied
    | Save
    | Saved
    | Ready
    | Failed
)
