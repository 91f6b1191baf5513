"""Where a process listens for the others of a run."""

import sys
from secrets import token_hex

from ray.util import get_node_ip_address


def endpoint(*, is_alone: bool) -> str:
    """Where to bind a socket, as ZeroMQ has it; a port, if there is one, is still to be found.

    Args:
        is_alone: Whether all processes are on this machine. Then sockets of the kernel serve, which
            take a fifth less processor time than loopback and leave no file behind.
    """
    if not is_alone:
        return f"tcp://{get_node_ip_address()}"
    return f"ipc://@distvi-{token_hex(16)}" if sys.platform == "linux" else "tcp://127.0.0.1"
