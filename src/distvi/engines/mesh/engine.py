"""Synchronous training over JAX devices: of this process, or of processes on several hosts."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from distvi.algorithms.base import Algorithm, Params
from distvi.engines.base import Devices, Engine, Problem, Start, TrainState
from distvi.engines.mesh.blocks import BLOCK_BYTES
from distvi.engines.mesh.calls import CALL_S, Pace, make_calls
from distvi.engines.mesh.devices import devices
from distvi.engines.mesh.settings import MeshSettings
from distvi.engines.mesh.statistics import mesh_statistics
from distvi.engines.mesh.updates import RESIDENT, Updates


def build(settings: MeshSettings, problem: Problem, algorithm: Algorithm, start: Start) -> Engine:
    """An engine on the devices of this process, or on hosts; see `distvi.engines.registry`.

    Raises:
        InputError: there are not so many devices, the batch cannot be cut evenly among them, or
            other processes cannot build the problem.
    """
    if settings.hosts is not None:
        from distvi.engines.mesh.leader import hosts_engine

        return hosts_engine(settings, problem, algorithm, start)
    on = devices(settings.workers)
    return MeshEngine(problem, algorithm, start, on, resident=RESIDENT[settings.data_on_device])


class MeshEngine:
    """Synchronous training on the devices of this process; see `distvi.engines.base.Engine`.

    Args:
        problem: What to optimize.
        algorithm: How; its scheme is that of one worker.
        start: Where to begin.
        on: The devices.
        resident: Whether the training set is kept in their memory; None: where there is an
            accelerator and the set fills less than half of its memory.
        call_s: About the longest call, for nothing interrupts one.
        block_bytes: Of examples that are copied at once.

    Raises:
        InputError: the batch cannot be cut evenly among the devices.
    """

    deterministic = True

    def __init__(
        self,
        problem: Problem,
        algorithm: Algorithm,
        start: Start,
        on: Devices,
        *,
        resident: bool | None = None,
        call_s: float = CALL_S,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self._problem, self._batches = problem, algorithm.worker.batches
        self.workers, self.devices, self._pace = len(on), on, Pace(call_s)
        self._updates = Updates(
            problem, algorithm, start, on, resident=resident, block_bytes=block_bytes
        )

    @property
    def state(self) -> TrainState:
        """The state after ``update`` updates. The next ``advance`` deletes its arrays."""
        return self._updates.state

    @property
    def params(self) -> Params:
        """The parameters after ``update`` updates. The next ``advance`` deletes their arrays."""
        return self._updates.state.params

    @property
    def update(self) -> int:
        """Updates made since the run began."""
        return self._updates.asked

    @property
    def compile_time_s(self) -> float:
        """Time that the compiler took, before the first update."""
        return self._updates.compile_time_s

    @property
    def waiting_s(self) -> float:
        """Time in which an update waited for its batch."""
        return self._updates.waiting_s

    @property
    def examples(self) -> int:
        """Examples in those updates."""
        return self.update * self._problem.batch_size * self._batches

    def now_s(self) -> float:
        """Wall-clock time."""
        return time.perf_counter()

    @property
    def counters(self) -> dict[str, Any]:
        """Nothing: all follows from the number of updates."""
        return {}

    @property
    def statistics(self) -> dict[str, Any]:
        """Its fields of summary.json."""
        return mesh_statistics(self._problem, self._batches, self.workers, self.update)

    def advance(
        self, until: int, interrupted: Callable[[], bool] = lambda: False
    ) -> Float[np.ndarray, " updates"]:
        """Make updates up to number ``until``; see `distvi.engines.base.Engine`.

        Raises:
            ValueError: that is beyond the last update of the run.
        """
        if until > (last := self._problem.updates):
            raise ValueError(f"no update {until} in a run of {last}")
        values = make_calls(self._updates, self._pace, until, interrupted)
        return np.concatenate([np.zeros(0, np.float32), *values])

    def __enter__(self) -> "MeshEngine":
        self._updates.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._updates.__exit__(*exception)
