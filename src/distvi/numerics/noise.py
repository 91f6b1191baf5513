"""Noise that belongs to examples, not to workers.

Noise keys come from the step's key and the index of the example in the data set. So n workers with
batch b see the noise that one worker with batch n * b would have seen, however the examples are
dealt out.
"""

import jax
import jax.numpy as jnp
from jax.extend.random import threefry_2x32
from jaxtyping import Array, Float, Key, UInt32

from distvi.numerics.trigonometry import sincos


def example_noise(
    key: Key[Array, ""], index: UInt32[Array, " batch"], columns: int
) -> Float[Array, "batch columns"]:
    """Standard normal noise, a row per example, a function of (key, index of the example).

    One Threefry block per pair of numbers, counted by (index, column), and the transform of Box
    and Muller: a third of the time of a key per example and ``jax.random.normal``.

    References:
        Salmon et al. (2011), Parallel random numbers: as easy as 1, 2, 3; Box and Muller (1958).
    """
    pairs = -(-columns // 2)
    shape = (index.shape[0], pairs)
    row = jnp.broadcast_to(index[:, None], shape)
    column = jnp.broadcast_to(jnp.arange(pairs, dtype=jnp.uint32), shape)
    counts = jnp.concatenate([row.ravel(), column.ravel()])
    bits = threefry_2x32(jax.random.key_data(key), counts).reshape(2, *shape)
    # 24 bits each: a uniform number in (0, 1), never 0, and an angle in [-pi, pi).
    uniform, turn = ((bits >> 8).astype(jnp.float32) + 0.5) * 2.0**-24
    sin, cos = sincos(2.0 * jnp.pi * turn - jnp.pi)
    radius = jnp.sqrt(-2.0 * jnp.log(uniform))
    return jnp.concatenate([radius * cos, radius * sin], axis=1)[:, :columns]
