"""The processes of a run that this machine has: started, listened to, ended."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

from distvi.engines.base import Examples, Halted
from distvi.engines.coordinator.child import how_it_ended, see, start_child, tell
from distvi.engines.coordinator.environment import cores, gpus, shared_environment
from distvi.engines.coordinator.shared import shared
from distvi.engines.mesh.address import Hosts
from distvi.engines.mesh.hosts.messages import Order

_LOADING_S = 30.0
"""Until the first sign of life of a process, which loads its modules."""


@dataclass
class Child:
    """One of them.

    Attributes:
        number: Which process of the run.
        process: The process.
        connection: To it; it gives signs of life there, and may say why it ends.
        log: The file with what it prints, if any.
        heard_s: When it last gave a sign of life; the first may take a while.
        said: Why it ends.
    """

    number: int
    process: subprocess.Popen[bytes]
    connection: Connection
    log: Path | None
    heard_s: float = field(default_factory=lambda: time.monotonic() + _LOADING_S)
    said: str = ""

    def how_it_ended(self) -> str:
        """In words."""
        how = how_it_ended(f"process {self.number}", self.process)
        return self.said or how + see(self.log)

    def listen(self) -> bool:
        """Take what it says; False: it has ended."""
        try:
            if text := self.connection.recv_bytes():
                self.said = json.loads(text)
            self.heard_s = time.monotonic()
        except (EOFError, OSError):
            return False
        return True

    def end(self) -> None:
        """End it here and now."""
        self.process.kill()
        self.process.wait()
        self.connection.close()


class Children:
    """Those of this machine; a context, at whose end none is left.

    Args:
        hosts: Which they are.
        examples: The training set, which they share.
        silence_s: They give several signs of life in that time.
        cache: Folder of compiled programs; None: none.
        quiet: Whether what they print goes nowhere where there is no folder for it.
    """

    def __init__(
        self,
        hosts: Hosts,
        examples: Examples,
        silence_s: float,
        cache: Path | None,
        *,
        quiet: bool = True,
    ) -> None:
        self._hosts, self._examples, self._cache, self._quiet = hosts, examples, cache, quiet
        self._beat_s = silence_s / 5
        self.logs: Path | None = None
        self.each: dict[int, Child] = {}

    def __enter__(self) -> "Children":
        if self._cache is not None:
            self._cache.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self._x, self._y = (
                stack.enter_context(shared(rows)) for rows in (self._examples.x, self._examples.y)
            )
            stack.callback(self.end)
            self._gpus, self._cores = gpus(), cores()
            self._open = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def start(self, number: int, first: tuple[str, int], join_s: float) -> Child:
        """Start a process.

        Args:
            number: Which one.
            first: Where the command that leads is.
            join_s: In which it has to get there.

        Raises:
            Halted: the system has no room for another one.
        """
        place, here = self._hosts.own.index(number), len(self._hosts.own)
        environment = shared_environment(place, here, self._gpus, len(self._cores))
        each = len(self._cores) // here
        own_cores = self._cores[place * each :][:each] if here > 1 and not self._gpus else []
        log = None if self.logs is None else self.logs / f"process-{number}.log"
        descriptors = {self._x.descriptor, self._y.descriptor} - {-1}
        module = "distvi.engines.mesh.hosts.process"
        try:
            process, connection = start_child(
                module, environment, log, descriptors, quiet=self._quiet
            )
        except OSError as error:
            raise Halted(f"cannot start process {number}: {error}") from error
        order = Order(
            number=number,
            processes=self._hosts.processes,
            first=first,
            x=tuple(self._x),
            y=tuple(self._y),
            cache=str(self._cache or ""),
            cores=tuple(own_cores),
            beat_s=self._beat_s,
            join_s=join_s,
        )
        tell(connection, order)
        self.each[number] = child = Child(number, process, connection, log)
        return child

    def end(self) -> None:
        """End all of them here and now: what they have to tell, they have told."""
        for child in self.each.values():
            child.end()
        self.each.clear()

    def heard(self, timeout_s: float) -> Iterator[Child]:
        """Those that have something to say, after waiting for at most so long for one."""
        by_connection = {child.connection: child for child in self.each.values()}
        for connection in wait(list(by_connection), max(timeout_s, 0.0)):
            yield by_connection[connection]  # pyright: ignore[reportArgumentType]
