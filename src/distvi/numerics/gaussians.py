"""Gaussian densities and divergences in closed form, in nats."""

import jax.numpy as jnp
from jaxtyping import Array, Float

LOG_2PI = 1.8378770664093453


def log_density(
    x: Float[Array, "*#shape"], mean: Float[Array, "*#shape"], log_var: Float[Array, "*#shape"]
) -> Float[Array, "*shape"]:
    """Logarithm of the normal density, elementwise, in nats.

    Example:
        >>> round(float(log_density(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))), 4)
        -0.9189
    """
    return -0.5 * (LOG_2PI + log_var + (x - mean) ** 2 * jnp.exp(-log_var))


def kl_to_standard_normal(
    mean: Float[Array, "*shape"], log_var: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """Divergence of a factorised normal from the standard normal, in nats.

    Summed over all entries; never negative, zero only at ``mean = 0, log_var = 0``.

    Args:
        mean: Centre of q.
        log_var: Logarithm of q's variance; unconstrained.

    Raises:
        TypeError: shapes differ (checked in tests). A NaN goes through; the training loop stops
            on it.

    Example:
        >>> float(kl_to_standard_normal(jnp.array([1.0]), jnp.array([0.0])))
        0.5

    References:
        Kingma and Welling (2014), appendix B.
    """
    return 0.5 * jnp.sum(jnp.exp(log_var) + mean**2 - 1.0 - log_var)


def kl_to_normal(
    mean: Float[Array, "*shape"],
    log_var: Float[Array, "*shape"],
    prior_mean: Float[Array, "*#shape"] | float,
    prior_log_var: Float[Array, "*#shape"] | float,
) -> Float[Array, ""]:
    """Divergence of one factorised normal from another, in nats, summed over all entries.

    Example:
        >>> float(kl_to_normal(jnp.array([1.0]), jnp.array([0.0]), 1.0, 0.0))
        0.0

    References:
        Kullback (1959), chapter 9, for diagonal covariances.
    """
    log_ratio = log_var - prior_log_var
    distance = (mean - prior_mean) ** 2 * jnp.exp(-jnp.asarray(prior_log_var))
    return 0.5 * jnp.sum(jnp.exp(log_ratio) + distance - 1.0 - log_ratio)
