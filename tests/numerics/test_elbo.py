"""The ELBO: unbiased, bounded by the evidence, and the exact GP's in the limit of one layer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from distvi.models import (
    Batch,
    BayesianNetwork,
    BayesianNetworkSettings,
    DeepGP,
    DeepGPSettings,
    Model,
)
from distvi.models.deep_gp import KernelName, OmegaTreatment
from distvi.models.likelihoods import Categorical, Gaussian
from distvi.models.sampled import EstimatorName
from distvi.numerics.features import turned
from tests.numerics.differences import check_gradients

ESTIMATORS: tuple[EstimatorName, ...] = ("local", "weights")


def batch_of(key: jax.Array, rows: int, inputs: int, outputs: int = 1) -> Batch:
    x_key, y_key = jax.random.split(key)
    x = jax.random.normal(x_key, (rows, inputs))
    y = jax.random.normal(y_key, (rows, outputs))
    return Batch(x, y, jnp.arange(rows, dtype=jnp.uint32))


def perturbed(params: Any, key: jax.Array) -> Any:
    """Parameters away from the symmetric start, so that every gradient is alive."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    noisy = [p + 0.3 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noisy)


def estimates(model: Model, params: Any, batch: Batch, key: jax.Array, draws: int) -> jax.Array:
    """Many independent estimates of the negative ELBO."""
    estimate = jax.jit(jax.vmap(lambda k: model.neg_elbo(params, batch, k, batch.x.shape[0])))
    return estimate(jax.random.split(key, draws))


def agree(first: jax.Array, second: jax.Array | float) -> bool:
    """Whether two means agree within four standard errors."""
    variance = first.var() / first.size
    if isinstance(second, jax.Array):
        variance += second.var() / second.size
    return bool(abs(first.mean() - jnp.mean(jnp.asarray(second))) < 4 * jnp.sqrt(variance))


@pytest.mark.parametrize("estimator", ["local", "weights"])
def test_the_estimate_of_a_linear_model_has_its_closed_form_as_mean(
    estimator: EstimatorName, key: jax.Array
) -> None:
    settings = DeepGPSettings(hidden_layers=0, features=6, omega="prior_fixed", estimator=estimator)
    model = DeepGP(2, 1, Gaussian(0.3), settings)
    batch = batch_of(key, 5, 2)
    params = perturbed(model.init(key), key)
    layer, noise_var = params["layer_0"], jnp.exp(params["likelihood"]["log_var"][0])
    amplitude = jnp.sqrt(jnp.exp(layer["kernel"]["log_variance"]) / 6)
    omega = model.spectra[0].z * jnp.exp(-layer["kernel"]["log_lengthscale"])[:, None]
    phi = amplitude * jnp.concatenate([jnp.cos(batch.x @ omega), jnp.sin(batch.x @ omega)], 1)
    weights = layer["turned_weights"]
    mean = phi @ turned(weights["mean"], 6)
    var = phi**2 @ jnp.exp(weights["log_var"])
    squares = (batch.y - mean) ** 2 + var
    expected = 0.5 * jnp.sum(squares / noise_var + jnp.log(2 * jnp.pi * noise_var))

    found = estimates(model, params, batch, key, 20_000)

    assert agree(found, float(expected + model.divergence(params)))


@pytest.mark.parametrize("omega", ["prior_fixed", "var_fixed", "var_resampled"])
def test_both_estimators_of_a_deep_model_have_the_same_mean(
    omega: OmegaTreatment, key: jax.Array
) -> None:
    means = []
    for estimator in ESTIMATORS:
        settings = DeepGPSettings(
            hidden_layers=1, width=3, features=5, omega=omega, estimator=estimator
        )
        model = DeepGP(2, 1, Gaussian(), settings)
        params = perturbed(model.init(key), key)
        means.append(estimates(model, params, batch_of(key, 4, 2), key, 20_000))
    assert agree(means[0], means[1])


def test_both_estimators_of_a_network_have_the_same_mean(key: jax.Array) -> None:
    means = []
    for estimator in ESTIMATORS:
        settings = BayesianNetworkSettings(hidden_layers=1, width=4, estimator=estimator)
        model = BayesianNetwork(2, 1, Gaussian(), settings)
        params = perturbed(model.init(key), key)
        means.append(estimates(model, params, batch_of(key, 4, 2), key, 20_000))
    assert agree(means[0], means[1])


def test_mini_batches_are_unbiased_for_the_whole(key: jax.Array) -> None:
    model = DeepGP(2, 1, Gaussian(), DeepGPSettings(hidden_layers=1, width=2, features=5))
    params, whole = perturbed(model.init(key), key), batch_of(key, 6, 2)
    parts = [jax.tree.map(lambda leaf, i=i: leaf[i : i + 2], whole) for i in (0, 2, 4)]

    @jax.jit
    def difference(k: jax.Array) -> jax.Array:
        # Noise belongs to the examples, so the mean over a partition is exact, draw by draw.
        cut = sum(model.neg_elbo(params, part, k, 6) for part in parts) / 3
        return (model.neg_elbo(params, whole, k, 6) - cut) / cut

    assert abs(float(difference(key))) < 1e-5


def test_more_samples_share_the_first_projection(key: jax.Array) -> None:
    """X Omega is multiplied once however many samples there are, while Omega is fixed."""

    def products(omega: OmegaTreatment) -> int:
        settings = DeepGPSettings(
            hidden_layers=1, width=3, features=5, omega=omega, samples=4, feed_forward=True
        )
        model = DeepGP(7, 1, Gaussian(), settings)
        params, batch = model.init(key), batch_of(key, 6, 7)
        text = str(jax.make_jaxpr(lambda p: model.neg_elbo(p, batch, key, 6))(params))
        return text.count("f32[6,5] = dot_general")

    assert products("var_fixed") == 2  # X Omega of the first layer, and of the inputs fed forward
    assert products("var_resampled") == 0  # each has a sample axis


@pytest.mark.parametrize("omega", ["prior_fixed", "var_fixed"])
@pytest.mark.parametrize("kernel", ["rbf", "arccos1"])
def test_gradients_agree_with_differences_in_float64(
    omega: OmegaTreatment, kernel: KernelName, key: jax.Array
) -> None:
    settings = DeepGPSettings(
        hidden_layers=1, width=2, features=3, omega=omega, kernel=kernel, estimator="weights"
    )
    flat, restore = ravel_pytree(perturbed(DeepGP(2, 3, Categorical(), settings).init(key), key))
    model = DeepGP(2, 3, Categorical(), settings)  # draws its frequencies anew, in float64
    batch = Batch(batch_of(key, 4, 2).x, jnp.array([0, 2, 1, 1]), jnp.arange(4, dtype=jnp.uint32))

    def objective(flat: jax.Array) -> jax.Array:
        params = jax.tree.map(lambda leaf: leaf.astype(flat.dtype), restore_any(flat))
        return model.neg_elbo(params, cast(batch, flat.dtype), key, 40)

    def restore_any(flat: jax.Array) -> Any:
        shapes = jax.tree.leaves(jax.eval_shape(restore, jnp.zeros(flat.size)))
        pieces = jnp.split(flat, np.cumsum([s.size for s in shapes])[:-1].tolist())
        leaves = [p.reshape(s.shape) for p, s in zip(pieces, shapes, strict=True)]
        return jax.tree.unflatten(jax.tree.structure(model.init(key)), leaves)

    def cast(batch: Batch, dtype: Any) -> Batch:
        return Batch(batch.x.astype(dtype), batch.y, batch.index)

    check_gradients(objective, flat)


def test_one_layer_approaches_the_exact_gp(key: jax.Array) -> None:
    """Posterior mean and evidence of scikit-learn's GP, from one layer with many features."""
    x = np.linspace(-2.0, 2.0, 25)[:, None].astype(np.float32)
    noise_var = 0.05
    noise = np.asarray(jax.random.normal(key, x.shape))
    y = (np.sin(2.0 * x) + np.sqrt(noise_var) * noise).astype(np.float32)
    exact = GaussianProcessRegressor(RBF(0.7, "fixed"), alpha=noise_var).fit(x, y[:, 0])
    evidence = float(np.asarray(exact.log_marginal_likelihood_value_))

    settings = DeepGPSettings(
        hidden_layers=0,
        features=400,
        omega="prior_fixed",
        orthogonal=False,
        initial_lengthscale=0.7,
        initial_noise_var=noise_var,
        freeze_kernel=10**6,
    )
    model = DeepGP(1, 1, Gaussian(noise_var), settings)
    batch = Batch(jnp.asarray(x), jnp.asarray(y), jnp.arange(len(x), dtype=jnp.uint32))
    params = train(model, batch, key, updates=3000)

    grid = np.linspace(-2.0, 2.0, 81)[:, None].astype(np.float32)
    weights = params["layer_0"]["turned_weights"]
    w_mean = np.asarray(turned(weights["mean"], settings.features))[:, 0]
    mean = features_of(model, grid) @ w_mean
    exact_mean, exact_sd = (np.asarray(a) for a in exact.predict(grid, return_std=True))
    # The features' error is a few per cent of the prior's sd (1); the posterior's sd is 0.1-0.2.
    assert np.abs(mean - exact_mean).max() < 0.5 * exact_sd.max()

    q_log_var = np.asarray(weights["log_var"][:, 0], np.float64)
    trained = Factorised(w_mean.astype(np.float64), np.exp(q_log_var))
    training_phi = features_of(model, x)
    best = Factorised.best(training_phi, y[:, 0], noise_var)
    bound = trained.elbo(training_phi, y[:, 0], noise_var)
    assert bound < evidence
    assert bound == pytest.approx(best.elbo(training_phi, y[:, 0], noise_var), abs=0.5)
    assert agree(-estimates(model, params, batch, key, 2000), bound)


def features_of(model: DeepGP, x: np.ndarray) -> np.ndarray:
    omega = np.asarray(model.spectra[0].z, np.float64) / 0.7
    projection = x @ omega
    phi = np.concatenate([np.cos(projection), np.sin(projection)], axis=1)
    return np.sqrt(1 / model.settings.features) * phi


class Factorised(NamedTuple):
    """A factorised q(W) of a linear model with standard normal prior."""

    mean: np.ndarray
    var: np.ndarray

    @classmethod
    def best(cls, phi: np.ndarray, y: np.ndarray, noise_var: float) -> "Factorised":
        """Of the largest ELBO: exact posterior means, variances 1 / diag(precision)."""
        precision = phi.T @ phi / noise_var + np.eye(phi.shape[1])
        return cls(np.linalg.solve(precision, phi.T @ y / noise_var), 1.0 / np.diag(precision))

    def elbo(self, phi: np.ndarray, y: np.ndarray, noise_var: float) -> float:
        """In closed form."""
        squares = (y - phi @ self.mean) ** 2 + phi**2 @ self.var
        fit = -0.5 * np.sum(squares / noise_var + np.log(2 * np.pi * noise_var))
        divergence = 0.5 * np.sum(self.var + self.mean**2 - 1.0 - np.log(self.var))
        return float(fit - divergence)


def train(model: DeepGP, batch: Batch, key: jax.Array, updates: int) -> Any:
    """Adam on q(W) alone, the kernel held."""
    params = model.init(key)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, updates))

    def step(carry: Any, update: jax.Array) -> tuple[Any, None]:
        params, state = carry
        step_key = jax.random.fold_in(key, update)
        gradients = jax.grad(model.neg_elbo)(params, batch, step_key, batch.x.shape[0])
        held = jax.tree.map(
            lambda g, until: g * float(until == 0), gradients, model.freeze_until(params)
        )
        changes, state = optimizer.update(held, state)
        return (optax.apply_updates(params, changes), state), None

    start = (params, optimizer.init(params))
    return jax.jit(lambda s: jax.lax.scan(step, s, jnp.arange(updates))[0][0])(start)
