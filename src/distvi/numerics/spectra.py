"""Frequencies of random features: draws from a kernel's spectral density, plain or orthogonal."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# A sampler of standard frequencies: (key, inputs, frequencies) -> (inputs, frequencies).
Sampler = Callable[[Array, int, int], Array]


def normal_frequencies(key: Array, inputs: int, frequencies: int) -> Float[Array, "inputs freqs"]:
    """Independent standard normal frequencies, one per column.

    References:
        Rahimi and Recht (2007), algorithm 1.
    """
    return jax.random.normal(key, (inputs, frequencies))


def orthogonal_frequencies(
    key: Array, inputs: int, frequencies: int
) -> Float[Array, "inputs freqs"]:
    """Normal frequencies whose columns are orthogonal within blocks of ``inputs`` columns.

    Every column alone is a standard normal vector; the orthogonality lowers the variance of the
    kernel's approximation.

    References:
        Yu et al. (2016), Orthogonal Random Features, section 3.
    """
    direction_key, length_key = jax.random.split(key)
    blocks = -(-frequencies // inputs)
    gaussian = jax.random.normal(direction_key, (blocks, inputs, inputs))
    q, r = jnp.linalg.qr(gaussian)
    # Signs that make the factorization unique, hence uniform over the orthogonal group.
    q = q * jnp.sign(jnp.diagonal(r, axis1=1, axis2=2))[:, None, :]
    columns = q.transpose(1, 0, 2).reshape(inputs, -1)[:, :frequencies]
    lengths = jnp.linalg.norm(jax.random.normal(length_key, (inputs, frequencies)), axis=0)
    return columns * lengths[None, :]


def student_scales(key: Array, degrees: int, frequencies: int) -> Float[Array, " freqs"]:
    """Factors that turn normal columns into multivariate Student-t columns: sqrt(df / chi2_df)."""
    chi2 = jnp.sum(jax.random.normal(key, (degrees, frequencies)) ** 2, axis=0)
    return jnp.sqrt(degrees / chi2)
