"""Plain copies of the model's bytes between gradients: ``python -m benchmarks.copies CORE``."""

import sys
import time

import numpy as np

from benchmarks.contender import pin, serve
from benchmarks.work import Work
from distvi.engines.local.arena import Slots


class Copies(Work):
    """A step is a gradient, a copy to shared memory and one back; it takes what the copies take."""

    def __init__(self) -> None:
        super().__init__(lot=1)

    def prepare(self, batch: int) -> None:
        super().prepare(batch)
        shared = self._benches[batch].parameters  # as many bytes
        self._there, self._back = Slots(shared.nbytes).floats(0), shared
        self._own = np.ones_like(shared)

    def run(self, steps: int, batch: int) -> float:
        copying_s = 0.0
        for _ in range(steps):
            super().run(1, batch)
            begin_s = time.perf_counter()
            np.copyto(self._there, self._own)
            np.copyto(self._own, self._back)
            copying_s += time.perf_counter() - begin_s
        return copying_s


if __name__ == "__main__":
    pin(int(sys.argv[1]))
    with Copies() as contender:
        serve(contender)
