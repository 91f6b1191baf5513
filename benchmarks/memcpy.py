"""Plain copies of the model's bytes between gradients: ``python -m benchmarks.memcpy CORE``."""

import sys
import time

import numpy as np

from benchmarks.contender import pin, serve
from benchmarks.work import Work
from distvi.engines.local.memory import SharedSlots


class Copies(Work):
    """A step is a gradient, a copy to shared memory and one back; it takes what the copies take."""

    def __init__(self) -> None:
        super().__init__(lot=1)

    def run(self, steps: int, batch: int) -> float:
        back = self._benches[batch].parameters
        there, own = SharedSlots(back.nbytes).bytes(0).view(np.float32), np.ones_like(back)
        copying_s = 0.0
        for _ in range(steps):
            super().run(1, batch)
            begin_s = time.perf_counter()
            np.copyto(there, own)
            np.copyto(own, back)
            copying_s += time.perf_counter() - begin_s
        return copying_s


if __name__ == "__main__":
    pin(int(sys.argv[1]))
    with Copies() as contender:
        serve(contender)
