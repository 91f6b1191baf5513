"""Likelihoods and predictive mixtures against SciPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, log_softmax, logsumexp

from distvi.models.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    Likelihood,
    Poisson,
    StudentT,
)
from distvi.models.predictive import Predictive
from tests.numerics.differences import check_gradients

NUMBERS: dict[str, Likelihood] = {
    "gaussian": Gaussian(0.3),
    "student_t": StudentT(degrees=6, initial_var=0.5),
    "poisson": Poisson(),
}
every_number = pytest.mark.parametrize("name", NUMBERS)


def frozen(name: str, f: np.ndarray) -> Any:
    """SciPy's law of y given f."""
    if name == "gaussian":
        return stats.norm(f, np.sqrt(0.3))
    if name == "student_t":
        return stats.t(6, f, np.sqrt(0.5 * 4.0 / 6.0))
    return stats.poisson(np.exp(f))


def mixture(likelihood: Likelihood, key: jax.Array, latents: int) -> Predictive:
    f = jax.random.normal(key, (6, 5, latents))
    return Predictive(f, likelihood.init(2), likelihood)


@every_number
def test_numbers_agree_with_scipy(name: str, key: jax.Array) -> None:
    predictive = mixture(NUMBERS[name], key, 2)
    law = frozen(name, np.asarray(predictive.f, np.float64))
    y = np.round(np.abs(np.asarray(jax.random.normal(key, (5, 2))) * 3)).astype(np.float32)
    log_p = (law.logpmf(y) if name == "poisson" else law.logpdf(y)).sum(-1)

    np.testing.assert_allclose(
        predictive.log_density(jnp.asarray(y)), logsumexp(log_p, axis=0) - np.log(6), rtol=1e-5
    )
    np.testing.assert_allclose(predictive.mean(), law.mean().mean(0), rtol=1e-5, atol=1e-6)
    total = law.var().mean(0) + law.mean().var(0)
    np.testing.assert_allclose(predictive.variance(), total, rtol=1e-4)


@every_number
def test_quantiles_invert_the_mixtures_distribution_function(name: str, key: jax.Array) -> None:
    predictive = mixture(NUMBERS[name], key, 2)
    law = frozen(name, np.asarray(predictive.f, np.float64))
    levels = np.array([0.001, 0.025, 0.25, 0.5, 0.75, 0.975, 0.999])

    quantiles = np.asarray(jax.jit(predictive.quantile)(jnp.asarray(levels, jnp.float32)))

    for level, quantile in zip(levels, quantiles, strict=True):
        reached = law.cdf(quantile).mean(0)
        if name == "poisson":
            assert (reached >= level - 1e-5).all()
            assert (law.cdf(quantile - 1.0).mean(0) < level + 1e-5).all()
        else:
            np.testing.assert_allclose(reached, level, atol=1e-5)


def test_classes_agree_with_their_definition(key: jax.Array) -> None:
    predictive = mixture(Categorical(), key, 3)
    f = np.asarray(predictive.f, np.float64)
    y = np.array([0, 2, 1, 1, 0])
    log_p = log_softmax(f, axis=-1)
    np.testing.assert_allclose(predictive.probabilities(), np.exp(log_p).mean(0), rtol=1e-5)
    expected = logsumexp(log_p[:, np.arange(5), y], axis=0) - np.log(6)
    np.testing.assert_allclose(predictive.log_density(jnp.asarray(y)), expected, rtol=1e-5)

    predictive = mixture(Bernoulli(), key, 1)
    p = expit(np.asarray(predictive.f, np.float64)[..., 0])
    y = np.array([0, 1, 1, 0, 1])
    np.testing.assert_allclose(predictive.probabilities()[:, 1], p.mean(0), rtol=1e-5)
    np.testing.assert_allclose(predictive.probabilities().sum(1), 1.0, rtol=1e-6)
    expected = np.log(np.where(y == 1, p, 1 - p).mean(0))
    np.testing.assert_allclose(predictive.log_density(jnp.asarray(y)), expected, rtol=1e-4)


@pytest.mark.parametrize("likelihood", [*NUMBERS.values(), Bernoulli(), Categorical()], ids=repr)
def test_gradients_agree_with_differences_in_float64(
    likelihood: Likelihood, key: jax.Array
) -> None:
    latents = 1 if isinstance(likelihood, Bernoulli) else 2
    f = jax.random.normal(key, (5, latents))
    y = jnp.array([0, 1, 1, 0, 1])
    classes = hasattr(likelihood, "probabilities")
    params = likelihood.init(2)

    def density(f: jax.Array) -> jax.Array:
        target = y if classes else jnp.stack([y, 1 - y], 1).astype(f.dtype)
        in_double = jax.tree.map(lambda leaf: leaf.astype(f.dtype), params)
        return likelihood.log_density(in_double, f, target)

    check_gradients(density, f)


def test_questions_that_make_no_sense_are_refused(key: jax.Array) -> None:
    with pytest.raises(TypeError, match="has no classes"):
        mixture(Gaussian(), key, 2).probabilities()
    with pytest.raises(TypeError, match="has no quantiles"):
        mixture(Categorical(), key, 3).quantile(jnp.array([0.5]))
    with pytest.raises(ValueError, match="even and at least 4, got 5"):
        StudentT(degrees=5)
    with pytest.raises(ValueError, match="2 classes, got 3"):
        Bernoulli().latents(3)
