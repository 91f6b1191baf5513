"""What the page shows of the processes, as values for JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from distvi.engines.base import Engine
from distvi.engines.trace import Span
from distvi.progress import Watchable

MOST_ROWS = 64
"""Workers, and servers, that are listed; of more, the first."""

MOST_SPANS, MOST_SPANS_EACH = 2000, 200
"""A gradient of a worker has up to four; the page shows about forty."""


def measurements(engine: Engine) -> dict[str, Any]:
    """What every engine counts."""
    measured = engine.statistics
    names = ("scheme", "clock", "gradients_used", "gradients_refused", "bytes")
    return {
        **{name: measured[name] for name in names},
        "staleness": measured["staleness"]["histogram"] if measured["servers"] else {},
    }


def processes(engine: Watchable) -> dict[str, Any]:
    """What workers and servers do, and did lately."""
    status = engine.status()
    return {
        "workers": [asdict(worker) for worker in status.workers[:MOST_ROWS]],
        "servers": [asdict(server) for server in status.servers[:MOST_ROWS]],
        "workers_in_all": len(status.workers),
        "servers_in_all": len(status.servers),
        "spans": recent(status.spans, len(status.workers) + len(status.servers)),
    }


def recent(spans: Sequence[Span], processes: int) -> list[list[Any]]:
    """The newest spans: where, number, what, and begin and end in seconds before the last end."""
    newest = list(islice(reversed(spans), min(MOST_SPANS, MOST_SPANS_EACH * processes)))
    end_s = max((span.end_s for span in newest), default=0.0)
    return [
        [
            span.where,
            span.number,
            span.what,
            round(end_s - span.start_s, 6),
            round(end_s - span.end_s, 6),
        ]
        for span in newest
        if span.number < MOST_ROWS
    ]
