"""The gradient of the negative ELBO, and an optimizer on the servers: stochastic gradient descent.

References:
    Robbins and Monro (1951), A stochastic approximation method; Dean et al. (2012), Large scale
    distributed deep networks, for its form on a parameter server.
"""

import jax
import optax
from jaxtyping import Array

from distvi.algorithms.base import (
    Batches,
    Loss,
    Memory,
    Params,
    Part,
    Scalar,
    ServerRule,
    ServerState,
    Work,
    WorkerRule,
    at,
)
from distvi.algorithms.slices import mean_over_slices


def gradient(loss: Loss) -> WorkerRule:
    """One batch's gradient of the negative ELBO, from all its slices where it is cut."""

    def work(params: Params, memory: Memory, batches: Batches, key: Array) -> Work:
        step, x, y, positions = at(batches, 0)
        noise_key = jax.random.fold_in(key, step)
        own = jax.value_and_grad(loss)(params, x, y, positions, noise_key)
        value, gradients = mean_over_slices(own)
        return Work(gradients, memory, value)

    return WorkerRule(work)


def optimize(optimizer: optax.GradientTransformation, *, is_uniform: bool = False) -> ServerRule:
    """The weighted sum of the payloads is the gradient that an optimizer is handed.

    Args:
        optimizer: Needs gradients and parameters alone.
        is_uniform: See `distvi.algorithms.base.ServerRule`; true for every optimizer of optax that
            is not told which tensor is which.
    """

    def update(
        part: Part, state: ServerState, payload: Part, rate: Scalar
    ) -> tuple[Part, ServerState]:
        updates, state = optimizer.update(payload, state, part)
        scaled = jax.tree.map(lambda update: rate * update, updates)
        return optax.apply_updates(part, scaled), state

    return ServerRule(optimizer.init, update, is_uniform=is_uniform)
