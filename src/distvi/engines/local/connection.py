"""How messages travel between processes of one machine: as `marshal` writes plain values.

All processes run the same interpreter, so nothing of them can be misread. JSON took 0.2 ms a round
more; structs of a library would spare microseconds (docs/decisions/0123-libraries.md).
"""

import marshal
from multiprocessing.connection import Connection
from typing import Any, get_args

from distvi.engines.coordinator.messages import Message

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
