"""What a run is watched by: workers and servers at one moment."""

from dataclasses import dataclass
from typing import NamedTuple

from distvi.engines.trace import Span


@dataclass(slots=True)
class WorkerStatus:
    """A worker at this moment.

    Attributes:
        number: Which one.
        state: ``starting``, ``waiting``, ``computing``, ``dismissed`` or ``gone``.
        process: Its process's number; 0: none.
        gradients: That it has delivered.
        staleness: Of the last of them, in updates; None before the first.
        replaced: Times that its process was replaced.
        computing_s: Time in which it computed.
    """

    number: int
    state: str = "starting"
    process: int = 0
    gradients: int = 0
    staleness: int | None = None
    replaced: int = 0
    computing_s: float = 0.0
    last_s: float = 0.0


@dataclass(slots=True)
class ServerStatus:
    """A server at this moment.

    Attributes:
        number: Which one.
        bytes: Of parameters that it holds.
        state: ``starting``, ``ready`` or ``gone``.
        process: Its process's number.
        updates: That it has made.
        replaced: Times that its process was replaced.
        applying_s: Time in which it worked.
        moved_bytes: Of payloads pushed to it and parameters pulled from it.
    """

    number: int
    bytes: int
    state: str = "starting"
    process: int = 0
    updates: int = 0
    replaced: int = 0
    applying_s: float = 0.0
    moved_bytes: int = 0


class EngineStatus(NamedTuple):
    """All processes at one moment, and what they did lately."""

    workers: tuple[WorkerStatus, ...]
    servers: tuple[ServerStatus, ...]
    spans: tuple[Span, ...]
