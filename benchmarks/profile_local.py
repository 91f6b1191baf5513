"""Where the time of the ``local`` engine goes: processor time of its processes, and a round's."""

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from statistics import median

from benchmarks.work import SERVERS, WORKERS
from distvi.engines.coordinator.engine import FleetEngine
from distvi.engines.coordinator.environment import cores
from distvi.engines.trace import Span

MAIN, IDLE = "the main process", "idle"
PARTS = (WORKERS, SERVERS, MAIN, IDLE)
"""Of the processors' time."""


class Account:
    """Processor time of an engine's processes while it trains.

    Args:
        engine: Its workers have a core each, and there are no others.
    """

    def __init__(self, engine: FleetEngine) -> None:
        assert len(engine.tracker.workers) <= len(cores()), "a worker without a core"
        self._engine = engine
        self._spent_s: dict[str, float] = defaultdict(float)
        self._steps = 0

    @contextmanager
    def of(self, steps: int) -> Iterator[None]:
        """Count what is spent in the block, in which so many gradients are made."""
        processes = self._processes()
        before = {pid: _processor_s(pid) for pid in processes}
        begun_s = time.perf_counter()
        yield
        self._spent_s[IDLE] += len(self._engine.tracker.workers) * (time.perf_counter() - begun_s)
        for pid, role in processes.items():
            spent_s = _processor_s(pid) - before[pid]
            self._spent_s[role] += spent_s
            self._spent_s[IDLE] -= spent_s
        self._steps += steps

    def _processes(self) -> dict[int, str]:
        tracker = self._engine.tracker
        workers = {worker.process: WORKERS for worker in tracker.workers}
        servers = {server.process: SERVERS for server in tracker.servers}
        return workers | servers | {os.getpid(): MAIN}

    @property
    def spent_ms(self) -> dict[str, float]:
        """Milliseconds a gradient; in total those that the cores had."""
        return {
            what: 1e3 * self._spent_s[what] / self._steps for what in (WORKERS, SERVERS, MAIN, IDLE)
        }


def _processor_s(pid: int) -> float:
    """Seconds that a process's threads have computed so far, those that have ended included."""
    return time.clock_gettime((~pid << 3) | 2)  # as clock_getcpuclockid(3) of glibc


def round_ms(spans: Iterable[Span], workers: int) -> dict[str, float]:
    """What a round in lockstep consists of: medians, in milliseconds.

    From the start of the last gradient on one version to that of the last one on the next.
    """
    of: dict[str, dict[int, list[Span]]] = defaultdict(lambda: defaultdict(list))
    for span in spans:
        of[span.what][span.version].append(span)
    rounds: dict[str, list[float]] = defaultdict(list)
    for version, updates in of["apply"].items():
        computed, pushed = of["compute"][version - 1], of["push"][version - 1]
        begun = of["compute"][version]
        if not len(computed) == len(pushed) == len(begun) == workers:
            continue
        times_s = (
            max(span.start_s for span in computed),
            max(span.end_s for span in pushed),
            min(span.start_s for span in updates),
            max(span.end_s for span in updates),
            max(span.start_s for span in begun),
        )
        names = ("the last gradient and its push", "news of it", "the update", "news of that")
        for name, start_s, end_s in zip(names, times_s[:-1], times_s[1:], strict=True):
            rounds[name].append(1e3 * (end_s - start_s))
    return {name: median(values) for name, values in rounds.items()}
