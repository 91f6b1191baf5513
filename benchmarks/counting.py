"""A problem whose parameters count the gradients that were applied, one by one.

Example i's gradient takes one off entry i of two vectors, and plain SGD of rate one subtracts it.
So after any run of any scheme that adds gradients up, an entry is the number of times that its
example's gradient has been applied; the vectors are the same unless servers disagree.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from distvi.algorithms.gradient import gradient, optimize
from distvi.data import Examples
from distvi.engines import Built, Problem, Recipe

EXAMPLES = 1 << 17  # more than a run uses; 1 MiB of parameters, so that copies take their time
NO_END = 1 << 31  # updates


def examples() -> Examples:
    """Rows that say nothing."""
    return Examples(np.zeros((EXAMPLES, 1), np.float32), np.zeros((EXAMPLES, 1), np.float32))


def initial_params() -> dict[str, jax.Array]:
    """Nothing has been applied."""
    return {"one": jnp.zeros(EXAMPLES), "other": jnp.zeros(EXAMPLES)}


def build(settings: dict[str, Any], x: np.ndarray, y: np.ndarray) -> Built:
    """See `distvi.engines.Recipe`.

    Args:
        settings: ``poison``: every so many examples one has a gradient that is not finite;
            ``batch_s``: the time that a batch takes to come.
        x: Of the examples.
        y: Of the examples.
    """

    def loss(params: Any, x: Any, y: Any, index: Any, key: Any) -> Any:
        i = index[0]
        factor = jnp.where(i % settings["poison"] == 1, jnp.nan, 1.0)
        return -factor * (params["one"][i] + params["other"][i])

    def indices(position: int, count: int) -> np.ndarray:
        time.sleep(settings["batch_s"])
        return np.arange(position, position + count) % EXAMPLES

    problem = Problem(
        shapes=jax.eval_shape(initial_params),
        examples=Examples(x, y),
        indices=indices,
        batch_size=1,
        key=jax.random.key(0),
        updates=NO_END,
        recipe=Recipe(f"{__name__}:{build.__name__}", settings),
    )
    optimizer = optax.sgd(lambda step: 1.0)  # a schedule: it counts its own updates
    return Built(problem, gradient(loss), optimize(optimizer, is_uniform=True))
