"""The processes of a run: started, heard, and all ended with the run."""

import contextlib
import selectors
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from distvi.engines.base import Examples, Halted, Recipe
from distvi.engines.coordinator.child import how_it_ended, start_child, tell
from distvi.engines.coordinator.clock import Clock
from distvi.engines.coordinator.environment import (
    cores,
    gpus,
    server_environment,
    worker_environment,
)
from distvi.engines.coordinator.fleet import Fleet, Post, Process, Received, Role
from distvi.engines.coordinator.messages import Message
from distvi.engines.coordinator.shared import shared
from distvi.engines.coordinator.slots import Numbers
from distvi.engines.local.assignment import Assignment
from distvi.engines.local.connection import receive, send
from distvi.engines.local.doorbell import Doorbell, new_doorbell
from distvi.engines.local.memory import SharedSlots, descriptors_of
from distvi.errors import InputError, RunFailed

_GRACE_PERIOD_S = 2.0
"""For a process to end by itself, before it is killed."""


@dataclass(eq=False, kw_only=True)
class LocalProcess(Process):
    """A process of this machine.

    Attributes:
        process: The process.
        connection: To it.
    """

    process: subprocess.Popen[bytes]
    connection: Connection

    @property
    def pid(self) -> int:
        """The operating system's."""
        return self.process.pid

    @property
    def was_killed(self) -> bool:
        """Whether it ended by a signal."""
        return self.process.wait() < 0

    def how_it_ended(self) -> str:
        """In words."""
        return how_it_ended(self.name, self.process) + self.see_log


class Topology(NamedTuple):
    """How a run is spread over processes.

    Attributes:
        workers: How many compute.
        servers: How many share the parameters.
        placement: Which server holds what.
        contributions: That most updates are made of: programs for those are compiled at the start.
        pin: Whether each worker has a core to itself, where there are enough.
        cache: Folder of compiled programs, which are compiled once for all; None: none is kept.
    """

    workers: int
    servers: int
    placement: str = "ranges"
    contributions: int = 1
    pin: bool = True
    cache: Path | None = None


class LocalFleet(Fleet):
    """Worker and server processes that share memory.

    Args:
        topology: How many, and how they are run.
        recipe: Builds the problem and the rules in each.
        examples: The training set.
        numbers: In shared memory.
        clock: The machine's.
    """

    def __init__(
        self,
        topology: Topology,
        recipe: Recipe,
        examples: Examples,
        numbers: Numbers,
        clock: Clock,
    ) -> None:
        super().__init__()
        self._topology, self._recipe, self._examples = topology, recipe, examples
        self._numbers, self._clock = numbers, clock
        self._selector = selectors.DefaultSelector()
        self._starts: dict[tuple[Role, int], int] = {}
        self._doorbells: list[Doorbell] = []

    def __enter__(self) -> "LocalFleet":
        try:
            self._open = self._opened()
        except (OSError, InputError) as error:  # a limit, met after the run's folder was made
            raise RunFailed(f"cannot start the processes of the run: {error}") from error
        return self

    def _opened(self) -> ExitStack:
        with ExitStack() as stack:
            for slots in self._numbers:
                if isinstance(slots, SharedSlots):
                    stack.callback(slots.close)
            self._x, self._y = (
                stack.enter_context(shared(rows)) for rows in (self._examples.x, self._examples.y)
            )
            self._cores, self._gpus = cores(), gpus()
            for _ in range(self._topology.workers):
                self._doorbells.append(new_doorbell())
                stack.callback(self._doorbells[-1].close)
            stack.callback(self._end)
            return stack.pop_all()

    def __exit__(self, *exception: object) -> None:
        if any(isinstance(value, KeyboardInterrupt) for value in exception):
            for process in self._own:  # a second Ctrl-C waits for nobody
                process.process.kill()
        self._open.close()

    @property
    def _own(self) -> list[LocalProcess]:
        return [each for each in self.processes.values() if isinstance(each, LocalProcess)]

    # Starting

    def start(self, post: Post) -> LocalProcess:
        """Start a process; it is ready when it says so.

        Raises:
            Halted: the system has no room for another process, or the log cannot be opened.
        """
        is_worker = post.role == "worker"
        environment = (
            worker_environment(post.number, self._gpus) if is_worker else server_environment()
        )
        try:
            return self._start(post, environment)
        except OSError as error:
            raise Halted(f"cannot start {post.role} {post.number}: {error}") from error

    def _start(self, post: Post, environment: Mapping[str, str]) -> LocalProcess:
        assignment = self._assignment(post)
        place: tuple[Role, int] = post.role, post.number
        assert place not in self.processes, f"{post.role} {post.number} lives"
        log = None if self.logs is None else self.logs / f"{post.role}-{post.number}.log"
        shared_files = {*assignment.numbers, *assignment.doorbells}
        shared_files |= {array[3] for array in (assignment.x, assignment.y)}
        module = "distvi.engines.local.process"
        process, ours = start_child(module, environment, log, shared_files - {-1})
        start = self._starts.get(place, 0)
        self._starts[place] = start + 1
        started = LocalProcess(
            *place, start, self._clock.machine(), log, process=process, connection=ours
        )
        tell(ours, assignment)
        self.processes[place] = started
        self._selector.register(ours, selectors.EVENT_READ, started)
        return started

    def _assignment(self, post: Post) -> Assignment:
        topology = self._topology
        doorbells = tuple(doorbell.write_end for doorbell in self._doorbells)
        if post.role == "worker":
            doorbells = (self._doorbells[post.number].read_end,)
        return Assignment(
            role=post.role,
            number=post.number,
            workers=topology.workers,
            servers=topology.servers,
            placement=topology.placement,
            recipe=(self._recipe.factory, self._recipe.settings),
            x=tuple(self._x),
            y=tuple(self._y),
            numbers=descriptors_of(self._numbers),
            doorbells=doorbells,
            cores=self._cores_of(post),
            first_request=post.first_request,
            memory=post.memory,
            contributions=topology.contributions,
            cache=str(topology.cache or ""),
        )

    def _cores_of(self, post: Post) -> tuple[int, ...]:
        """A core for each worker, and the rest for the servers; empty: wherever there is time."""
        workers = self._topology.workers
        if not self._topology.pin or self._gpus or workers > len(self._cores):
            return ()
        is_worker = post.role == "worker"
        return (self._cores[post.number],) if is_worker else tuple(self._cores[workers:])

    # Speaking

    def send(self, process: Process, message: Message) -> None:
        """Send a message; one that has died does not get it."""
        assert isinstance(process, LocalProcess)
        with contextlib.suppress(OSError):
            send(process.connection, message)

    def receive(self, timeout_s: float) -> Iterator[Received]:
        """What has come from all processes, after waiting for at most so long for something."""
        for key, _ in self._selector.select(max(timeout_s, 0.0)):
            process: LocalProcess = key.data
            if self.processes.get((process.role, process.number)) is not process:
                continue  # ended while another was listened to
            try:
                message = receive(process.connection)
            except (EOFError, OSError):
                self.stop(process)
                message = None
            yield Received(process, message)

    # Ending

    def stop(self, process: Process) -> None:
        """A process has ended, or is ended here and now."""
        assert isinstance(process, LocalProcess)
        if self.processes.get((process.role, process.number)) is process:
            del self.processes[process.role, process.number]
            self._selector.unregister(process.connection)
            process.connection.close()
        with contextlib.suppress(ProcessLookupError):
            process.process.kill()
        process.process.wait()

    def _end(self) -> None:
        """End all; nothing is left when this returns, or raises."""
        own = self._own
        self.processes.clear()
        self._selector.close()
        for process in own:
            process.connection.close()  # they end when they see that
        until_s = self._clock.machine() + _GRACE_PERIOD_S
        try:
            for process in own:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.process.wait(max(0.0, until_s - self._clock.machine()))
        finally:  # a second Ctrl-C does not wait for them
            for process in own:
                process.process.kill()
            for process in own:
                process.process.wait()
