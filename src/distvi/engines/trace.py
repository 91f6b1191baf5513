"""What every worker and server did when, as spans of time; and as a file for Perfetto."""

import json
from collections.abc import Callable, Iterable
from typing import NamedTuple

_PROCESSES = {"worker": 1, "server": 2}
_LANE = 1_000_000  # between the numbers of a worker's tracks


class Span(NamedTuple):
    """Something that took time.

    Attributes:
        where: ``worker`` or ``server``.
        number: Which one.
        what: ``pull``, ``compute``, ``push``, ``wait`` or ``apply``.
        start_s: When it began.
        end_s: When it was over.
        version: Of the parameters it was about.
        lane: Of a worker that has several requests at a time, which of them it belongs to.
    """

    where: str
    number: int
    what: str
    start_s: float
    end_s: float
    version: int
    lane: int = 0


class PerfettoFile:
    """A file in the trace event format, which ui.perfetto.dev and chrome://tracing open.

    Spans are written as they come, in any order, so that a trace of any length needs little
    memory. A span takes about 100 bytes of the file. Each lane of a worker is a track of its own:
    spans of one track must not overlap.

    Args:
        write: Takes the file's text piece by piece.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._tracks: set[tuple[str, int, int]] = set()
        write('{"displayTimeUnit": "ms", "traceEvents": [')
        for where, pid in _PROCESSES.items():
            name = {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": f"{where}s"}}
            write(("" if pid == 1 else ",") + "\n" + json.dumps(name))

    def write(self, span: Span) -> None:
        """Add a span."""
        where, number, what, start_s, end_s, version, lane = span
        pid, tid = _PROCESSES[where], 1 + number + _LANE * lane
        if (where, number, lane) not in self._tracks:
            self._name_track(where, number, lane, pid, tid)
        start_us, duration_us = round(start_s * 1e6, 3), round((end_s - start_s) * 1e6, 3)
        self._write(
            f',\n{{"ph": "X", "name": "{what}", "pid": {pid}, "tid": {tid}, "ts": {start_us}, '
            f'"dur": {duration_us}, "args": {{"version": {version}}}}}'
        )

    def close(self) -> None:
        """Write the end of the text."""
        self._write("\n]}\n")

    def _name_track(self, where: str, number: int, lane: int, pid: int, tid: int) -> None:
        self._tracks.add((where, number, lane))
        name = f"{where} {number}" + (f", request {lane + 1}" if lane else "")
        for key, value in (
            ("thread_name", {"name": name}),
            ("thread_sort_index", {"sort_index": number}),
        ):
            event = {"ph": "M", "name": key, "pid": pid, "tid": tid, "args": value}
            self._write(",\n" + json.dumps(event))


def perfetto(spans: Iterable[Span]) -> str:
    """The content of a `PerfettoFile` of spans."""
    pieces: list[str] = []
    file = PerfettoFile(pieces.append)
    for span in spans:
        file.write(span)
    file.close()
    return "".join(pieces)
