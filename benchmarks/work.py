"""The work of one gradient that must be done: ``python -m benchmarks.work LOT CORE``.

Batch, gradient, the copy into shared memory and ``1 / LOT`` of an update of LOT gradients, one
after the other on one core, by the code of the ``local`` engine's processes without messages. Two
cores that did nothing else would train twice as fast: no engine can be faster.
"""

import sys
import time
from itertools import count

import numpy as np

from benchmarks.contender import pin, serve
from benchmarks.ours import Distvi
from distvi.engines.local import Processes
from distvi.engines.local.messages import Apply, Begin
from distvi.engines.local.parts import memory_of, parts_of
from distvi.engines.local.server import Part
from distvi.engines.local.worker import Batch, compile_gradient, push
from distvi.engines.memory import keep_freed_memory
from distvi.parameters import layout_of
from distvi.setup import Setup


class Bench:
    """A worker and a server without processes."""

    def __init__(self, setup: Setup, lot: int) -> None:
        self._lot = lot
        params = setup.initial_params()
        self._problem = setup.problem(params)
        layout = layout_of(params)
        shards = parts_of(self._problem, layout, Processes(workers=1, servers=1))
        self._memory = memory_of(shards)
        self._part = Part(shards, 0, self._memory)
        self._part.compile(lot)
        self._memory.parameters.floats(0)[:] = np.asarray(layout.flatten(params))
        self._part.begin(Begin(version=0, parameters=0, state=0))
        self._numbers = count()
        self._gradient, _ = compile_gradient(self._problem, layout, self._batch(), "")
        self._version = 0

    @property
    def parameters(self) -> np.ndarray:
        """The model's, in shared memory."""
        return self._memory.parameters.floats(0)

    def _batch(self) -> Batch:
        number, size = next(self._numbers), self._problem.batch_size
        rows = self._problem.indices(number * size, size)
        return Batch(number, *self._problem.examples.take(rows), rows.astype(np.uint32))

    def update(self) -> None:
        """``lot`` gradients and an update of them."""
        now, then = self._version % 2, 1 - self._version % 2
        for slot in range(self._lot):
            answer = self._gradient(self._memory.parameters.floats(now), self._batch())
            push(answer.gradient, self._memory.gradients.floats(slot))
        self._version += 1
        factors = (1 / self._lot,) * self._lot
        slots = tuple(range(self._lot))
        self._part.apply(Apply(self._version, then, slots, factors, 1.0))


class Work(Distvi):
    """One bench per batch size."""

    def __init__(self, lot: int) -> None:
        super().__init__()
        self._lot = lot
        self._benches: dict[int, Bench] = {}
        keep_freed_memory()

    def prepare(self, batch: int) -> None:
        self._benches[batch] = Bench(self._setup(batch), self._lot)
        self.run(10 * self._lot, batch)

    def run(self, steps: int, batch: int) -> float:
        bench = self._benches[batch]
        before_s = time.perf_counter()
        for _ in range(steps // self._lot):
            bench.update()
        return time.perf_counter() - before_s


if __name__ == "__main__":
    pin(int(sys.argv[2]))
    with Work(int(sys.argv[1])) as contender:
        serve(contender)
