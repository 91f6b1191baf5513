"""The processes of a run as the coordinator sees them: started, sent to, heard from, stopped."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple

from distvi.engines.coordinator.child import see
from distvi.engines.coordinator.messages import Message

Role = Literal["worker", "server"]


@dataclass(eq=False)
class Process(ABC):
    """A process of the run.

    Attributes:
        role: What it is.
        number: Which one.
        start: How many have had this role and number before.
        started_s: When it was started, on the coordinator's clock.
        log: The file with what it prints, if any.
        is_ready: Whether it has said that it is.
        waits_for_room: Whether it will begin when there is room for it; nobody waits for that.
        makes_room: Whether it was ended on purpose: that is no fault of it.
    """

    role: Role
    number: int
    start: int
    started_s: float
    log: Path | None = None
    is_ready: bool = False
    waits_for_room: bool = False
    makes_room: bool = False

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.role} {self.number}"

    @property
    def see_log(self) -> str:
        """The end of a message about it: where it said more, if it did."""
        return see(self.log)

    @property
    @abstractmethod
    def pid(self) -> int:
        """Its number for the operating system, or any other that tells it from the rest."""

    @property
    @abstractmethod
    def was_killed(self) -> bool:
        """Whether it did not end by itself; to be asked once it has ended."""

    @abstractmethod
    def how_it_ended(self) -> str:
        """In words."""


class Received(NamedTuple):
    """What came from a process; no message: it has ended."""

    process: Process
    message: Message | None


class Post(NamedTuple):
    """What a process is started as.

    Attributes:
        role: What it is.
        number: Which one.
        first_request: The first that a worker may be asked for, counted from the run's first.
        memory: Slot of what a worker remembers; -1: nothing, it begins anew.
    """

    role: Role
    number: int
    first_request: int = 0
    memory: int = -1


class Wanted(NamedTuple):
    """Slots of which somebody wants the content.

    Attributes:
        parameters: Slots of versions.
        payloads: Slots of payloads.
        states: Slots of the servers' state.
        memories: Slots of what workers remember, by worker.
    """

    parameters: Sequence[int] = ()
    payloads: Sequence[int] = ()
    states: Sequence[int] = ()
    memories: Mapping[int, int] = MappingProxyType({})


class Fleet(ABC):
    """All processes of a run; a context, at whose end none is left.

    Attributes:
        logs: Folder for what they print; None: nowhere.
        processes: Those that live, by role and number.
        shares_memory: Whether a slot's content is there for all at once, and outlives who wrote it;
            else each process has its own, and the fleet sees to it that it is where it is needed.
    """

    shares_memory: ClassVar[bool] = True

    def __init__(self) -> None:
        self.logs: Path | None = None
        self.processes: dict[tuple[Role, int], Process] = {}

    @abstractmethod
    def start(self, post: Post) -> Process:
        """Start a process; it is ready when it says so.

        Raises:
            Halted: the system has no room for another one.
        """

    @abstractmethod
    def send(self, process: Process, message: Message) -> None:
        """Send a message. One that has died does not get it; its end is heard of in its turn."""

    @abstractmethod
    def receive(self, timeout_s: float) -> Iterator[Received]:
        """What has come from all processes, after waiting for at most so long for something."""

    @abstractmethod
    def stop(self, process: Process) -> None:
        """End a process here and now; it touches no slot any more when this returns."""

    def bring(self, wanted: "Wanted") -> None:
        """Have the content of slots in the coordinator's own numbers.

        Raises:
            Halted: a process that had a part of them is lost.
        """
        return

    def of(self, role: Role) -> list[Process]:
        """Those of a role that live, in order."""
        found = [process for process in self.processes.values() if process.role == role]
        return sorted(found, key=lambda process: process.number)

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *exception: object) -> None:
        for process in list(self.processes.values()):
            self.stop(process)
