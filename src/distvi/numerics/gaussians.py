"""Gaussian densities and divergences in closed form, in nats."""

import jax
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
    # Their number once, for XLA would write a one for every entry to memory.
    return 0.5 * (jnp.sum(jnp.exp(log_var) + mean**2 - log_var) - log_var.size)


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


def kl_to_separable_normal(
    mean: Float[Array, "rows columns"],
    log_var: Float[Array, "rows columns"],
    row_log_sd: Float[Array, "#rows"],
    column_log_sd: Float[Array, " columns"],
) -> Float[Array, ""]:
    """Divergence from a centred normal whose log sd is ``row_log_sd + column_log_sd``, in nats.

    The same number as ``kl_to_normal``, with one exponential per entry of q (that of its standard
    deviation, which also serves the derivatives) and none per entry of the prior.

    Example:
        >>> zero = jnp.zeros((2, 3))
        >>> float(kl_to_separable_normal(zero, zero, jnp.zeros(2), jnp.zeros(3)))
        0.0
    """
    return _separable(mean, log_var, jnp.broadcast_to(row_log_sd, mean.shape[:1]), column_log_sd)


@jax.custom_vjp
def _separable(mean: Array, log_var: Array, row_log_sd: Array, column_log_sd: Array) -> Array:
    return _separable_forward(mean, log_var, row_log_sd, column_log_sd)[0]


def _separable_forward(mean: Array, log_var: Array, row_log_sd: Array, column_log_sd: Array):
    rows, columns = mean.shape
    # The inverse sd, by factors.
    precision = (jnp.exp(-row_log_sd)[:, None], jnp.exp(-column_log_sd)[None, :])
    sd = jnp.exp(0.5 * log_var)
    row_sums = _relative_moment(mean, sd, *precision).sum(axis=1)
    log_prior = columns * row_log_sd.sum() + rows * column_log_sd.sum()
    kl = 0.5 * (row_sums.sum() - log_var.sum() - log_var.size) + log_prior
    return kl, (mean, sd, *precision, row_sums)


def _separable_backward(saved: tuple[Array, ...], d_kl: Array):
    mean, sd, row, column, row_sums = saved
    rows, columns = mean.shape
    scaled_sd = sd * row * column
    d_mean = d_kl * mean * (row * row) * (column * column)
    d_log_var = d_kl * 0.5 * (scaled_sd * scaled_sd - 1.0)
    column_sums = _relative_moment(mean, sd, row, column).sum(axis=0)
    return d_mean, d_log_var, d_kl * (columns - row_sums), d_kl * (rows - column_sums)


def _relative_moment(mean: Array, sd: Array, row: Array, column: Array) -> Array:
    """E_q[w^2] over the prior's variance. Scaled before squared: XLA makes ``sd * sd`` an exp."""
    scaled_mean, scaled_sd = mean * row * column, sd * row * column
    return scaled_mean * scaled_mean + scaled_sd * scaled_sd


_separable.defvjp(_separable_forward, _separable_backward)
