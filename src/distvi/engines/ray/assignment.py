"""What a process is told when it is started."""

from typing import Any, NamedTuple

from distvi.engines.ray.sockets import Keys


class Assignment(NamedTuple):
    """What a process is to do.

    Attributes:
        role: ``worker`` or ``server``.
        number: Which one.
        name: By which others know it.
        is_backup: Whether it is a server that only keeps what another one has.
        workers: How many there are.
        servers: How many there are.
        placement: Which server holds what.
        recipe: How to build the problem and the rules: its factory and settings.
        first_request: The first that a worker may be asked for.
        memory: Slot of what a worker remembers; -1: nothing.
        contributions: That most updates are made of.
        coordinator: Where the coordinator listens.
        keys: Of the run; None: nothing is encrypted.
        beat_s: Between two signs of life.
        is_alone: Whether all processes are on one machine, and loopback is enough.
        environment: Variables that are set before JAX is loaded.
    """

    role: str
    number: int
    name: str
    is_backup: bool
    workers: int
    servers: int
    placement: str
    recipe: tuple[str, dict[str, Any]]
    first_request: int
    memory: int
    contributions: int
    coordinator: str
    keys: Keys | None
    beat_s: float
    is_alone: bool
    environment: dict[str, str]
