"""What the simulated engine costs beyond gradients: ``python -m benchmarks.simulated_overhead``.

The same number of gradients of the same model, once as plain steps of the mesh engine and once on
a simulated cluster of 16 workers; the processor's time of both, after compilation.
"""

import argparse
import json
import sys
import time
from typing import Any

import jax
import numpy as np

from distvi.config import EngineSettings
from distvi.data import Examples, batch_indices
from distvi.distributed import prepare_simulation, simulated_engine
from distvi.engines import Engine, Problem
from distvi.engines.mesh import MeshEngine, devices
from distvi.models import Batch, build_model
from distvi.models.settings import DeepGPSettings
from distvi.optimizers import build

ROWS, INPUTS, CLASSES = 10_000, 784, 10


def make_problem(batch_size: int) -> tuple[Problem, Any]:
    """The deep GP of 50 GPs and 500 features on images of noise, and its first parameters."""
    settings = DeepGPSettings(hidden_layers=1, width=50, features=500)
    model = build_model(settings, inputs=INPUTS, outputs=CLASSES, task="classification", seed=0)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (ROWS, INPUTS), np.uint8)
    y = rng.integers(0, CLASSES, ROWS).astype(np.int32)

    def loss(params: Any, x: Any, y: Any, index: Any, key: Any) -> Any:
        return model.neg_elbo(params, Batch(x / np.float32(255), y, index), key, ROWS)

    problem = Problem(
        loss=loss,
        optimizer=build("adam", 1e-3),
        examples=Examples(x, y),
        indices=lambda position, count: batch_indices(0, ROWS, position, count),
        batch_size=batch_size,
        key=jax.random.key(0),
    )
    return problem, jax.jit(model.init)(jax.random.key(1))


def processor_s(engine: Engine, first: int, last: int) -> float:
    """Processor time of the updates from ``first`` on."""
    with engine:
        engine.advance(first)
        before_s = time.process_time()
        engine.advance(last)
        jax.block_until_ready(engine.state)
        return time.process_time() - before_s


def main() -> None:
    """Measure each scheme and print a JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=1000)
    parser.add_argument("--gradients", type=int, default=96)
    parser.add_argument("--workers", type=int, default=16)
    options = parser.parse_args()
    workers, gradients = options.workers, options.gradients
    problem, params = make_problem(options.batch_size)
    total = gradients + workers
    mesh = MeshEngine(problem, params, devices(None)[:1], last=total, resident=False)
    mesh_s = processor_s(mesh, workers, total)
    for scheme in ("sync", "async"):
        each = workers if scheme == "sync" else 1
        settings = EngineSettings(engine="simulated", workers=workers, servers=2, scheme=scheme)
        engine = simulated_engine(
            prepare_simulation(settings), problem, params, last=total // each, seed=0
        )
        simulated_s = processor_s(engine, workers // each, total // each)
        row = {
            "scheme": scheme,
            "mesh_ms_per_gradient": 1e3 * mesh_s / gradients,
            "simulated_ms_per_gradient": 1e3 * simulated_s / gradients,
            "ratio": simulated_s / mesh_s,
        }
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
