"""What a process says by itself, whatever it computes: signs of life, and what it prints."""

import os
import select
import sys
import threading

from distvi.engines.ray.assignment import Assignment
from distvi.engines.ray.messages import Beat, Printed
from distvi.engines.ray.sockets import Sockets, send

BEAT = "!"
"""Behind the name of a process, the name of its signs of life."""

_STANDARD = (1, 2)  # output and errors
_AT_ONCE = 1 << 16
_LAST_S = 1.0  # for what was printed last


class Heartbeat:
    """A thread that gives signs of life; a context.

    What the process prints, libraries and XLA included, goes to where it went before, which is a
    log of Ray's on its machine, and to the coordinator, which keeps it with the run.

    Args:
        sockets: Of the process.
        assignment: Of the process.
    """

    def __init__(self, sockets: Sockets, assignment: Assignment) -> None:
        self._sockets, self._assignment = sockets, assignment
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._before = [os.dup(descriptor) for descriptor in _STANDARD]
        self._printed, into = os.pipe()
        for descriptor in _STANDARD:
            os.dup2(into, descriptor)
        os.close(into)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for before, descriptor in zip(self._before, _STANDARD, strict=True):
            os.dup2(before, descriptor)  # nobody writes to the pipe any more, and the thread ends
        self._thread.join(_LAST_S)

    def _run(self) -> None:
        assignment = self._assignment
        socket = self._sockets.connected(assignment.coordinator, assignment.name + BEAT)
        while True:
            if not select.select([self._printed], [], [], assignment.beat_s)[0]:
                send(socket, Beat())
            elif text := os.read(self._printed, _AT_ONCE):
                os.write(self._before[0], text)
                send(socket, Printed(text.decode(errors="replace")))
            else:
                break
        socket.close()
