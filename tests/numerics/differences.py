"""Gradients against finite differences, in float64."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.test_util import check_grads


def check_gradients(f: Callable[..., Any], *arguments: jax.Array) -> None:
    """Reverse-mode gradients of ``f`` agree with central differences in float64 to 1e-6."""
    with jax.enable_x64(True):
        compiled = jax.jit(f)

        def of_arrays(*values: jax.Array) -> Any:
            return compiled(*(jnp.asarray(v) for v in values))  # the check passes NumPy arrays

        doubles = tuple(x.astype(jnp.float64) for x in arguments)
        check_grads(of_arrays, doubles, order=1, modes=["rev"], rtol=1e-6)
