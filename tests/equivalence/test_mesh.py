"""A batch cut among several devices gives the update of the whole batch, to float rounding."""

import subprocess
import sys

# JAX settles the number of CPU devices once in a process, so this one is of its own.
CODE = """
import jax
jax.config.update("jax_num_cpu_devices", 4)
import numpy as np
from distvi.config.resolve import resolve
from distvi.engines.base import Start
from distvi.engines.mesh.devices import devices
from distvi.engines.mesh.engine import MeshEngine
from distvi.training.prepare import prepare

sets = ["model.hidden_layers=1", "model.width=3", "model.features=8"]
settings = {"batch_size": 32, "updates": 20, "engine": "mesh", "workers": 4}
plan = prepare(resolve("digits", settings=settings, assignments=sets))
assert len(devices(4)) == 4

def train(workers, resident):
    start = Start(plan.initial_params)
    on = devices(4)[:workers]
    with MeshEngine(plan.problem, plan.algorithm, start, on, resident=resident) as engine:
        values = engine.advance(20)
        return values, jax.tree.map(np.array, engine.state.params)

values, whole = train(1, False)
for workers, resident in [(4, False), (4, True)]:
    cut_values, cut = train(workers, resident)
    np.testing.assert_allclose(cut_values, values, rtol=2e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), cut, whole)
"""


def test_several_devices_make_the_update_of_one() -> None:
    command = [sys.executable, "-c", CODE]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
