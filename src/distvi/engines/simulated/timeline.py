"""What the machines of the simulated cluster did when."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from distvi.engines.timeline import Span, perfetto

if TYPE_CHECKING:
    from distvi.engines.simulated.cluster import Order

__all__ = ["NO_TIMELINE", "Span", "Timeline", "perfetto"]


class Timeline:
    """Makes spans of what happens.

    Args:
        workers: Only the first so many workers are kept.
        keep: Takes each span; by default they are collected in ``spans``, which takes about 1 KB
            of memory for each gradient.
    """

    def __init__(
        self, workers: int | None = None, keep: Callable[[Span], None] | None = None
    ) -> None:
        self.spans: list[Span] = []
        self._keep = self.spans.append if keep is None else keep
        self._workers = workers
        self._free_s: dict[tuple[int, int], float] = {}

    def order(self, order: "Order", now_s: float) -> None:
        """A worker's order has ended; what lies after now never happened."""
        number, lane = order.worker.number, order.lane
        if self._workers is not None and number >= self._workers:
            return
        times_s = (
            ("wait", self._free_s.get((number, lane), order.sent_s), order.sent_s),
            ("pull", order.sent_s, order.pulled_s),
            ("compute", order.started_s, order.computed_s),
            ("push", order.computed_s, order.arrives_s),
        )
        for what, start_s, end_s in times_s:
            if start_s < (end_s := min(end_s, now_s)):
                self._keep(Span("worker", number, what, start_s, end_s, order.base, lane))
        self._free_s[number, lane] = now_s

    def left(self, worker: int) -> None:
        """A worker has gone: it does not wait."""
        self._free_s = {key: at_s for key, at_s in self._free_s.items() if key[0] != worker}

    def update(self, server: int, version: int, start_s: float, end_s: float) -> None:
        """A server applied an update."""
        self._keep(Span("server", server, "apply", start_s, end_s, version))


class _NoTimeline(Timeline):
    def order(self, order: "Order", now_s: float) -> None: ...

    def left(self, worker: int) -> None: ...

    def update(self, server: int, version: int, start_s: float, end_s: float) -> None: ...


NO_TIMELINE = _NoTimeline()
"""Keeps nothing."""
