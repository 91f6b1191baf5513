"""What the command that leads a run and its processes say to each other, as JSON and raw arrays."""

import json
import queue
import socket
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

AGAIN, ENDED, REFUSED, UNREACHABLE = 75, 0, 76, 77
"""How a process ends: to be started again, with the run, for a reason, without having begun."""


class Order(NamedTuple):
    """What a process is told by the command that starts it.

    Attributes:
        number: Which process it is.
        processes: How many there are.
        first: Host and port of the command that leads.
        x: The examples' inputs, a `distvi.engines.coordinator.shared.SharedArray`.
        y: Their targets.
        cache: Folder of compiled programs; empty: none.
        cores: Which to run on; empty: any.
        beat_s: Between two signs of life.
        join_s: In which it has to reach the command that leads.
    """

    number: int
    processes: int
    first: tuple[str, int]
    x: tuple[Any, ...]
    y: tuple[Any, ...]
    cache: str
    cores: tuple[int, ...]
    beat_s: float
    join_s: float


class Hello(NamedTuple):
    """A process is there.

    Attributes:
        number: Which one.
        processes: How many it has been told there are.
        pid: The operating system's number.
        versions: Of distvi and of JAX.
        port: At which JAX's coordination service can listen; 0 where that is none of its business.
        sample: Of its training examples, see `distvi.engines.mesh.hosts.sample`.
    """

    number: int
    processes: int
    pid: int
    versions: str
    port: int
    sample: dict[str, Any]


class Assignment(NamedTuple):
    """What all processes are to do; the arrays of the state to begin with follow.

    Attributes:
        recipe: How to build the problem and the rules: a factory and its settings.
        devices: Of each process.
        resident: See `distvi.engines.mesh.updates.Updates`.
        coordinator: Where JAX's coordination service is.
        heartbeat_s: After which that gives a process up.
        update: Updates that have been made.
    """

    recipe: tuple[str, dict[str, Any]]
    devices: int
    resident: bool | None
    coordinator: str
    heartbeat_s: int
    update: int


class Ready(NamedTuple):
    """A process can make updates.

    Attributes:
        block: Calls keep to one block of so many updates.
        compile_time_s: That the compiler took.
    """

    block: int
    compile_time_s: float


class Make(NamedTuple):
    """Make the next updates, so many."""

    updates: int


class Made(NamedTuple):
    """Updates are made.

    Attributes:
        values: Their negative ELBOs, in nats.
        waiting_s: Time so far in which updates waited for their batches.
    """

    values: list[float]
    waiting_s: float


class Give(NamedTuple):
    """Give the parameters, or the whole state, after the updates asked for."""

    whole: bool


class Given(NamedTuple):
    """Here they are; the arrays follow."""


class Broken(NamedTuple):
    """A process could not go on, because of another one, of the network, or of a device."""

    why: str


class Failed(NamedTuple):
    """A process met an exception of its own, in words or as a traceback."""

    what: str


class Beat(NamedTuple):
    """A sign of life."""


class End(NamedTuple):
    """End, with this status."""

    status: int
    why: str = ""


Message = Hello | Assignment | Ready | Make | Made | Give | Given | Broken | Failed | Beat | End
_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (Hello, Assignment, Ready, Make, Made, Give, Given, Broken, Failed, Beat, End)
}


Said = queue.Queue[tuple[Message, list[bytes]]]
"""What a process was told, with the bytes of arrays."""


def connection_of(found: socket.socket) -> Connection:
    """A connection whose short messages are not held back for others to join them."""
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Connection(found.detach())


class Link:
    """A connection whose messages may be sent from several threads.

    Args:
        connection: The connection.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._lock = threading.Lock()

    def send(self, message: Message, arrays: Sequence[np.ndarray] = ()) -> None:
        """Send a message, and arrays with it.

        Raises:
            OSError: the other side has gone.
        """
        head = json.dumps([type(message).__name__, len(arrays), *message]).encode()
        with self._lock:
            self.connection.send_bytes(head)
            for array in arrays:
                self.connection.send_bytes(array.tobytes())

    def receive(self) -> tuple[Message, list[bytes]]:
        """The next message, and the bytes of its arrays.

        Raises:
            EOFError, OSError: the other side has gone.
        """
        kind, arrays, *fields = json.loads(self.connection.recv_bytes())
        message = _KINDS[kind](*fields)
        return message, [self.connection.recv_bytes() for _ in range(arrays)]


def arrays_like(leaves: Sequence[Any], given: Sequence[bytes]) -> list[np.ndarray]:
    """Received bytes as arrays.

    Args:
        leaves: Their shapes and dtypes.
        given: Their bytes.
    """
    return [
        np.frombuffer(bytearray(data), leaf.dtype).reshape(leaf.shape)
        for leaf, data in zip(leaves, given, strict=True)
    ]
