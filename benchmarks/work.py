"""The work of one gradient that must be done: ``python -m benchmarks.work LOT CORE...``.

A batch, its gradient, the copy into shared memory and ``1 / LOT`` of an update of LOT gradients,
one after the other on one core, by the code of the ``local`` engine's processes without messages.
With several cores, each of them does so at the same time, with parameters and an optimizer's state
of its own, which take more of the shared caches than one server's. So that is what an engine
without messages could be expected to reach, and so many times one core alone what none exceeds.
"""

import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from statistics import fmean
from typing import Any

import jax
import numpy as np

from benchmarks.child import processes
from benchmarks.contender import pin, serve
from benchmarks.distvi_step import Distvi
from distvi.engines.base import Built
from distvi.engines.coordinator.environment import server_environment
from distvi.engines.coordinator.messages import Apply, Begin, Compute
from distvi.engines.coordinator.server import ShardServer
from distvi.engines.coordinator.slots import slot_map
from distvi.engines.coordinator.worker import Worker
from distvi.engines.local.memory import shared_numbers
from distvi.parameters import layout_of, make_shards, place
from distvi.system.malloc import keep_freed_memory
from distvi.training.plan import Plan

WORKERS, SERVERS = "workers", "servers"
"""Whose work processor time is spent on: gradients with their pushes, and updates."""


class Bench:
    """A worker and a server without processes."""

    def __init__(self, plan: Plan, lot: int) -> None:
        self._lot = lot
        built = Built(plan.problem, plan.algorithm.worker, plan.algorithm.server)
        layout = layout_of(plan.shapes)
        shards = make_shards(layout, place("ranges", layout.sizes, servers=1), built.server)
        slots = slot_map(shards, built.worker)
        self._numbers = shared_numbers(slots)  # of the optimizer's state at first: zeros
        self.parameters[:] = np.asarray(layout.flatten(plan.initial_params()))
        self._server = ShardServer(0, slots, self._numbers, built)
        self._server.compile(lot)
        self._server.handle(Begin(version=0, parameters=0, state=0))
        self._worker = Worker(0, 1, slots, self._numbers, built)
        self._worker.compile()
        self._turns, self._version = count(), 0
        self.spent_s: dict[str, float] = defaultdict(float)

    @property
    def parameters(self) -> np.ndarray:
        """The model's, in shared memory."""
        return self._numbers.parameters.bytes(0).view(np.float32)

    def update(self) -> None:
        """``lot`` gradients and an update of them."""
        now, then = self._version % 2, 1 - self._version % 2
        begun_s = time.perf_counter()
        payloads = tuple(range(self._lot))
        for slot in payloads:
            turn = next(self._turns)
            batch = self._worker.batch(turn)
            request = Compute(turn, self._version, now, slot, memory=-1, turn=turn)
            self._worker.answer(request, batch, time.perf_counter())
        pushed_s = time.perf_counter()
        self._version += 1
        factors = (1 / self._lot,) * self._lot
        self._server.handle(Apply(self._version, then, payloads, factors, bases=(), rate=1.0))
        self.spent_s[WORKERS] += pushed_s - begun_s
        self.spent_s[SERVERS] += time.perf_counter() - pushed_s


class Work(Distvi):
    """One bench per batch size."""

    def __init__(self, lot: int) -> None:
        super().__init__()
        self._lot = lot
        self._benches: dict[int, Bench] = {}
        self._steps: Counter[int] = Counter()
        keep_freed_memory()

    def prepare(self, batch: int) -> None:
        self._benches[batch] = Bench(self._plan(batch), self._lot)
        self.run(10 * self._lot, batch)

    def run(self, steps: int, batch: int) -> float:
        bench = self._benches[batch]
        before_s = time.perf_counter()
        for _ in range(steps // self._lot):
            bench.update()
        self._steps[batch] += steps
        return time.perf_counter() - before_s

    def spent(self, batch: int) -> dict[str, dict[str, float]]:
        """Milliseconds a step, by the clock: the core has nothing else to do."""
        steps, spent_s = self._steps[batch], self._benches[batch].spent_s
        return {"processor": {what: 1e3 * time_s / steps for what, time_s in spent_s.items()}}


class Together:
    """Several cores that do the work at the same time; a step is a gradient of any of them.

    Args:
        lot: Gradients of an update.
        cores: Of each of the processes.
    """

    def __init__(self, lot: int, cores: Sequence[int]) -> None:
        self._lot, self._cores = lot, cores
        self._stack = ExitStack()

    def __enter__(self) -> "Together":
        command = [sys.executable, "-m", "benchmarks.work", str(self._lot)]
        commands = {f"core {core}": [*command, str(core)] for core in self._cores}
        self._children = [*self._stack.enter_context(processes(commands, {})).values()]
        self._threads = self._stack.enter_context(ThreadPoolExecutor(len(self._cores)))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _ask(self, *request: object) -> list[Any]:
        return [*self._threads.map(lambda process: process.ask(*request), self._children)]

    def describe(self) -> dict[str, str]:
        """Versions."""
        return self._ask("describe")[0]

    def prepare(self, batch: int) -> None:
        """Each compiles for itself."""
        self._ask("prepare", batch)

    def run(self, steps: int, batch: int) -> float:
        """Each of the cores has its part of the steps; as long as their speeds together take."""
        own = steps // len(self._cores)
        return steps / sum(own / seconds for seconds in self._ask("run", own, batch))

    def loss(self, case: str) -> tuple[float, float]:
        """As one of them."""
        return self._ask("loss", case)[0]

    def spent(self, batch: int) -> dict[str, dict[str, float]]:
        """In the mean over the cores."""
        each = [own["processor"] for own in self._ask("spent", batch)]
        return {"processor": {what: fmean(own[what] for own in each) for what in each[0]}}


if __name__ == "__main__":
    lot, *cores = map(int, sys.argv[1:])
    if len(cores) == 1:
        pin(cores[0])
        # As the engine's processes are run; read when XLA is asked for its first computation.
        os.environ.update(server_environment())
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    with Work(lot) if len(cores) == 1 else Together(lot, cores) as contender:
        serve(contender)
