"""Files that a run writes when it is asked to: the journal of the protocol, and a timeline."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from distvi.errors import RunFailed
from distvi.protocol import Command, Entry, Event, Observer, State, write_line
from distvi.system.files import replace_bytes


@contextmanager
def journal_file(path: Path) -> Iterator[Observer]:
    """An observer that writes each event as a line, see `distvi.protocol.replay`.

    Raises:
        RunFailed: an event could not be written; a journal with holes replays nothing.
    """
    with _named(path):
        file = path.open("w", encoding="utf-8")

    def write(now_s: float, event: Event, state: State, commands: tuple[Command, ...]) -> None:
        with _named(path):
            file.write(write_line(Entry(now_s, event)) + "\n")

    try:
        yield write
    finally:
        with _named(path):
            file.close()


@contextmanager
def trace_file(path: Path, content: Callable[[], str]) -> Iterator[None]:
    """Write a timeline at the end, however that is reached.

    Raises:
        RunFailed: it could not be written.
    """
    try:
        yield
    finally:
        text = content()
        with _named(path):
            replace_bytes(path, text.encode())


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunFailed(f"cannot write {path}: {error.strerror}") from error
