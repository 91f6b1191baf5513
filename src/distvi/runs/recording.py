"""Files that a run writes when it is asked to: the journal of the protocol, and a timeline."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from distvi.protocol import Command, Entry, Event, Observer, State, write_line
from distvi.runs.files import replace_bytes


@contextmanager
def journal_file(path: Path) -> Iterator[Observer]:
    """An observer that writes each event as a line, see `distvi.protocol.replay`."""
    with path.open("w", encoding="utf-8") as file:

        def write(now_s: float, event: Event, state: State, commands: tuple[Command, ...]) -> None:
            file.write(write_line(Entry(now_s, event)) + "\n")

        yield write


@contextmanager
def trace_file(path: Path, content: Callable[[], str]) -> Iterator[None]:
    """Write a timeline at the end, however that is reached."""
    try:
        yield
    finally:
        replace_bytes(path, content().encode())
