"""Noise that belongs to examples, not to workers.

Noise keys come from the step's key and the index of the example in the data set. So n workers with
batch b see the noise that one worker with batch n * b would have seen, however the examples are
dealt out.
"""

import jax
from jaxtyping import Array, Float, UInt32


def example_noise(
    key: Array, index: UInt32[Array, " batch"], columns: int
) -> Float[Array, "batch columns"]:
    """Standard normal noise, a row per example, a function of (key, index of the example)."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)
    return jax.vmap(lambda k: jax.random.normal(k, (columns,)))(keys)
