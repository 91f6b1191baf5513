"""The processes of a run: started, heard, replaced when they die, and all ended with the run."""

import contextlib
import json
import os
import selectors
import shutil
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
from distvi.engines.local.child import Assignment
from distvi.engines.local.messages import Message, receive, send

# It asks the kernel to end it with the main process, even while it is stopped, before the imports
# that take their time; and looks whether that has ended already. 1 is PR_SET_PDEATHSIG.
_PROGRAM = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[2]):
    os._exit(1)
from distvi.engines.local.child import main
main()
"""

_GOODBYE_S = 2.0
"""For a process to end by itself, before it is killed."""


@dataclass(eq=False)
class Child:
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

    def tell(self, message: Message) -> None:
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


class Heard(NamedTuple):
    """What came from a process; no message: it has ended."""

    child: Child
    message: Message | None


@dataclass(eq=False)
class Crew:
    """All processes of a run.

    Attributes:
        logs: Folder for what they print; None: nowhere.
        children: Those that live, by role and number.
    """

    logs: Path | None = None
    children: dict[tuple[str, int], Child] = field(default_factory=dict)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _starts: dict[tuple[str, int], int] = field(default_factory=dict)

    def start(self, assignment: Assignment, environment: Mapping[str, str]) -> Child:
        """Start a process; it is ready when it says so.

        Raises:
            Halted: the system has no room for another process, or the log cannot be opened.
        """
        try:
            return self._start(assignment, environment)
        except OSError as error:
            name = f"{assignment.role} {assignment.number}"
            raise Halted(f"cannot start {name}: {error}") from error

    def _start(self, assignment: Assignment, environment: Mapping[str, str]) -> Child:
        role, number = place = assignment.role, assignment.number
        assert place not in self.children, f"{role} {number} lives"
        log = None if self.logs is None else self.logs / f"{role}-{number}.log"
        shared = {assignment.parameters, assignment.gradients, assignment.states}
        shared |= {assignment.seals, *assignment.bells}
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
        child = Child(role, number, start, process, ours, log, time.perf_counter())
        with contextlib.suppress(OSError):
            ours.send_bytes(json.dumps(assignment).encode())
        self.children[place] = child
        self._selector.register(ours, selectors.EVENT_READ, child)
        return child

    def hear(self, timeout_s: float) -> Iterator[Heard]:
        """What has come from all processes, after waiting for at most so long for something."""
        for key, _ in self._selector.select(max(timeout_s, 0.0)):
            child: Child = key.data
            if self.children.get((child.role, child.number)) is not child:
                continue  # ended while another was listened to
            try:
                message = receive(child.connection)
            except (EOFError, OSError):
                self.forget(child)
                message = None
            yield Heard(child, message)

    def forget(self, child: Child) -> None:
        """A process has ended, or is ended here and now."""
        if self.children.get((child.role, child.number)) is child:
            del self.children[child.role, child.number]
            self._selector.unregister(child.connection)
            child.connection.close()
        with contextlib.suppress(ProcessLookupError):
            child.process.kill()
        child.process.wait()

    def of(self, role: str) -> list[Child]:
        """Those of a role that live, in order."""
        found = [child for child in self.children.values() if child.role == role]
        return sorted(found, key=lambda child: child.number)

    def kill(self) -> None:
        """Give nobody the time to end by itself."""
        for child in self.children.values():
            child.process.kill()

    def end(self) -> None:
        """End all; nothing is left when this returns, or raises."""
        children = list(self.children.values())
        self.children.clear()
        self._selector.close()
        for child in children:
            child.connection.close()  # they end when they see that
        until_s = time.perf_counter() + _GOODBYE_S
        try:
            for child in children:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.process.wait(max(0.0, until_s - time.perf_counter()))
        finally:  # a second Ctrl-C does not wait for them
            for child in children:
                child.process.kill()
            for child in children:
                child.process.wait()


def _module_path() -> str:
    """Where this process finds modules; what it can import, its children can."""
    return os.pathsep.join(entry or os.getcwd() for entry in sys.path)


def cores() -> list[int]:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def gpus() -> list[str]:
    """NVIDIA devices that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name and name != "-1"]
    if shutil.which("nvidia-smi") is None:
        return []
    asked = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=30)
    except subprocess.TimeoutExpired:  # a driver that hangs: JAX could use no device either
        return []
    return answer.stdout.split() if answer.returncode == 0 else []


def worker_environment(number: int, devices: list[str]) -> dict[str, str]:
    """One thread for a worker, and one of the devices from ``gpus`` where there are some."""
    environment = _one_thread()
    if devices:
        environment |= {
            "CUDA_VISIBLE_DEVICES": devices[number % len(devices)],
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # the main process evaluates on one of them
        }
    return environment


def server_environment() -> dict[str, str]:
    """A server computes on the CPU, with one thread."""
    return {**_one_thread(), "JAX_PLATFORMS": "cpu"}


def _one_thread() -> dict[str, str]:
    """What XLA and its libraries read when they are loaded.

    XLA's flag keeps one operation on one thread. But independent operations still go to a pool of
    as many threads as there are cores, unless that has one: then they are computed in place, and
    an update takes half the processor's time.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    return {
        "XLA_FLAGS": flags,
        "PJRT_NPROC": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
