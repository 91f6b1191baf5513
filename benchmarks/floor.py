"""The matrix products of a training step and nothing else: ``python -m benchmarks.floor``."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import problem
from benchmarks.contender import serve
from distvi.system.malloc import keep_freed_memory

Arrays = dict[str, jax.Array]


def layer_products(operands: Arrays, *, input_gradient: bool) -> list[jax.Array]:
    """All products of one layer's forward and backward pass, each computed as the step does it.

    The variance of the local reparameterization needs the squared cosines alone, as
    ``sin**2 = 1 - cos**2``.
    """
    f, cos, sin, cos_squared = (operands[name] for name in ("f", "cos", "sin", "cos_squared"))
    omega, mean_cos, mean_sin, var_difference = (
        operands[name] for name in ("omega", "mean_cos", "mean_sin", "var_difference")
    )
    d_projection, d_mean, d_var = (operands[name] for name in ("d_projection", "d_mean", "d_var"))
    forward = [f @ omega, cos @ mean_cos, sin @ mean_sin, cos_squared @ var_difference]
    to_features = [d_mean @ mean_cos.T, d_mean @ mean_sin.T, d_var @ var_difference.T]
    to_weights = [d_mean.T @ cos, d_mean.T @ sin, d_var.T @ cos_squared]
    to_omega = [f.T @ d_projection]
    to_inputs = [d_projection @ omega.T] if input_gradient else []
    return forward + to_features + to_weights + to_omega + to_inputs


def products(operands: list[Arrays]) -> list[jax.Array]:
    """Those of all layers; the images need no gradient."""
    return [
        product
        for number, layer in enumerate(operands)
        for product in layer_products(layer, input_gradient=number > 0)
    ]


def random_operands(batch: int) -> list[Arrays]:
    """Operands in the shapes of every layer."""
    random = np.random.default_rng(0)
    features = problem.FEATURES

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(random.standard_normal(shape, np.float32))

    return [
        {
            "f": normal(batch, inputs),
            "omega": normal(inputs, features),
            **{name: normal(batch, features)
               for name in ("cos", "sin", "cos_squared", "d_projection")},
            **{name: normal(features, outputs)
               for name in ("mean_cos", "mean_sin", "var_difference")},
            **{name: normal(batch, outputs) for name in ("d_mean", "d_var")},
        }
        for inputs, outputs in problem.LAYERS
    ]  # fmt: skip


class Floor:
    """One jitted call a step, as fast as the engine's memory settings let it be."""

    def __init__(self) -> None:
        keep_freed_memory()
        self._steps: dict[int, tuple[Callable[..., Any], list[Arrays]]] = {}

    def describe(self) -> dict[str, str]:
        return {"jax": jax.__version__}

    def prepare(self, batch: int) -> None:
        self._steps[batch] = jax.jit(products), random_operands(batch)
        self.run(20, batch)

    def run(self, steps: int, batch: int) -> float:
        step, operands = self._steps[batch]
        before = time.perf_counter()
        results = None
        for _ in range(steps):
            results = step(operands)
        jax.block_until_ready(results)
        return time.perf_counter() - before

    def loss(self, case: str) -> tuple[float, float]:
        raise NotImplementedError("the floor computes no loss")


if __name__ == "__main__":
    serve(Floor())
