"""The model in distvi, as ``distvi train`` trains it: ``python -m benchmarks.distvi_step [CORE]``.

On all cores, or pinned to one, where JAX has one thread.
"""

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import problem
from benchmarks.contender import pin, serve
from distvi.aggregation import scheme_named
from distvi.config.resolve import resolve
from distvi.data import Dataset, Examples, Standardization, Task
from distvi.engines import Engine
from distvi.models import Batch, DeepGP
from distvi.models.deep_gp import Spectrum
from distvi.numerics.features import turned
from distvi.runs.parts import model_of
from distvi.training.plan import Plan

UPDATES = 10_000_000  # more than will be made: the run of an engine has a length

MODEL = {
    "hidden_layers": problem.HIDDEN_LAYERS,
    "width": problem.WIDTH,
    "features": problem.FEATURES,
    "kernel": "rbf",
    "ard": True,
    "omega": "var_fixed",
    "estimator": "local",
    "samples": 1,
}


class Distvi:
    """One engine per batch size; where there is an accelerator, the data set lies in its memory.

    Args:
        settings: Of the engine and the algorithm, as of `distvi.train`; by default the mesh.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = {"engine": "mesh", **settings}
        examples = Examples(*problem.synthetic_images())
        self._dataset = Dataset(
            name="synthetic",
            task=Task.CLASSIFICATION,
            train=examples,
            test=Examples(examples.x[:1], examples.y[:1]),
            classes=tuple(str(number) for number in range(problem.CLASSES)),
            inputs=tuple(f"pixel_{number}" for number in range(problem.INPUTS)),
            targets=("label",),
        )
        self._standardization = Standardization.learn(examples, Task.CLASSIFICATION, "unit")
        self._engines: dict[int, Engine] = {}
        self._stack = ExitStack()

    def __enter__(self) -> "Distvi":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def describe(self) -> dict[str, str]:
        device = jax.devices()[0]
        return {"jax": jax.__version__, "device": device.device_kind}

    def prepare(self, batch: int) -> None:
        self._engines[batch] = self._stack.enter_context(self._plan(batch).engine())
        self.run(20, batch)

    def run(self, steps: int, batch: int) -> float:
        engine = self._engines[batch]
        before = time.perf_counter()
        engine.advance(engine.update + steps)
        return time.perf_counter() - before

    def loss(self, case: str) -> tuple[float, float]:
        draws = dict(np.load(case))
        params: dict[str, Any] = {"likelihood": {}}
        for number in range(len(problem.LAYERS)):
            layer = {
                group: {name: jnp.asarray(draws[f"layer_{number}/{prefix}{name}"])
                        for name in names}
                for group, prefix, names in (
                    ("kernel", "", ("log_variance", "log_lengthscale")),
                    ("omega", "omega_", ("mean", "log_var")),
                    ("turned_weights", "weights_", ("mean", "log_var")),
                )
            }  # fmt: skip
            weights = layer["turned_weights"]
            weights["mean"] = turned(weights["mean"], problem.FEATURES)  # no other has that basis
            params[f"layer_{number}"] = layer
        model = self._plan(len(draws["x"])).model
        assert isinstance(model, DeepGP)
        given = GivenDraws(
            model.inputs, model.outputs, model.likelihood, model.settings, 0, given=draws
        )
        index = jnp.arange(len(draws["x"]), dtype=jnp.uint32)
        batch = Batch(jnp.asarray(draws["x"]), jnp.asarray(draws["y"]), index)
        value, gradients = jax.value_and_grad(given.neg_elbo)(
            params, batch, jax.random.key(0), problem.EXAMPLES
        )
        leaves = jax.tree.leaves(gradients)
        return float(value), float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in leaves)))

    def _plan(self, batch: int) -> Plan:
        settings = {
            "batch_size": batch,
            "learning_rate": problem.LEARNING_RATE,
            "optimizer": "adam",
            "updates": UPDATES,
            "shuffle_block": 1,
            "model": MODEL,
            **self._settings,
        }
        config = resolve(self._dataset.name, settings=settings)
        engine, algorithm = config.engine.written_out(), config.algorithm
        options = {**engine.scheme_defaults(algorithm.scheme), **algorithm.scheme_options}
        return Plan(
            config=config.model_copy(update={"engine": engine}),
            dataset=self._dataset,
            standardization=self._standardization,
            model=model_of(config, self._dataset.schema),
            scheme=scheme_named(algorithm.scheme, engine.workers or 1, options),
            rules={},
            updates=UPDATES,
        )


@dataclass(frozen=True, eq=False)
class GivenDraws(DeepGP):
    """The model with its random draws given instead of drawn, so that losses can be compared."""

    given: dict[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def spectra(self) -> tuple[Spectrum, ...]:
        scale = jnp.ones(self.settings.features)
        layers = range(len(self.layer_sizes))
        return tuple(Spectrum(jnp.asarray(self.given[f"layer_{n}/z"]), scale) for n in layers)

    def _layer_noise(self, key: jax.Array, index: jax.Array) -> list[jax.Array]:
        return [jnp.asarray(self.given[f"noise_{n}"]) for n in range(len(self.layer_sizes))]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        pin(int(sys.argv[1]))
    with Distvi() as contender:
        serve(contender)
