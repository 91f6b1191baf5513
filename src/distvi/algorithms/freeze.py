"""Parameters held still at first: the freeze schedules of the deep GP."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int32, PyTree


class FreezeState(NamedTuple):
    """ServerState of ``freeze``: the updates made so far and the state of the optimizer inside."""

    updates: Int32[Array, ""]
    inner: optax.OptState


def freezes(until: PyTree[int] | None) -> bool:
    """Whether any parameter is held still."""
    return any(jax.tree.leaves(until))


def freeze(
    optimizer: optax.GradientTransformation, until: PyTree[int] | None
) -> optax.GradientTransformation:
    """Keep parameters still before given updates: the freeze schedules of the deep GP.

    The optimizer sees all gradients from the first update on and only its updates are stopped.
    Fed with zeros instead, Adam's second moment would be all but zero when the freeze ends, and for
    hundreds of updates the freed parameter would move several times too fast.

    It works on a server's part, too (None where a tensor lies elsewhere), with a state of the same
    form whether any of the part's parameters is frozen or none.

    Args:
        optimizer: Any optimizer.
        until: For each parameter the number of the first update that may move it (0: all may);
            None for no freeze at all.
    """
    if not freezes(until):
        return optimizer

    def init(params: PyTree) -> FreezeState:
        return FreezeState(jnp.zeros([], jnp.int32), optimizer.init(params))

    def update(
        gradients: PyTree, state: optax.OptState, params: PyTree | None = None
    ) -> tuple[PyTree, optax.OptState]:
        assert isinstance(state, FreezeState)
        updates, inner = optimizer.update(gradients, state.inner, params)

        def allowed(update: Array | None, first: int) -> Array | None:
            if update is None or not first:
                return update
            return jnp.where(state.updates < first, jnp.zeros_like(update), update)

        held = jax.tree.map(allowed, updates, until, is_leaf=_is_elsewhere)
        return held, FreezeState(state.updates + 1, inner)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def _is_elsewhere(leaf: Any) -> bool:
    return leaf is None
