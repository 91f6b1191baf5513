"""What the processes of one run say to each other: small typed messages, never numbers by weight.

A message is a NamedTuple of plain values and travels as `marshal` writes those: all processes run
the same interpreter, and every microsecond between two updates counts. The parameters, gradients
and optimizer states that it speaks of lie in shared memory and are named by slot.
"""

import marshal
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, get_args

# From the main process to a worker


class Compute(NamedTuple):
    """A request for one gradient.

    Attributes:
        request: Its number; the answer carries it.
        version: Of the parameters: the gradient is begun when all servers have published it.
        parameters: Slot to read.
        gradient: Slot to write.
        batch: Which of the worker's batches.
    """

    request: int
    version: int
    parameters: int
    gradient: int
    batch: int


class Abandon(NamedTuple):
    """A request's gradient is not wanted any more."""

    request: int


# From a worker


class Computed(NamedTuple):
    """A gradient is completely in its slot, or is of no use.

    Attributes:
        request: Which request it answers.
        neg_elbo: Of the batch, in nats.
        is_finite: Whether that and the whole gradient are.
        received_s: When it could be begun, on the machine's clock; the following times too.
        started_s: When computing began.
        computed_s: When it was over.
        pushed_s: When the gradient was in its slot.
    """

    request: int
    neg_elbo: float
    is_finite: bool
    received_s: float
    started_s: float
    computed_s: float
    pushed_s: float


class Abandoned(NamedTuple):
    """A request was given up; its slots are not to_ask any more."""

    request: int


# From the main process to a server


class Begin(NamedTuple):
    """What a server's part is at first.

    Attributes:
        version: Of the parameters.
        parameters: Their slot.
        state: Slot of the optimizer's state.
    """

    version: int
    parameters: int
    state: int


class Apply(NamedTuple):
    """A request for one update of the server's part.

    Attributes:
        version: Of the result.
        target: Slot of the parameters to write; None: they have been written, and a server that
            was started anew makes the update again without an answer.
        gradients: Slots, in the order of their sum.
        factors: Of each of them.
        rate: Factor of the learning rate.
    """

    version: int
    target: int | None
    gradients: tuple[int, ...]
    factors: tuple[float, ...]
    rate: float

    @property
    def again(self) -> "Apply":
        """The same for a server that was started anew."""
        return self._replace(target=None)


class Save(NamedTuple):
    """A request to write the optimizer's state.

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
    """The server's part of the optimizer's state is completely in its slot."""

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

_KINDS: tuple[Any, ...] = get_args(Message)
_NUMBERS: dict[type, int] = {kind: number for number, kind in enumerate(_KINDS)}


def send(connection: Connection, message: Message) -> None:
    """Send a message.

    Raises:
        OSError: the other process has gone.
    """
    connection.send_bytes(marshal.dumps((_NUMBERS[type(message)], *message)))


def receive(connection: Connection) -> Message:
    """Wait for the next message.

    Raises:
        EOFError, OSError: the other process has gone.
    """
    number, *fields = marshal.loads(connection.recv_bytes())
    return _KINDS[number](*fields)
