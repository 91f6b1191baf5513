"""The processes of a run: started, heard, replaced when they die, and all ended with the run."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from distvi.engines.base import Halted
from distvi.engines.coordinator.messages import Message, receive, send
from distvi.engines.local.process import Assignment

# It asks the kernel to end it with the main process, even while it is stopped, before the imports
# that take their time; and looks whether that has ended already. 1 is PR_SET_PDEATHSIG.
_PROGRAM = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[2]):
    os._exit(1)
from distvi.engines.local.process import main
main()
"""

_GRACE_PERIOD_S = 2.0
"""For a process to end by itself, before it is killed."""


@dataclass(eq=False)
class Process:
    """A process of the run.

    Attributes:
        role: ``worker`` or ``server``.
        number: Which one.
        start: How many have had this role and number before.
        process: The process.
        connection: To it.
        log: The file with what it prints, if any.
        started_s: When it was started, on the machine's clock.
        is_ready: Whether it has said that it is.
    """

    role: str
    number: int
    start: int
    process: subprocess.Popen[bytes]
    connection: Connection
    log: Path | None
    started_s: float
    is_ready: bool = False

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.role} {self.number}"

    def send(self, message: Message) -> None:
        """Send a message. One that has died does not hear it; its end is heard of in its turn."""
        with contextlib.suppress(OSError):
            send(self.connection, message)

    @property
    def was_killed(self) -> bool:
        """Whether it ended by a signal; to be asked once it has ended."""
        return self.process.wait() < 0

    def how_it_ended(self) -> str:
        """In words."""
        status = self.process.wait()
        how = f"ended with status {status}" if status >= 0 else f"was killed by {_signal(-status)}"
        return f"{self.name} (process {self.process.pid}) {how}" + (
            f"; see {self.log}" if self.log else ""
        )


class Received(NamedTuple):
    """What came from a process; no message: it has ended."""

    process: Process
    message: Message | None


@dataclass(eq=False)
class Fleet:
    """All processes of a run.

    Attributes:
        logs: Folder for what they print; None: nowhere.
        processes: Those that live, by role and number.
    """

    logs: Path | None = None
    processes: dict[tuple[str, int], Process] = field(default_factory=dict)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _starts: dict[tuple[str, int], int] = field(default_factory=dict)

    def start(self, assignment: Assignment, environment: Mapping[str, str]) -> Process:
        """Start a process; it is ready when it says so.

        Raises:
            Halted: the system has no room for another process, or the log cannot be opened.
        """
        try:
            return self._start(assignment, environment)
        except OSError as error:
            name = f"{assignment.role} {assignment.number}"
            raise Halted(f"cannot start {name}: {error}") from error

    def _start(self, assignment: Assignment, environment: Mapping[str, str]) -> Process:
        role, number = place = assignment.role, assignment.number
        assert place not in self.processes, f"{role} {number} lives"
        log = None if self.logs is None else self.logs / f"{role}-{number}.log"
        shared = {assignment.parameters, assignment.gradients, assignment.states}
        shared |= {assignment.published, *assignment.doorbells}
        shared |= {array[3] for array in (assignment.x, assignment.y)}
        ours, theirs = Pipe()
        with contextlib.ExitStack() as stack, theirs:
            output = subprocess.DEVNULL
            if log is not None:
                log.parent.mkdir(parents=True, exist_ok=True)
                output = stack.enter_context(log.open("ab"))
            process = subprocess.Popen(
                # -P: the working folder's modules are none of ours, unless our path says so
                [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment, "PYTHONPATH": _module_path()},
                pass_fds=[theirs.fileno(), *(shared - {-1})],
                start_new_session=True,  # the terminal's Ctrl-C is for the main process
            )
        start = self._starts.get(place, 0)
        self._starts[place] = start + 1
        process = Process(role, number, start, process, ours, log, time.perf_counter())
        with contextlib.suppress(OSError):
            ours.send_bytes(json.dumps(assignment).encode())
        self.processes[place] = process
        self._selector.register(ours, selectors.EVENT_READ, process)
        return process

    def receive(self, timeout_s: float) -> Iterator[Received]:
        """What has come from all processes, after waiting for at most so long for something."""
        for key, _ in self._selector.select(max(timeout_s, 0.0)):
            process: Process = key.data
            if self.processes.get((process.role, process.number)) is not process:
                continue  # ended while another was listened to
            try:
                message = receive(process.connection)
            except (EOFError, OSError):
                self.forget(process)
                message = None
            yield Received(process, message)

    def forget(self, process: Process) -> None:
        """A process has ended, or is ended here and now."""
        if self.processes.get((process.role, process.number)) is process:
            del self.processes[process.role, process.number]
            self._selector.unregister(process.connection)
            process.connection.close()
        with contextlib.suppress(ProcessLookupError):
            process.process.kill()
        process.process.wait()

    def of(self, role: str) -> list[Process]:
        """Those of a role that live, in request."""
        found = [process for process in self.processes.values() if process.role == role]
        return sorted(found, key=lambda process: process.number)

    def kill(self) -> None:
        """Give nobody the time to end by itself."""
        for process in self.processes.values():
            process.process.kill()

    def end(self) -> None:
        """End all; nothing is left when this returns, or raises."""
        processes = list(self.processes.values())
        self.processes.clear()
        self._selector.close()
        for process in processes:
            process.connection.close()  # they end when they see that
        until_s = time.perf_counter() + _GRACE_PERIOD_S
        try:
            for process in processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.process.wait(max(0.0, until_s - time.perf_counter()))
        finally:  # a second Ctrl-C does not wait for them
            for process in processes:
                process.process.kill()
            for process in processes:
                process.process.wait()


def _module_path() -> str:
    """Where this process finds modules; what it can import, its processes can."""
    return os.pathsep.join(entry or os.getcwd() for entry in sys.path)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
