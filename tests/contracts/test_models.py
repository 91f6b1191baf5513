"""What every model promises, whatever its kernel, likelihood, treatment or estimator."""

from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

from distvi.errors import InputError
from distvi.models import (
    Batch,
    BayesianNetworkSettings,
    DeepGPSettings,
    Model,
    build_model,
    sampled,
)
from distvi.models.deep_gp import KernelName, OmegaTreatment
from distvi.models.likelihoods import LIKELIHOODS, Task, likelihood_named, likelihoods_for
from distvi.models.sampled import EstimatorName

SMALL: dict[str, Any] = {"hidden_layers": 1, "width": 3}
GPS = {
    f"{kernel}, {omega}, {estimator}": DeepGPSettings(
        kernel=kernel, omega=omega, estimator=estimator, features=6, feed_forward=True, **SMALL
    )
    for kernel in get_args(KernelName)
    for omega in get_args(OmegaTreatment)
    for estimator in get_args(EstimatorName)
    if kernel in ("rbf", "arccos1") or (omega, estimator) == ("var_fixed", "local")
}
OTHERS = {
    "shallow, isotropic": DeepGPSettings(hidden_layers=0, features=6, ard=False),
    "orthogonal, 3 samples": DeepGPSettings(features=6, orthogonal=True, samples=3, **SMALL),
    "network": BayesianNetworkSettings(**SMALL),
    "network, weights": BayesianNetworkSettings(estimator="weights", samples=2, **SMALL),
}
SETTINGS = GPS | OTHERS
TASKS: dict[str, tuple[Task, int]] = {
    "gaussian": ("regression", 2),
    "student_t": ("regression", 1),
    "poisson": ("count", 1),
    "bernoulli": ("classification", 2),
    "categorical": ("classification", 3),
}
every_model = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
Settings = DeepGPSettings | BayesianNetworkSettings


def batch_for(task: Task, outputs: int, key: jax.Array) -> Batch:
    x = jax.random.normal(key, (4, 5))
    if task == "classification":
        y = jnp.arange(4, dtype=jnp.int32) % outputs
    else:
        y = jnp.abs(jnp.round(jax.random.normal(key, (4, outputs))))
    return Batch(x, y, jnp.arange(4, dtype=jnp.uint32))


@every_model
def test_it_learns_and_predicts(settings: Settings, key: jax.Array) -> None:
    model = build_model(settings, inputs=5, outputs=3, task="classification")
    assert isinstance(model, Model)
    batch = batch_for("classification", 3, key)
    params = jax.jit(model.init)(key)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))

    @jax.jit
    def learn_and_predict(params: Any) -> Any:
        value, gradients = jax.value_and_grad(model.neg_elbo)(params, batch, key, 40)
        return value, gradients, model.predict(params, batch.x, key, 7).probabilities()

    value, gradients, probabilities = learn_and_predict(params)

    assert value.shape == ()
    assert jnp.isfinite(value)
    assert jax.tree.structure(gradients) == jax.tree.structure(params)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    np.testing.assert_allclose(probabilities.sum(1), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [pytest.param(own, id=name) for name, own in SETTINGS.items() if not name.startswith("arccos")],
)
@pytest.mark.parametrize("rows", [4, 8])  # one sample of four points at once, and two
def test_samples_a_few_at_once_are_those_of_all_at_once(
    settings: Settings, rows: int, key: jax.Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampled, "ROWS_IN_CACHE", rows)
    model = build_model(settings, inputs=5, outputs=3, task="classification")
    assert isinstance(model, sampled.SampledModel)
    x, params = batch_for("classification", 3, key).x, jax.jit(model.init)(key)
    index = jnp.arange(4, dtype=jnp.uint32)
    looped = jax.jit(lambda params: model.predict(params, x, key, 6).f)(params)
    plain = jax.jit(lambda params: model._sample_latents(params, x, index, key, 6))(params)
    np.testing.assert_allclose(looped, plain, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("likelihood", TASKS)
@pytest.mark.parametrize("kind", ["deep_gp", "network"])
def test_every_likelihood_suits_every_model(likelihood: Any, kind: str, key: jax.Array) -> None:
    task, outputs = TASKS[likelihood]
    small: dict[str, Any] = SMALL | {"likelihood": likelihood}
    settings = (
        DeepGPSettings(features=6, **small)
        if kind == "deep_gp"
        else BayesianNetworkSettings(**small)
    )
    model = build_model(settings, inputs=5, outputs=outputs, task=task)
    batch = batch_for(task, outputs, key)

    @jax.jit
    def learn_and_predict() -> tuple[jax.Array, jax.Array]:
        params = model.init(key)
        density = model.predict(params, batch.x, key, 5).log_density(batch.y)
        return model.neg_elbo(params, batch, key, 4), density

    value, density = learn_and_predict()
    assert jnp.isfinite(value)
    assert jnp.isfinite(density).all()


def test_the_divergence_vanishes_where_q_is_the_prior(key: jax.Array) -> None:
    settings = DeepGPSettings(
        features=6, initial_weight_var=1.0, initial_weight_spread=0.0, kernel="matern32", **SMALL
    )
    model = build_model(settings, inputs=5, outputs=1, task="regression")
    assert abs(float(model.divergence(model.init(key)))) < 1e-3  # pyright: ignore[reportAttributeAccessIssue]


def test_fixed_frequencies_come_from_the_seed_alone(key: jax.Array) -> None:
    settings = DeepGPSettings(features=6, orthogonal=True, **SMALL)

    def spectrum(seed: int) -> jax.Array:
        model = build_model(settings, inputs=5, outputs=1, task="regression", seed=seed)
        return model.spectra[1].z  # pyright: ignore[reportAttributeAccessIssue]

    np.testing.assert_array_equal(spectrum(3), spectrum(3))
    assert (spectrum(3) != spectrum(4)).any()


@pytest.mark.parametrize("kernel", ["rbf", "arccos0", "arccos1", "arccos2"])
def test_a_row_of_zeros_has_a_finite_gradient(kernel: KernelName, key: jax.Array) -> None:
    settings = DeepGPSettings(features=6, kernel=kernel, **SMALL)
    model = build_model(settings, inputs=5, outputs=1, task="regression")
    blank = Batch(jnp.zeros((2, 5)), jnp.zeros((2, 1)), jnp.arange(2, dtype=jnp.uint32))
    gradients = jax.jit(jax.grad(lambda p: model.neg_elbo(p, blank, key, 2)))(model.init(key))
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_freeze_schedules_name_the_parameters_they_hold(key: jax.Array) -> None:
    settings = DeepGPSettings(features=6, freeze_omega=10, freeze_kernel=40, **SMALL)
    model = build_model(settings, inputs=5, outputs=1, task="regression")
    held = model.freeze_until(model.init(key))  # pyright: ignore[reportAttributeAccessIssue]
    assert held["layer_1"] == {
        "kernel": {"log_lengthscale": 40, "log_variance": 40},
        "omega": {"log_var": 10, "mean": 10},
        "turned_weights": {"log_var": 0, "mean": 0},
    }
    assert held["likelihood"] == {"log_var": 40}


def test_a_likelihood_that_does_not_suit_the_task_is_refused() -> None:
    with pytest.raises(InputError, match="'gaussian' does not suit classification"):
        build_model(
            DeepGPSettings(likelihood="gaussian"), inputs=2, outputs=2, task="classification"
        )
    with pytest.raises(InputError, match="'bernoulli' is for 2 classes and the data have 3"):
        build_model(
            DeepGPSettings(likelihood="bernoulli"), inputs=2, outputs=3, task="classification"
        )
    with pytest.raises(ValidationError, match="orthogonal frequencies are fixed draws"):
        DeepGPSettings(orthogonal=True, omega="var_resampled")


@pytest.mark.parametrize("task", get_args(Task))
def test_the_likelihoods_of_a_task_have_an_order(task: Task) -> None:
    places = [LIKELIHOODS[name].suits[task] for name in likelihoods_for(task)]
    assert places == list(range(len(places)))
    usual = likelihood_named("auto", task=task, outputs=3, noise_var=0.1)
    assert usual == likelihood_named(likelihoods_for(task)[0], task=task, outputs=3, noise_var=0.1)


def test_every_likelihood_suits_a_task() -> None:
    assert all(kind.suits for kind in LIKELIHOODS.values())
    with pytest.raises(ValueError, match=r"unknown likelihood 'gausian' .did you mean 'gaussian'"):
        DeepGPSettings(likelihood="gausian")
    with pytest.raises(InputError, match="'bernoulli' is for 2 classes and the data have 3; use"):
        likelihood_named("bernoulli", task="classification", outputs=3, noise_var=0.1)
