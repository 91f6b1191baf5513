"""Parameters held still at first: the freeze schedules of the deep GP."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int32, PyTree


class FreezeState(NamedTuple):
    """State of ``freeze``: the updates made so far and the state of the optimizer inside."""

    updates: Int32[Array, ""]
    inner: optax.OptState


def freeze(
    optimizer: optax.GradientTransformation, until: PyTree[int] | None
) -> optax.GradientTransformation:
    """Keep parameters still before given updates: the freeze schedules of the deep GP.

    The optimizer sees all gradients from the first update on and only its updates are stopped.
    Fed with zeros instead, Adam's second moment would be all but zero when the hold ends, and for
    hundreds of updates the freed parameter would move several times too fast.

    Args:
        optimizer: Any optimizer.
        until: For each parameter the number of the first update that may move it (0: all may);
            None for no hold at all.
    """
    if until is None or not any(jax.tree.leaves(until)):
        return optimizer
    return frozen(optimizer, until)


def frozen(
    optimizer: optax.GradientTransformation, until: PyTree[int]
) -> optax.GradientTransformation:
    """`freeze` with a state of the same form whether any parameter is held or none."""

    def init(params: PyTree) -> FreezeState:
        return FreezeState(jnp.zeros([], jnp.int32), optimizer.init(params))

    def update(
        gradients: PyTree, state: optax.OptState, params: PyTree | None = None
    ) -> tuple[PyTree, optax.OptState]:
        assert isinstance(state, FreezeState)
        updates, inner = optimizer.update(gradients, state.inner, params)
        allowed = jax.tree.map(
            lambda first, u: jnp.where(state.updates < first, jnp.zeros_like(u), u) if first else u,
            until,
            updates,
        )
        return allowed, FreezeState(state.updates + 1, inner)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]
