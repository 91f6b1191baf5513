"""What every worker and server did when, as spans of time; and as a file for Perfetto."""

import json
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from distvi.engines.simulated.cluster import Order

_WORKERS, _SERVERS = 1, 2  # Perfetto's processes


class Span(NamedTuple):
    """Something that took time.

    Attributes:
        where: ``worker`` or ``server``.
        number: Which one.
        what: ``pull``, ``compute``, ``push``, ``wait`` or ``apply``.
        start_s: When it began.
        end_s: When it was over.
        version: Of the parameters it was about.
    """

    where: str
    number: int
    what: str
    start_s: float
    end_s: float
    version: int


class Timeline:
    """Collects spans.

    Args:
        workers: Only the first so many workers are kept.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.spans: list[Span] = []
        self._workers = workers
        self._free_s: dict[int, float] = {}

    def order(self, order: "Order", now_s: float) -> None:
        """A worker's order has ended; what lies after now never happened."""
        number = order.worker.number
        if self._workers is not None and number >= self._workers:
            return
        before_s = self._free_s.get(number, order.sent_s)
        times_s = (
            ("wait", before_s, order.sent_s),
            ("pull", order.sent_s, order.pulled_s),
            ("wait", max(order.pulled_s, before_s), order.started_s),
            ("compute", order.started_s, order.computed_s),
            ("push", order.computed_s, order.arrives_s),
        )
        for what, start_s, end_s in times_s:
            if start_s < (end_s := min(end_s, now_s)):
                self.spans.append(Span("worker", number, what, start_s, end_s, order.base))
        self._free_s[number] = now_s

    def update(self, server: int, version: int, start_s: float, end_s: float) -> None:
        """A server applied an update."""
        self.spans.append(Span("server", server, "apply", start_s, end_s, version))


class _NoTimeline(Timeline):
    def order(self, order: "Order", now_s: float) -> None: ...

    def update(self, server: int, version: int, start_s: float, end_s: float) -> None: ...


NO_TIMELINE = _NoTimeline()
"""Keeps nothing."""


def perfetto(spans: list[Span]) -> str:
    """Spans in the trace event format, which ui.perfetto.dev and chrome://tracing open."""
    processes = {"worker": _WORKERS, "server": _SERVERS}
    events: list[dict[str, object]] = [
        {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": f"{name}s"}}
        for name, pid in processes.items()
    ]
    events += [
        {
            "ph": "M",
            "name": "thread_name",
            "pid": processes[where],
            "tid": number,
            "args": {"name": f"{where} {number}"},
        }
        for where, number in sorted({(span.where, span.number) for span in spans})
    ]
    events += [
        {
            "ph": "X",
            "name": span.what,
            "pid": processes[span.where],
            "tid": span.number,
            "ts": round(span.start_s * 1e6, 3),
            "dur": round((span.end_s - span.start_s) * 1e6, 3),
            "args": {"version": span.version},
        }
        for span in sorted(spans, key=lambda span: (span.start_s, span))
    ]
    return json.dumps({"displayTimeUnit": "ms", "traceEvents": events})
