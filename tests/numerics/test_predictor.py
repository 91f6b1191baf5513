"""Predictions in chunks: the law of their samples, whatever the size of the chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distvi.data import Examples, Standardization, Task
from distvi.evaluation import Evaluation, Predictor, predictor
from distvi.models import DeepGPSettings, build_model
from distvi.models.base import Model
from distvi.models.sampled import EstimatorName

POINTS, SAMPLES = 24, 400


def model_of(estimator: EstimatorName = "local") -> Model:
    settings = DeepGPSettings(hidden_layers=1, width=3, features=8, estimator=estimator)
    model = build_model(settings, inputs=2, outputs=1, task="regression")
    assert isinstance(model, Model)
    return model


def examples_of(key: jax.Array, points: int = POINTS) -> Examples:
    x = np.asarray(jax.random.normal(key, (points, 2)))
    return Examples(x, x[:, :1] * x[:, 1:])


def predictor_of(
    model: Model, examples: Examples, key: jax.Array, samples: int = SAMPLES
) -> Predictor:
    standardization = Standardization.learn(examples, Task.REGRESSION, "standardize")
    return Predictor(model, standardization, Task.REGRESSION, samples, key)


def all_of(predicted: Predictor, params: object, examples: Examples, name: str) -> np.ndarray:
    return np.concatenate([chunk[name] for _, chunk in predicted.chunks(params, examples)])


@pytest.mark.parametrize("estimator", ["local", "weights"])
@pytest.mark.parametrize("points", [1, 7])
def test_the_size_of_chunks_does_not_change_the_law(
    estimator: EstimatorName, points: int, key: jax.Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, examples = model_of(estimator), examples_of(key)
    params = jax.jit(model.init)(key)
    whole = predictor_of(model, examples, key)
    monkeypatch.setattr(predictor, "POINTS_PER_CHUNK", points)
    parts = predictor_of(model, examples, key)
    means, others = (all_of(p, params, examples, "mean") for p in (whole, parts))
    variances = all_of(whole, params, examples, "variance")
    standard_errors = np.sqrt(2 * variances / SAMPLES)
    assert (np.abs(means - others) < 5 * standard_errors).all()
    ratio = all_of(parts, params, examples, "variance") / variances
    # Kurtosis up to 9, ten times a normal's: the variance of a variance is 8 / samples of it.
    assert (np.abs(np.log(ratio)) < 5 * np.sqrt(2 * 8 / SAMPLES)).all()


def test_predictions_are_a_function_of_the_key(key: jax.Array) -> None:
    model, examples = model_of(), examples_of(key)
    params = jax.jit(model.init)(key)
    first, again = (predictor_of(model, examples, key, 20) for _ in range(2))
    other = predictor_of(model, examples, jax.random.fold_in(key, 1), 20)
    means = all_of(first, params, examples, "mean")
    np.testing.assert_array_equal(means, all_of(again, params, examples, "mean"))
    np.testing.assert_array_equal(means, all_of(first, params, examples, "mean"))
    assert (means != all_of(other, params, examples, "mean")).all()


def test_chunks_share_no_noise(key: jax.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same point again and again: only its samples differ."""
    model, one = model_of(), examples_of(key)
    same = Examples(np.repeat(one.x[:1], POINTS, axis=0), np.repeat(one.y[:1], POINTS, axis=0))
    monkeypatch.setattr(predictor, "POINTS_PER_CHUNK", 4)
    params = jax.jit(model.init)(key)
    means = all_of(predictor_of(model, one, key, 3), params, same, "mean")
    assert len(np.unique(means)) == POINTS


def test_metrics_do_not_depend_on_the_size_of_chunks(
    key: jax.Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, examples = model_of(), examples_of(key, 200)
    params = jax.jit(model.init)(key)
    found = []
    for points in (200, 50, 13):
        monkeypatch.setattr(predictor, "POINTS_PER_CHUNK", points)
        each = [
            Evaluation(
                predictor_of(model, examples, jax.random.fold_in(key, n), 20), params, examples, "y"
            ).metrics["mnll"]
            for n in range(8)
        ]
        found.append((np.mean(each), np.std(each, ddof=1) / np.sqrt(len(each))))
    (first, error), *others = found
    for mean, other_error in others:
        assert abs(mean - first) < 5 * np.hypot(error, other_error)


def test_samples_of_a_prediction_are_independent(key: jax.Array) -> None:
    """Samples, points and layers: no correlation is further from zero than chance has it."""
    model = model_of()
    params = jax.jit(model.init)(key)
    x = jnp.ones((2, 2))
    f = np.asarray(jax.jit(lambda params: model.predict(params, x, key, 4000).f)(params))
    points, neighbours = f[:, :, 0], f[:-1, 0, 0] - f[:, 0, 0].mean()
    limit = 5 / np.sqrt(len(f))
    assert abs(np.corrcoef(points.T)[0, 1]) < limit
    assert abs(np.corrcoef(neighbours, f[1:, 0, 0])[0, 1]) < limit
