"""Problems whose answers are known, for any engine."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from distvi.algorithms.base import Loss, Params
from distvi.data import Examples, batch_indices
from distvi.engines.base import Problem, Start


class Known(NamedTuple):
    """A problem with its answer.

    Attributes:
        problem: What to optimize.
        loss: For the workers' rule, such as ``gradient(loss)``.
        start: At the first update.
        answer: The parameters with the least loss, which is zero.
    """

    problem: Problem
    loss: Loss
    start: Start
    answer: Params


def least_squares(updates: int, *, batch_size: int = 8, rows: int = 64, seed: int = 0) -> Known:
    """Linear regression of data without noise: every batch has its least loss at the answer.

    Args:
        updates: Of the run.
        batch_size: Examples in a batch.
        rows: Examples.
        seed: Of the data and of the batches.
    """
    rng = np.random.default_rng(seed)
    answer = {"b": np.full(2, 0.3, np.float32), "w": rng.normal(size=(3, 2)).astype(np.float32)}
    x = rng.normal(size=(rows, 3)).astype(np.float32)

    def loss(params: Params, x: Array, y: Array, index: Array, key: Array) -> Array:
        return ((y - x @ params["w"] - params["b"][None, :]) ** 2).mean()

    def zeros() -> Params:
        return jax.tree.map(jnp.zeros_like, answer)

    problem = Problem(
        shapes=jax.eval_shape(zeros),
        examples=Examples(x, x @ answer["w"] + answer["b"]),
        indices=lambda position, count: batch_indices(seed, rows, position, count),
        batch_size=batch_size,
        key=jax.random.key(seed),
        updates=updates,
        seed=seed,
    )
    return Known(problem, loss, Start(zeros), answer)
