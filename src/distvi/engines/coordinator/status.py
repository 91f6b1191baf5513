"""What every process is doing: for the live view, the timeline and the summary."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from distvi.engines.coordinator.fleet import Process
from distvi.engines.coordinator.messages import Applied, Computed, Ready, Saved
from distvi.engines.coordinator.requests import RequestSlots
from distvi.engines.statistics import Traffic
from distvi.engines.status import EngineStatus, ServerStatus, WorkerStatus
from distvi.engines.trace import Span
from distvi.protocol import BROKEN_AFTER, Dismiss

_RECENT_SPANS = 4096


@dataclass(eq=False)
class StatusTracker:
    """Told by the transport.

    Attributes:
        workers: All of them.
        servers: All of them.
        recent: The last of what took time.
        kept: All of it, if it is kept.
        incidents: What went wrong and was mended, one line each.
        traffic: What a payload and parameters have in bytes.
        tell: Told of each incident when it happens.
    """

    workers: list[WorkerStatus]
    servers: list[ServerStatus]
    traffic: Traffic
    recent: deque[Span] = field(default_factory=lambda: deque(maxlen=_RECENT_SPANS))
    kept: list[Span] | None = None
    incidents: list[str] = field(default_factory=list)
    tell: Callable[[str], None] = lambda incident: None
    compile_time_s: float = 0.0
    pushes: int = 0
    pulls: int = 0
    _replaced: dict[tuple[str, int], int] = field(default_factory=dict)
    _unusable: Counter[int] = field(default_factory=Counter)

    @property
    def counters(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {
            "incidents": list(self.incidents),
            "of_workers": [[now.gradients, now.replaced] for now in self.workers],
            "of_servers": [[now.updates, now.replaced, now.moved_bytes] for now in self.servers],
        }

    def go_on_from(self, counters: Mapping[str, Any]) -> None:
        """Count on from a checkpoint; one of other numbers of processes, or older, has less."""
        self.incidents = list(counters.get("incidents", ()))
        for worker, (gradients, replaced) in zip(
            self.workers, counters.get("of_workers", ()), strict=False
        ):
            worker.gradients, worker.replaced = gradients, replaced
            self._replaced["worker", worker.number] = replaced
        for server, (updates, replaced, moved_bytes) in zip(
            self.servers, counters.get("of_servers", ()), strict=False
        ):
            server.updates, server.replaced, server.moved_bytes = updates, replaced, moved_bytes
            self._replaced["server", server.number] = replaced

    def keep_all(self) -> None:
        """Keep every span from now on."""
        self.kept = list(self.recent)

    @property
    def spans(self) -> Iterable[Span]:
        """What took time: all that is known of it."""
        return self.recent if self.kept is None else self.kept

    def _took_time(self, spans: list[Span]) -> None:
        self.recent.extend(spans)
        if self.kept is not None:
            self.kept.extend(spans)

    def _incident(self, what: str) -> None:
        self.incidents.append(what)
        self.tell(what)

    def snapshot(self) -> EngineStatus:
        """Copies, for whoever draws them."""
        return EngineStatus(
            tuple(replace(worker) for worker in self.workers),
            tuple(replace(server) for server in self.servers),
            tuple(self.recent),
        )

    def started(self, process: Process) -> None:
        """A process was started."""
        now = self._of(process)
        before = self._replaced.get((process.role, process.number), 0)
        now.state, now.process, now.replaced = "starting", process.pid, before + process.start
        if process.role == "worker":
            self._unusable[process.number] = 0

    def ready(self, process: Process, message: Ready) -> None:
        """It is ready."""
        now = self._of(process)
        now.state = "waiting" if process.role == "worker" else "ready"
        now.process = process.pid  # of one on another machine it is known by now
        self.compile_time_s = max(self.compile_time_s, message.compile_time_s)

    def died(self, process: Process, how: str) -> None:
        """It has ended."""
        now = self._of(process)
        now.state, now.process = "gone", 0
        if how:
            self._incident(how)

    def dismissed(self, command: Dismiss) -> None:
        """A worker was silent for too long."""
        self.workers[command.worker].state = "dismissed"
        self._incident(f"worker {command.worker} was dismissed: {command.reason}")

    def sent(self) -> None:
        """A worker was sent a request."""
        self.pulls += 1
        self._moved(self.traffic.pulled)

    def _moved(self, sizes: tuple[int, ...]) -> None:
        """A payload was pushed, or parameters pulled: a part by or from every server."""
        for server, size in zip(self.servers, sizes, strict=True):
            server.moved_bytes += size

    def began(self, worker: int) -> None:
        """A worker has begun what it was asked for."""
        self.workers[worker].state = "computing"

    def answered(self, worker: int, *, has_more: bool) -> None:
        """A worker has come to the end of a request."""
        self.workers[worker].state = "computing" if has_more else "waiting"

    def computed(self, worker: int, request: RequestSlots, message: Computed, newest: int) -> None:
        """A worker has delivered a payload."""
        self._judge(worker, message)
        now = self.workers[worker]
        now.gradients += 1
        self.pushes += 1
        self._moved(self.traffic.pushed)
        now.staleness = newest - request.command.version
        now.computing_s += message.computed_s - message.started_s
        version = request.command.version
        waited_s = now.last_s or message.received_s
        times_s = (
            ("wait", waited_s, message.received_s),
            ("pull", max(message.received_s, waited_s), message.started_s),
            ("compute", message.started_s, message.computed_s),
            ("push", message.computed_s, message.pushed_s),
        )
        now.last_s = message.pushed_s
        self._took_time(
            [
                Span("worker", worker, what, start_s, end_s, version)
                for what, start_s, end_s in times_s
                if start_s < end_s
            ]
        )

    def _judge(self, worker: int, message: Computed) -> None:
        """Tell once of a worker that keeps sending what cannot be used."""
        self._unusable[worker] = 0 if message.is_finite else self._unusable[worker] + 1
        if self._unusable[worker] == BROKEN_AFTER:
            self._incident(
                f"worker {worker} has sent {BROKEN_AFTER} gradients in a row that are not finite; "
                "no update waits for it until it sends one that is"
            )

    def applied(self, server: int, message: Applied) -> None:
        """A server has made an update."""
        now = self.servers[server]
        now.updates += 1
        now.applying_s += message.ended_s - message.started_s
        times_s = (message.started_s, message.ended_s)
        self._took_time([Span("server", server, "apply", *times_s, message.version)])

    def saved(self, server: int, message: Saved) -> None:
        """A server has saved."""
        self.servers[server].applying_s += message.ended_s - message.started_s
        times_s = (message.started_s, message.ended_s)
        self._took_time([Span("server", server, "save", *times_s, message.version)])

    def _of(self, process: Process) -> WorkerStatus | ServerStatus:
        return (
            self.workers[process.number]
            if process.role == "worker"
            else self.servers[process.number]
        )
