"""A process of a run over hosts, started with the descriptor of a connection as its argument.

The command that starts it tells it by an `Order` where the command is that leads the run, and takes
its signs of life. That one tells it by an `Assignment` what to do. It ends when either has gone.
"""

import contextlib
import json
import os
import queue
import socket
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import NoReturn

from distvi.engines.mesh.hosts.messages import (
    AGAIN,
    UNREACHABLE,
    Beat,
    End,
    Link,
    Order,
    Said,
    connection_of,
)

_TRIES_PER_S = 4


def main() -> None:
    """Run the process."""
    starter = Connection(int(sys.argv[1]))
    try:
        order = Order(*json.loads(starter.recv_bytes()))
        link, own_address = _connected(order, starter)
        _beat(order, starter, link)
        said = _listen(link, starter)
        from distvi.engines.mesh.hosts.work import work  # loads JAX, which takes a while

        work(order, own_address, link, said)
    except (EOFError, ConnectionError):  # one of the two has gone
        pass
    except BaseException:
        with contextlib.suppress(OSError):
            traceback.print_exc()
    _leave(AGAIN)


def _connected(order: Order, starter: Connection) -> tuple[Link, str]:
    """Find the command that leads; and this machine's address on the way there."""
    host, port = order.first
    until_s = time.monotonic() + order.join_s
    while True:
        try:
            found = socket.create_connection((host, port), timeout=2 * order.beat_s)
            break
        except OSError as error:
            if time.monotonic() > until_s:
                text = f"cannot reach the first host, {host}:{port}: {error}"
                _leave(UNREACHABLE, starter, text)
            starter.send_bytes(b"")
            time.sleep(1 / _TRIES_PER_S)
    found.settimeout(None)
    own_address = found.getsockname()[0]
    return Link(connection_of(found)), own_address


def _beat(order: Order, starter: Connection, link: Link) -> None:
    """Give signs of life, from a thread of its own."""

    def beat() -> None:
        with contextlib.suppress(OSError):
            while True:
                starter.send_bytes(b"")
                link.send(Beat())
                time.sleep(order.beat_s)
        _leave(AGAIN)

    threading.Thread(target=beat, name="beat", daemon=True).start()


def _listen(link: Link, starter: Connection) -> Said:
    """What the command that leads says; to end is done at once, whatever this process waits for."""
    said: Said = queue.Queue()

    def listen() -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                message, arrays = link.receive()
                if isinstance(message, End):
                    _leave(message.status, starter, message.why)
                said.put((message, arrays))
        _leave(AGAIN)

    threading.Thread(target=listen, name="listen", daemon=True).start()
    return said


def _leave(status: int, starter: Connection | None = None, why: str = "") -> NoReturn:
    """End at once: others may wait for this process, or this one for others, in JAX."""
    if starter is not None and why:
        with contextlib.suppress(OSError):
            starter.send_bytes(json.dumps(why).encode())
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)
