"""What a process is told when it is started."""

from typing import Any, NamedTuple


class Assignment(NamedTuple):
    """What a process is to do.

    Attributes:
        role: ``worker`` or ``server``.
        number: Which one.
        workers: How many there are.
        servers: How many there are.
        placement: Which server holds what.
        recipe: How to build the problem and the rules: its factory and settings.
        x: The examples' inputs, a `SharedArray`.
        y: Their targets.
        numbers: Descriptors of `distvi.engines.coordinator.slots.Numbers`.
        doorbells: Descriptors too: to a worker its own, to a server those it rings.
        cores: Which to run on; empty: any.
        first_request: The first that a worker may be asked for.
        memory: Slot of what a worker remembers; -1: nothing.
        contributions: That most updates are made of.
        cache: Folder of compiled programs; empty: none.
    """

    role: str
    number: int
    workers: int
    servers: int
    placement: str
    recipe: tuple[str, dict[str, Any]]
    x: tuple[Any, ...]
    y: tuple[Any, ...]
    numbers: tuple[int, ...]
    doorbells: tuple[int, ...]
    cores: tuple[int, ...]
    first_request: int
    memory: int
    contributions: int
    cache: str
