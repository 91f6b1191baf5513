"""What the machines of the simulated cluster did when."""

from collections.abc import Callable

from distvi.engines.simulated.machines import InFlight
from distvi.engines.trace import Span


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

    def request(self, request: InFlight, now_s: float) -> None:
        """A worker's request has ended; what lies after now never happened."""
        number, lane = request.worker.number, request.lane
        if self._workers is not None and number >= self._workers:
            return
        times_s = (
            ("wait", self._free_s.get((number, lane), request.sent_s), request.sent_s),
            ("pull", request.sent_s, request.pulled_s),
            ("compute", request.started_s, request.computed_s),
            ("push", request.computed_s, request.arrives_s),
        )
        for what, start_s, end_s in times_s:
            if start_s < (end_s := min(end_s, now_s)):
                self._keep(Span("worker", number, what, start_s, end_s, request.base, lane))
        self._free_s[number, lane] = now_s

    def left(self, worker: int) -> None:
        """A worker has gone: it does not wait."""
        self._free_s = {key: at_s for key, at_s in self._free_s.items() if key[0] != worker}

    def update(self, server: int, version: int, start_s: float, end_s: float) -> None:
        """A server applied an update."""
        self._keep(Span("server", server, "apply", start_s, end_s, version))


class _NoTimeline(Timeline):
    def request(self, request: InFlight, now_s: float) -> None: ...

    def left(self, worker: int) -> None: ...

    def update(self, server: int, version: int, start_s: float, end_s: float) -> None: ...


NO_TIMELINE = _NoTimeline()
"""Keeps nothing."""
