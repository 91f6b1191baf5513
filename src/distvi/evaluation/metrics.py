"""How good predictions are: accumulators that see the test points chunk by chunk.

Each accumulator keeps sums alone, so memory does not grow with the number of test points:
``update(chunk)`` as often as there are chunks, then ``result()``. The functions at the end of the
file do both for arrays already at hand. Everything is float64 NumPy, apart from JAX's float32, so
that a sum over millions of points keeps its digits. A NaN in the predictions goes through to the
metrics it touches.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

INTERVALS = (0.5, 0.9, 0.95)
"""Probabilities of the central predictive intervals whose coverage is counted."""

QUANTILES = tuple((1 + sign * level) / 2 for level in INTERVALS for sign in (-1, 1))
"""The predictive quantiles that ``update`` expects: lower and upper end of each of `INTERVALS`."""


class Reliability(NamedTuple):
    """The table behind a reliability diagram: one row per bin of the top probability.

    Attributes:
        lower: Lower edges of the bins; exclusive.
        upper: Upper edges; inclusive.
        points: How many test points' top probability falls into the bin.
        confidence: Their mean top probability; NaN where the bin is empty.
        accuracy: The fraction of them classified rightly; NaN where the bin is empty.
    """

    lower: Float[np.ndarray, " bins"]
    upper: Float[np.ndarray, " bins"]
    points: Int[np.ndarray, " bins"]
    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]


class Intervals(NamedTuple):
    """Predictions of one target, a real number or a count, beside the truth; in original units.

    Attributes:
        target: The target's name.
        true: What was observed.
        mean: Predictive means.
        lower: Lower ends of the central predictive intervals.
        upper: Their upper ends.
        level: Probability that each interval claims to hold.
    """

    target: str
    true: Float[np.ndarray, " points"]
    mean: Float[np.ndarray, " points"]
    lower: Float[np.ndarray, " points"]
    upper: Float[np.ndarray, " points"]
    level: float = 0.95


class ClassificationMetrics:
    """Error rate, MNLL, ECE and Brier score of predicted class probabilities.

    Args:
        bins: Number of equally wide bins of the top probability, for the ECE.

    Example:
        >>> metrics = ClassificationMetrics()
        >>> metrics.update(np.array([[0.75, 0.25], [0.5, 0.5]]), np.array([0, 1]))
        >>> metrics.result()["error_rate"]
        0.5
    """

    def __init__(self, bins: int = 15) -> None:
        self._edges = np.linspace(0.0, 1.0, bins + 1)
        self._count = np.zeros(bins, np.int64)
        self._confidence = np.zeros(bins)
        self._right = np.zeros(bins)
        self._neg_log_density = 0.0
        self._brier = 0.0

    def update(
        self,
        probabilities: Float[np.ndarray, "points classes"],
        labels: Int[np.ndarray, " points"],
        log_density: Float[np.ndarray, " points"] | None = None,
    ) -> None:
        """Take in a chunk of test points.

        Args:
            probabilities: Predicted; each row sums to one.
            labels: The true class numbers.
            log_density: Log probability of the true classes, where the caller has it exactly;
                otherwise the logarithm of ``probabilities``, which is -inf where they underflow.
        """
        probabilities = probabilities.astype(np.float64)
        true_probability = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
        if log_density is None:
            with np.errstate(divide="ignore"):
                log_density = np.log(true_probability)
        top = probabilities.argmax(axis=1)
        confidence = probabilities.max(axis=1)
        # A bin holds its upper edge, as in Guo et al.: searching the inner edges from the left.
        row = np.searchsorted(self._edges[1:-1], confidence, side="left")
        bins = len(self._count)
        self._count += np.bincount(row, minlength=bins)
        self._confidence += np.bincount(row, confidence, minlength=bins)
        self._right += np.bincount(row, top == labels, minlength=bins)
        self._neg_log_density -= log_density.sum(dtype=np.float64)
        self._brier += ((probabilities**2).sum(axis=1) - 2 * true_probability + 1).sum()

    def result(self) -> dict[str, float]:
        """The metrics of all the points so far.

        Returns:
            ``error_rate``; ``mnll``, the mean negative log probability of the true class, in
            nats; ``ece``, the expected calibration error; ``brier``, the mean over points of the
            squared distance between probabilities and one-hot label, summed over the classes
            (Brier's original form, 0 to 2; for two classes twice the one-column form).

        Raises:
            ValueError: there was no point yet.

        References:
            Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks",
            ICML 2017, equation 3. Brier, "Verification of forecasts expressed in terms of
            probability", Monthly Weather Review 1950, equation 2.
        """
        points = _counted(int(self._count.sum()))
        return {
            "error_rate": float(1 - self._right.sum() / points),
            "mnll": float(self._neg_log_density / points),
            "ece": float(np.abs(self._right - self._confidence).sum() / points),
            "brier": float(self._brier / points),
        }

    def reliability(self) -> Reliability:
        """Accuracy against confidence, bin by bin."""
        held = np.where(self._count > 0, self._count, np.nan)
        return Reliability(
            lower=self._edges[:-1],
            upper=self._edges[1:],
            points=self._count.copy(),
            confidence=self._confidence / held,
            accuracy=self._right / held,
        )


class RegressionMetrics:
    """RMSE, MNLL and coverage of predictive intervals, in original and in standardized units.

    Predictions and targets come in standardized units, as the model gives them.

    Args:
        y_scale: What one standardized unit of each target is in its original unit.
    """

    def __init__(self, y_scale: Float[np.ndarray, " outputs"]) -> None:
        self._y_scale = y_scale.astype(np.float64)
        self._points = 0
        self._squared_error = np.zeros(len(y_scale))
        self._neg_log_density = 0.0
        self._covered = np.zeros(len(INTERVALS))

    def update(
        self,
        mean: Float[np.ndarray, "points outputs"],
        quantiles: Float[np.ndarray, "quantiles points outputs"],
        log_density: Float[np.ndarray, " points"],
        y: Float[np.ndarray, "points outputs"],
    ) -> None:
        """Take in a chunk of test points, all in standardized units.

        Args:
            mean: Predictive means.
            quantiles: Predictive quantiles at `QUANTILES`, noise included.
            log_density: Log of the joint predictive density of all outputs at ``y``.
            y: The true targets.
        """
        self._points += len(y)
        self._squared_error += ((mean.astype(np.float64) - y) ** 2).sum(axis=0)
        self._neg_log_density -= log_density.sum(dtype=np.float64)
        lower, upper = quantiles[0::2], quantiles[1::2]
        # Mean over the outputs: a point with two targets counts half for each.
        self._covered += ((lower <= y) & (y <= upper)).mean(axis=2).sum(axis=1)

    def result(self) -> dict[str, float]:
        """The metrics of all the points so far.

        Returns:
            ``rmse``, in original units, over all points and outputs; ``mnll``, the mean negative
            log density in nats of the targets in original units; ``coverage_50``,
            ``coverage_90``, ``coverage_95``, the fractions of targets inside the central
            predictive intervals, ends included; ``rmse_standardized`` and ``mnll_standardized``,
            the first two in units of the training targets' standard deviation.

        Raises:
            ValueError: there was no point yet.
        """
        points = _counted(self._points)
        mnll = float(self._neg_log_density / points)
        coverage = {
            f"coverage_{level:.0%}".rstrip("%"): float(covered / points)
            for level, covered in zip(INTERVALS, self._covered, strict=True)
        }
        return {
            "rmse": float(np.sqrt((self._squared_error * self._y_scale**2).mean() / points)),
            # With y = shift + scale * u, the density of y is that of u divided by the scales.
            "mnll": mnll + float(np.log(self._y_scale).sum()),
            **coverage,
            "rmse_standardized": float(np.sqrt(self._squared_error.mean() / points)),
            "mnll_standardized": mnll,
        }


class CountMetrics:
    """RMSE, MNLL and coverage for counts, whose targets are never standardized.

    The intervals of a discrete variable cannot have just the probability asked for: their
    coverage is at least the nominal one where the model is right, the more so the smaller the
    counts.
    """

    def __init__(self) -> None:
        self._metrics = RegressionMetrics(np.ones(1))

    def update(
        self,
        mean: Float[np.ndarray, "points 1"],
        quantiles: Float[np.ndarray, "quantiles points 1"],
        log_density: Float[np.ndarray, " points"],
        y: Float[np.ndarray, "points 1"],
    ) -> None:
        """Take in a chunk of test points; as `RegressionMetrics.update`."""
        self._metrics.update(mean, quantiles, log_density, y)

    def result(self) -> dict[str, float]:
        """``rmse``, ``mnll`` and ``coverage_*`` of all the points so far.

        Raises:
            ValueError: there was no point yet.
        """
        result = self._metrics.result()
        return {name: value for name, value in result.items() if "standardized" not in name}


def classification_metrics(
    probabilities: Float[np.ndarray, "points classes"], labels: Int[np.ndarray, " points"]
) -> dict[str, float]:
    """`ClassificationMetrics` of arrays already at hand.

    Example:
        >>> certain = np.eye(3)
        >>> classification_metrics(certain, np.array([0, 1, 2]))["brier"]
        0.0
    """
    metrics = ClassificationMetrics()
    metrics.update(probabilities, labels)
    return metrics.result()


def regression_metrics(
    mean: Float[np.ndarray, "points outputs"],
    quantiles: Float[np.ndarray, "quantiles points outputs"],
    log_density: Float[np.ndarray, " points"],
    y: Float[np.ndarray, "points outputs"],
    y_scale: Float[np.ndarray, " outputs"] | Sequence[float],
) -> dict[str, float]:
    """`RegressionMetrics` of arrays already at hand, in standardized units."""
    metrics = RegressionMetrics(np.asarray(y_scale, np.float64))
    metrics.update(mean, quantiles, log_density, y)
    return metrics.result()


def _counted(points: int) -> int:
    if points == 0:
        raise ValueError("no test point was given: call update() before result()")
    return points
