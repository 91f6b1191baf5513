"""ZeroMQ: sockets that are encrypted and known by the run's keys; messages and numbers on them.

The first frame is a message in JSON, ``[kind, *fields]``; the frames behind it are numbers, byte by
byte, which are read into memory that is there already. Nothing that is received is ever executed.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import zmq
from zmq.auth.thread import ThreadAuthenticator

from distvi.engines.coordinator.messages import Message
from distvi.engines.ray.messages import Network
from distvi.errors import RunFailed

_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (*get_args(Message), *get_args(Network))}
_LINGER_MS = 1000  # for what was sent last, when a socket is closed
_UNLIMITED = 0

Frames = Sequence[Any]
"""Numbers: one-dimensional NumPy arrays of bytes, contiguous. (Their types do not say that they are
buffers.)"""


class Keys(NamedTuple):
    """Of one run, for all its processes: whoever has them is one of them.

    Attributes:
        public: Of the sockets that bind.
        secret: Of the same.
        own_public: Of the sockets that connect.
        own_secret: Of the same.
    """

    public: str
    secret: str
    own_public: str
    own_secret: str

    @classmethod
    def new(cls) -> "Keys":
        """Made for a run, with CURVE's random numbers."""
        made = (*zmq.curve_keypair(), *zmq.curve_keypair())
        return cls(*(key.decode() for key in made))


class _OwnProcesses:
    """Says of a public key whether it belongs to the run; see `zmq.auth`."""

    def __init__(self, keys: Keys) -> None:
        self._known = keys.own_public.encode()

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether a client with this key is let in."""
        return key == self._known


class Sockets:
    """The sockets of a process; a context, at whose end all are closed.

    Args:
        keys: Of the run; None: nothing is encrypted, and everyone is let in.
    """

    def __init__(self, keys: Keys | None) -> None:
        self._keys = keys
        self._context = zmq.Context()
        self._context.setsockopt(zmq.LINGER, _LINGER_MS)
        self._authenticator: ThreadAuthenticator | None = None
        if keys is not None:
            self._authenticator = ThreadAuthenticator(self._context)
            self._authenticator.start()
            self._authenticator.configure_curve_callback(credentials_provider=_OwnProcesses(keys))

    def bound(self, endpoint: str) -> tuple[zmq.Socket[bytes], str]:
        """A socket that hears from many, and its address.

        Args:
            endpoint: Where; see `distvi.engines.ray.address`.

        Raises:
            RunFailed: the machine has no such address.
        """
        socket = self._new(zmq.ROUTER)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        if self._keys is not None:
            socket.curve_server = True
            socket.curve_secretkey = self._keys.secret.encode()
        try:
            socket.bind(f"{endpoint}:*" if endpoint.startswith("tcp:") else endpoint)
        except zmq.ZMQError as error:
            raise RunFailed(f"cannot listen on {endpoint}: {error}") from error
        return socket, socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def connected(self, address: str, name: str) -> zmq.Socket[bytes]:
        """A socket to one that is bound, which knows it by its name."""
        socket = self._new(zmq.DEALER)
        socket.setsockopt(zmq.IDENTITY, name.encode())
        if self._keys is not None:
            socket.curve_serverkey = self._keys.public.encode()
            socket.curve_publickey = self._keys.own_public.encode()
            socket.curve_secretkey = self._keys.own_secret.encode()
        socket.connect(address)
        return socket

    def _new(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        for option in (zmq.SNDHWM, zmq.RCVHWM):
            socket.setsockopt(option, _UNLIMITED)  # the protocol bounds what is on its way
        return socket

    def close(self) -> None:
        """Close all."""
        if self._authenticator is not None:
            self._authenticator.stop()
        self._context.destroy(linger=_LINGER_MS)


def send(
    socket: zmq.Socket[bytes], message: Message | Network, frames: Frames = (), to: str = ""
) -> bool:
    """Send a message, and numbers behind it. Returns at once; numbers are read as they are sent.

    Args:
        socket: On which.
        message: What.
        frames: That belong to it.
        to: Name of the receiver, on a socket that is bound.

    Returns:
        Whether there is anybody of that name; else nothing is sent.
    """
    first = json.dumps([type(message).__name__, *message]).encode()
    parts: list[Any] = [to.encode(), first] if to else [first]
    try:
        for part in parts[: 1 + bool(to) - (not frames)]:
            socket.send(part, zmq.SNDMORE)
        if not frames:
            socket.send(parts[-1])
            return True
        for frame in frames[:-1]:
            socket.send(frame, zmq.SNDMORE, copy=False)
        socket.send(frames[-1], copy=False)
    except zmq.ZMQError as error:
        if error.errno == zmq.EHOSTUNREACH:
            return False
        raise
    return True


def receive(socket: zmq.Socket[bytes]) -> Message | Network:
    """The message that is there; its numbers are still to be read, by `read` or `skip`."""
    kind, *fields = json.loads(socket.recv())
    return _KINDS[kind](*(tuple(f) if isinstance(f, list) else f for f in fields))


def receive_from(socket: zmq.Socket[bytes]) -> tuple[str, Message | Network]:
    """The message that is there on a socket that is bound, after its sender's name."""
    name = socket.recv().decode()
    return name, receive(socket)


def read(socket: zmq.Socket[bytes], frames: Frames) -> None:
    """Read the numbers behind a message into their places.

    Raises:
        RunFailed: they are of other sizes.
    """
    for frame in frames:
        if not socket.getsockopt(zmq.RCVMORE):
            raise RunFailed("numbers are missing behind a message: versions of distvi differ")
        if (size := socket.recv_into(frame)) != len(frame):
            raise RunFailed(f"{size} bytes came where {len(frame)} were expected")
    skip(socket)


def skip(socket: zmq.Socket[bytes]) -> None:
    """Pass over the numbers behind a message."""
    while socket.getsockopt(zmq.RCVMORE):
        socket.recv()
