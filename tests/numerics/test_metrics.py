"""Metrics against scikit-learn, closed forms and their own invariance under chunking."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, root_mean_squared_error

from distvi.data import Examples, Task
from distvi.evaluation.constant import constant_metrics
from distvi.evaluation.metrics import (
    INTERVALS,
    QUANTILES,
    ClassificationMetrics,
    CountMetrics,
    RegressionMetrics,
    classification_metrics,
    regression_metrics,
)


def test_the_best_constant(random: np.random.Generator) -> None:
    x = np.zeros((300, 1), np.float32)
    y = (50 + 3 * random.normal(size=(300, 2))).astype(np.float32)
    train, test = Examples(x[:200], y[:200]), Examples(x[200:], y[200:])
    mean, sd = y[:200].mean(0, np.float64), y[:200].std(0, dtype=np.float64)
    assert constant_metrics(train, test, Task.REGRESSION) == pytest.approx(
        {
            "rmse": np.sqrt(np.square(y[200:] - mean).mean()),
            "mnll": -stats.norm.logpdf(y[200:], mean, sd).sum(1).mean(),
        }
    )
    labels = random.integers(3, size=300).astype(np.int32)
    train, test = Examples(x[:200], labels[:200]), Examples(x[200:], labels[200:])
    share = np.bincount(labels[:200]) / 200
    assert constant_metrics(train, test, Task.CLASSIFICATION) == pytest.approx(
        {
            "error_rate": 1 - accuracy_score(labels[200:], np.full(100, share.argmax())),
            "mnll": log_loss(labels[200:], np.tile(share, (100, 1))),
        }
    )
    new = Examples(x[:1], np.full(1, 3, np.int32))
    assert constant_metrics(train, new, Task.CLASSIFICATION)["mnll"] == np.inf


@pytest.fixture
def random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def random_predictions(random: np.random.Generator, points: int, classes: int):
    probabilities = random.dirichlet(np.full(classes, 0.5), size=points)
    labels = np.array([random.choice(classes, p=row) for row in probabilities])
    return probabilities, labels


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_classification_agrees_with_scikit_learn(random, classes):
    probabilities, labels = random_predictions(random, 500, classes)
    ours = classification_metrics(probabilities, labels)
    theirs = {
        "error_rate": 1 - accuracy_score(labels, probabilities.argmax(axis=1)),
        "mnll": log_loss(labels, probabilities, labels=range(classes)),
        # Halved by scikit-learn where there are two classes.
        "brier": brier_score_loss(labels, probabilities, labels=range(classes))
        * (2 if classes == 2 else 1),
    }
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, rel=1e-12), name


def test_ece_of_two_bins_by_hand():
    # Six points at confidence 0.9, three of them right; four at 0.6, all right.
    confidence = np.array([0.9] * 6 + [0.6] * 4)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.array([0, 0, 0, 1, 1, 1, 0, 0, 0, 0])
    metrics = ClassificationMetrics()
    metrics.update(probabilities, labels)
    assert metrics.result()["ece"] == pytest.approx(0.6 * (0.9 - 0.5) + 0.4 * (1.0 - 0.6))
    table = metrics.reliability()
    assert table.points.sum() == 10
    filled = table.points > 0
    assert table.points[filled].tolist() == [4, 6]
    np.testing.assert_allclose(table.confidence[filled], [0.6, 0.9])
    np.testing.assert_allclose(table.accuracy[filled], [1.0, 0.5])
    assert np.isnan(table.accuracy[~filled]).all()
    assert (table.lower[filled] < [0.6, 0.9]).all()
    assert (table.upper[filled] >= [0.6, 0.9]).all()


def test_a_bin_holds_its_upper_edge_and_the_last_bin_holds_one():
    metrics = ClassificationMetrics(bins=4)
    metrics.update(np.array([[0.75, 0.25], [0.5, 0.5], [1.0, 0.0]]), np.array([0, 0, 0]))
    assert metrics.reliability().points.tolist() == [0, 1, 1, 1]


def test_ece_vanishes_for_calibrated_and_is_one_for_certainly_wrong_predictions():
    calibrated = np.tile([[0.75, 0.25]], (8, 1))
    assert classification_metrics(calibrated, np.array([0] * 6 + [1] * 2))["ece"] == 0
    wrong = classification_metrics(np.eye(2)[[0, 0]], np.array([1, 1]))
    assert wrong == {"error_rate": 1.0, "mnll": np.inf, "ece": 1.0, "brier": 2.0}


def test_exact_log_density_replaces_probabilities_that_underflow():
    metrics = ClassificationMetrics()
    probabilities = np.array([[1.0, 0.0]], np.float32)
    metrics.update(probabilities, np.array([1], np.int32), np.array([-200.0], np.float32))
    assert metrics.result()["mnll"] == 200


def test_chunks_of_any_size_give_the_result_of_the_whole(random):
    probabilities, labels = random_predictions(random, 100, 4)
    chunked = ClassificationMetrics()
    for rows in np.split(np.arange(100), [1, 8, 8, 70]):  # one chunk is empty
        chunked.update(probabilities[rows], labels[rows])
    whole = classification_metrics(probabilities, labels)
    assert chunked.result() == pytest.approx(whole, rel=1e-12)


def normal_predictions(random: np.random.Generator, points: int, outputs: int):
    """Exact predictive normals, their quantiles and draws from them."""
    mean = random.normal(size=(points, outputs))
    sd = random.uniform(0.5, 2, size=(points, outputs))
    y = random.normal(mean, sd)
    quantiles = np.stack([stats.norm.ppf(q, mean, sd) for q in QUANTILES])
    log_density = stats.norm.logpdf(y, mean, sd).sum(axis=1)
    return mean, sd, quantiles, log_density, y


@pytest.mark.parametrize("outputs", [1, 3])
def test_regression_in_original_units(random, outputs):
    mean, sd, quantiles, log_density, y = normal_predictions(random, 200, outputs)
    scale = np.array([0.01, 5.0, 700.0])[:outputs]
    ours = regression_metrics(mean, quantiles, log_density, y, scale)
    assert ours["rmse_standardized"] == pytest.approx(
        np.sqrt(np.mean(root_mean_squared_error(y, mean, multioutput="raw_values") ** 2))
    )
    assert ours["rmse"] == pytest.approx(
        np.sqrt(
            np.mean(root_mean_squared_error(y * scale, mean * scale, multioutput="raw_values") ** 2)
        )
    )
    # The density of the targets before standardization, written out: shift 3.
    untransformed = stats.norm.logpdf(3 + scale * y, 3 + scale * mean, scale * sd)
    assert ours["mnll"] == pytest.approx(-untransformed.sum(axis=1).mean())
    assert ours["mnll_standardized"] == pytest.approx(-log_density.mean())


def test_exact_normals_are_covered_as_announced(random):
    points = 20_000
    mean, _, quantiles, log_density, y = normal_predictions(random, points, 1)
    ours = regression_metrics(mean, quantiles, log_density, y, [1.0])
    for name, level in zip(("coverage_50", "coverage_90", "coverage_95"), INTERVALS, strict=True):
        standard_error = np.sqrt(level * (1 - level) / points)
        assert abs(ours[name] - level) < 4 * standard_error


def test_coverage_by_hand_counts_ends_and_shares_a_point_among_its_outputs():
    quantiles = np.array([-1.0, 1.0, -2.0, 2.0, -3.0, 3.0])[:, None, None] * np.ones((1, 2, 2))
    y = np.array([[1.0, -2.5], [0.0, 2.0]])
    metrics = RegressionMetrics(np.ones(2))
    metrics.update(np.zeros((2, 2)), quantiles, np.zeros(2), y)
    result = metrics.result()
    assert result["coverage_50"] == 0.5  # 1.0 (the end itself) and 0.0
    assert result["coverage_90"] == 0.75
    assert result["coverage_95"] == 1.0


def test_regression_chunks_give_the_result_of_the_whole(random):
    mean, _, quantiles, log_density, y = normal_predictions(random, 50, 2)
    chunked = RegressionMetrics(np.array([2.0, 3.0]))
    for rows in np.split(np.arange(50), [7, 7, 30]):
        chunked.update(mean[rows], quantiles[:, rows], log_density[rows], y[rows])
    whole = regression_metrics(mean, quantiles, log_density, y, [2.0, 3.0])
    assert chunked.result() == pytest.approx(whole, rel=1e-12)


def test_counts_have_no_standardized_twins_and_cover_at_least_the_nominal_level(random):
    points = 5_000
    rate = random.uniform(0.5, 20, size=(points, 1))
    y = random.poisson(rate).astype(np.float64)
    quantiles = np.stack([stats.poisson.ppf(q, rate) for q in QUANTILES])
    log_density = stats.poisson.logpmf(y, rate)[:, 0]
    metrics = CountMetrics()
    metrics.update(rate, quantiles, log_density, y)
    result = metrics.result()
    assert set(result) == {"rmse", "mnll", "coverage_50", "coverage_90", "coverage_95"}
    assert result["rmse"] == pytest.approx(root_mean_squared_error(y, rate))
    assert result["mnll"] == pytest.approx(-log_density.mean())
    for name, level in zip(("coverage_50", "coverage_90", "coverage_95"), INTERVALS, strict=True):
        assert result[name] > level


@pytest.mark.parametrize(
    "metrics", [ClassificationMetrics(), RegressionMetrics(np.ones(1)), CountMetrics()]
)
def test_no_point_is_refused(metrics):
    with pytest.raises(ValueError, match="no test point"):
        metrics.result()
