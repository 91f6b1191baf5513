"""Predictions of the MNIST model: ``python -m benchmarks.predictions WHAT HIDDEN_LAYERS SAMPLES``.

WHAT is ``distvi``: what a test of ``distvi train`` computes; ``at-once`` or ``blocks``: the matrix
products of that and nothing else, of all samples of 500 points at once, or in the blocks in which
distvi does them.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import problem
from benchmarks.contender import serve
from distvi.data import Examples, Standardization, Task
from distvi.evaluation import Predictor
from distvi.evaluation.predictor import POINTS_PER_CHUNK
from distvi.models import DeepGPSettings, Model, build_model
from distvi.system.malloc import keep_freed_memory

Arrays = dict[str, jax.Array]


class Distvi:
    """The predictor of a test, on random images."""

    def __init__(self, hidden_layers: int, samples: int) -> None:
        keep_freed_memory()
        settings = DeepGPSettings(
            hidden_layers=hidden_layers, width=problem.WIDTH, features=problem.FEATURES
        )
        sizes = {"inputs": problem.INPUTS, "outputs": problem.CLASSES}
        model = build_model(settings, **sizes, task="classification")
        assert isinstance(model, Model)
        self._examples = Examples(*problem.synthetic_images())
        standardization = Standardization.learn(self._examples, Task.CLASSIFICATION, "unit")
        key = jax.random.key(0)
        self._params = jax.jit(model.init)(key)
        self._predictor = Predictor(model, standardization, Task.CLASSIFICATION, samples, key)

    def describe(self) -> dict[str, str]:
        return {"jax": jax.__version__}

    def prepare(self, batch: int) -> None:
        self.run(2, batch)

    def run(self, steps: int, batch: int) -> float:
        points = Examples(self._examples.x[:batch], self._examples.y[:batch])
        before = time.perf_counter()
        for _ in range(steps):
            for _ in self._predictor.chunks(self._params, points):
                pass
        return time.perf_counter() - before


def first_layer(o: Arrays) -> list[jax.Array]:
    """Its products, which all samples share."""
    features = [o["features"] @ o[name] for name in ("mean_cos", "mean_sin", "var")]
    return [o["x"] @ o["omega_0"], *features]


def products_at_once(o: Arrays, hidden_layers: int) -> Any:
    """All samples in one product each."""
    found = first_layer(o)
    for layer in range(1, hidden_layers + 1):
        end = "_last" if layer == hidden_layers else ""
        weights = (o[name + end] for name in ("mean_cos", "mean_sin", "var"))
        found += [o["f"] @ o["omega"], *(o["all_features"] @ w for w in weights)]
    return found


def products_in_blocks(o: Arrays, hidden_layers: int) -> Any:
    """A sample at a time: the projection stands for the features that are made of it."""

    def sample(f: jax.Array) -> jax.Array:
        for layer in range(1, hidden_layers + 1):
            end = "_last" if layer == hidden_layers else ""
            projection = f @ o["omega"]
            mean_cos, mean_sin, var = (o[n + end] for n in ("mean_cos", "mean_sin", "var"))
            f = projection @ mean_cos + projection @ mean_sin + projection @ var
        return f

    return first_layer(o), jax.lax.map(sample, o["f"].reshape(-1, len(o["x"]), problem.WIDTH))


class Products:
    """Matrix products alone."""

    def __init__(
        self, products: Callable[[Arrays, int], Any], hidden_layers: int, samples: int
    ) -> None:
        keep_freed_memory()
        self._products = jax.jit(lambda operands: products(operands, hidden_layers))
        self._samples, self._operands = samples, Arrays()

    def describe(self) -> dict[str, str]:
        return {"jax": jax.__version__}

    def prepare(self, batch: int) -> None:
        random, points = np.random.default_rng(0), min(batch, POINTS_PER_CHUNK)
        rows, width, features = self._samples * points, problem.WIDTH, problem.FEATURES
        shapes = {
            "x": (points, problem.INPUTS),
            "omega_0": (problem.INPUTS, features),
            "features": (points, features),
            "f": (rows, width),
            "omega": (width, features),
            "all_features": (rows, features),
            **dict.fromkeys(("mean_cos", "mean_sin", "var"), (features, width)),
            **dict.fromkeys(
                ("mean_cos_last", "mean_sin_last", "var_last"), (features, problem.CLASSES)
            ),
        }
        scale = np.float32(0.03)  # so that what goes through all layers stays finite
        self._operands = {
            name: jnp.asarray(scale * random.standard_normal(shape, np.float32))
            for name, shape in shapes.items()
        }
        self.run(2, batch)

    def run(self, steps: int, batch: int) -> float:
        before, results = time.perf_counter(), None
        for _ in range(steps * -(-batch // POINTS_PER_CHUNK)):
            results = self._products(self._operands)
        jax.block_until_ready(results)
        return time.perf_counter() - before


if __name__ == "__main__":
    kind, hidden, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if kind == "distvi":
        serve(Distvi(hidden, count))
    else:
        alone = {"at-once": products_at_once, "blocks": products_in_blocks}[kind]
        serve(Products(alone, hidden, count))
