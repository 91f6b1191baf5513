r"""What the simulated engine costs beyond gradients: ``python -m benchmarks.simulated_overhead``.

The same number of gradients of the same model, as plain steps of the mesh engine and on a simulated
cluster of 16 workers. They take turns, and each ratio is the median over the turns, because a
machine's speed drifts by more than what is measured. On one core, with one thread:

    XLA_FLAGS=--xla_cpu_multi_thread_eigen=false taskset -c 1 \
      python -m benchmarks.simulated_overhead
"""

import argparse
import json
import sys
import time
from contextlib import ExitStack
from statistics import median
from typing import Any

import jax
import numpy as np

from distvi.aggregation import scheme_named
from distvi.algorithms.base import Algorithm
from distvi.algorithms.gradient import gradient, optimize
from distvi.data import Examples, batch_indices
from distvi.engines import Built, Engine, Problem, Start
from distvi.engines.mesh.settings import MeshSettings
from distvi.engines.registry import ENGINES
from distvi.engines.settings import EngineSettings
from distvi.engines.simulated.settings import SimulatedSettings
from distvi.models import Batch, DeepGPSettings, build_model
from distvi.training import optimizers

ROWS, INPUTS, CLASSES = 10_000, 784, 10
_NO_END = 1_000_000


def make_problem(batch_size: int) -> tuple[Built, Any]:
    """The deep GP of 50 GPs and 500 features on images of noise, and its first parameters."""
    settings = DeepGPSettings(hidden_layers=1, width=50, features=500)
    model = build_model(settings, inputs=INPUTS, outputs=CLASSES, task="classification", seed=0)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (ROWS, INPUTS), np.uint8)
    y = rng.integers(0, CLASSES, ROWS).astype(np.int32)

    def loss(params: Any, x: Any, y: Any, index: Any, key: Any) -> Any:
        return model.neg_elbo(params, Batch(x / np.float32(255), y, index), key, ROWS)

    params = jax.jit(model.init)(jax.random.key(1))
    problem = Problem(
        shapes=jax.eval_shape(lambda: params),
        examples=Examples(x, y),
        indices=lambda position, count: batch_indices(0, ROWS, position, count),
        batch_size=batch_size,
        key=jax.random.key(0),
        updates=_NO_END,
    )
    server = optimize(optimizers.build("adam", 1e-3), is_uniform=True)
    return Built(problem, gradient(loss), server), params


class Lane:
    """An engine under measurement, in steps of as many gradients as there are workers.

    Args:
        engine: What to measure.
        updates: That use so many gradients.
    """

    def __init__(self, engine: Engine, updates: int) -> None:
        self.engine, self._updates = engine, updates
        self.clear()

    def clear(self) -> None:
        """Forget what was measured so far."""
        self.wall_s: list[float] = []
        self.processor_s: list[float] = []

    def run(self, times: int) -> None:
        """Make ``times`` as many updates, and keep the times that they took."""
        begin_s, begin_processor_s = time.perf_counter(), time.process_time()
        self.engine.advance(self.engine.update + times * self._updates)
        jax.block_until_ready(self.engine.state)
        self.wall_s.append(time.perf_counter() - begin_s)
        self.processor_s.append(time.process_time() - begin_processor_s)


def make_lanes(built: Built, params: Any, workers: int) -> dict[str, Lane]:
    """Plain training, and each scheme on a simulated cluster."""

    def engine(settings: EngineSettings, scheme: str) -> Engine:
        settings = settings.written_out()
        algorithm = Algorithm(
            scheme_named(scheme, settings.workers or 1), built.worker, built.server
        )
        build = ENGINES[settings.kind].build
        return build(settings, built.problem, algorithm, Start(lambda: params))

    mesh = MeshSettings(workers=1, data_on_device="never")
    lanes = {"mesh": Lane(engine(mesh, "sync"), workers)}
    for scheme, updates in (("sync", 1), ("async", workers)):
        simulated = SimulatedSettings(workers=workers, servers=2)
        lanes[scheme] = Lane(engine(simulated, scheme), updates)
    return lanes


def main() -> None:
    """Measure each scheme and print a JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--workers", type=int, default=16)
    options = parser.parse_args()
    lanes = make_lanes(*make_problem(options.batch_size), options.workers)
    with ExitStack() as stack:
        for lane in lanes.values():
            stack.enter_context(lane.engine)
            lane.run(2)  # compiles
            lane.clear()
        for _ in range(options.rounds):
            for lane in lanes.values():
                lane.run(1)
    mesh = lanes.pop("mesh")
    for scheme, lane in lanes.items():
        row = {
            "scheme": scheme,
            "batch_size": options.batch_size,
            "mesh_ms_per_gradient": 1e3 * median(mesh.wall_s) / options.workers,
            "simulated_ms_per_gradient": 1e3 * median(lane.wall_s) / options.workers,
            "ratio_of_wall_times": _ratio(lane.wall_s, mesh.wall_s),
            "ratio_of_processor_times": _ratio(lane.processor_s, mesh.processor_s),
        }
        sys.stdout.write(json.dumps(row) + "\n")


def _ratio(times: list[float], baseline: list[float]) -> float:
    return median(a / b for a, b in zip(times, baseline, strict=True))


if __name__ == "__main__":
    main()
