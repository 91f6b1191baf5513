"""Gaussian densities and divergences against SciPy and against Monte Carlo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from distvi.numerics import gaussians
from tests.numerics.differences import check_gradients


def draws(key: jax.Array) -> tuple[jax.Array, ...]:
    keys = jax.random.split(key, 4)
    return tuple(jax.random.normal(k, (5, 7)) for k in keys)


def test_log_density_agrees_with_scipy(key: jax.Array) -> None:
    x, mean, log_var, _ = draws(key)
    expected = norm.logpdf(np.asarray(x), np.asarray(mean), np.exp(0.5 * np.asarray(log_var)))
    np.testing.assert_allclose(gaussians.log_density(x, mean, log_var), expected, rtol=1e-5)


def test_kl_is_the_expected_log_ratio(key: jax.Array) -> None:
    mean, log_var, prior_mean, prior_log_var = (0.5 * d for d in draws(key))
    noise = jax.random.normal(key, (20_000, *mean.shape))
    x = mean[None] + jnp.exp(0.5 * log_var)[None] * noise
    log_ratio = gaussians.log_density(x, mean[None], log_var[None]) - gaussians.log_density(
        x, prior_mean[None], prior_log_var[None]
    )
    estimates = log_ratio.sum((1, 2))
    standard_error = estimates.std() / np.sqrt(estimates.size)

    kl = gaussians.kl_to_normal(mean, log_var, prior_mean, prior_log_var)

    assert abs(float(kl - estimates.mean())) < 4 * standard_error


def test_the_special_divergences_agree_with_the_general_one(key: jax.Array) -> None:
    mean, log_var, *_ = draws(key)
    row, column = jax.random.normal(key, (5,)), jax.random.normal(key, (7,))
    np.testing.assert_allclose(
        gaussians.kl_to_standard_normal(mean, log_var),
        gaussians.kl_to_normal(mean, log_var, 0.0, 0.0),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        gaussians.kl_to_separable_normal(mean, log_var, row, column),
        gaussians.kl_to_normal(mean, log_var, 0.0, 2.0 * (row[:, None] + column[None, :])),
        rtol=1e-5,
    )
    np.testing.assert_allclose(  # one lengthscale for all rows
        gaussians.kl_to_separable_normal(mean, log_var, row[:1], column),
        gaussians.kl_to_normal(mean, log_var, 0.0, 2.0 * (row[:1, None] + column[None, :])),
        rtol=1e-5,
    )


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_kl_is_zero_only_at_equality(shift: float) -> None:
    mean, log_var = jnp.full((3,), shift), jnp.zeros(3)
    kl = gaussians.kl_to_normal(mean, log_var, 0.0, 0.0)
    assert float(kl) == pytest.approx(1.5 * shift**2)


def test_gradients_agree_with_differences_in_float64(key: jax.Array) -> None:
    mean, log_var, prior_mean, prior_log_var = draws(key)
    row, column = prior_mean[:, 0], prior_log_var[0]
    check_gradients(gaussians.kl_to_normal, mean, log_var, prior_mean, prior_log_var)
    check_gradients(gaussians.kl_to_separable_normal, mean, log_var, row, column)
    check_gradients(gaussians.log_density, prior_mean, mean, log_var)
