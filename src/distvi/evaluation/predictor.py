"""Predictions in chunks of fixed size: metrics of a test set, and tables of predictions."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from distvi.data import Examples, Standardization, Task
from distvi.evaluation.metrics import (
    INTERVALS,
    QUANTILES,
    ClassificationMetrics,
    CountMetrics,
    Intervals,
    RegressionMetrics,
)
from distvi.models.checks import check_predictions
from distvi.system.programs import OWN_PROGRAMS, Programs

ROWS_PER_CHUNK = 25_000  # points times samples: of the memory that a chunk takes
POINTS_PER_CHUNK = 500  # so that a sample of a chunk fits into a core's caches
POINTS_IN_FIGURE = 2000

Params = Any


@runtime_checkable
class Inputs(Protocol):
    """Rows to predict for; y may be of any content."""

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...


class Predictor:
    """A model's predictions, in standardized units, chunk by chunk.

    A chunk holds at most 500 points, and 25,000 points times samples (one point, where there are
    more samples), so the memory it takes is bounded however many points there are. It compiles
    once: the last chunk is filled up to the common size, and the filling is cut off again. No two
    chunks share noise.

    Args:
        model: Whose ``predict`` is asked.
        standardization: Of the run.
        task: What is predicted.
        samples: Monte Carlo samples.
        key: Of the samples; the same for every call.
        programs: What compiles.
    """

    def __init__(
        self,
        model: Any,
        standardization: Standardization,
        task: Task,
        samples: int,
        key: Array,
        programs: Programs = OWN_PROGRAMS,
    ) -> None:
        self.standardization, self.task, self.samples = standardization, task, samples
        self._key = key
        self._points_per_chunk = max(1, min(POINTS_PER_CHUNK, ROWS_PER_CHUNK // samples))
        classes = task is Task.CLASSIFICATION

        def predict(
            params: Params, x: Array, y: Array, key: Array, first: Array
        ) -> dict[str, Array]:
            x, y = standardization.standardize(x, y)
            # By the first of the chunk's points, for a model counts those of a call from zero.
            key = jax.random.fold_in(key, first)
            predictive = model.predict(params, x, key, samples)
            result = {"log_density": predictive.log_density(y)}
            if classes:
                result |= {"probabilities": predictive.probabilities()}
            else:
                result |= {
                    "mean": predictive.mean(),
                    "variance": predictive.variance(),
                    "quantiles": jnp.moveaxis(predictive.quantile(jnp.array(QUANTILES)), 0, 1),
                }
            check_predictions(result, len(x), None if classes else len(standardization.y_shift))
            return result

        self._predict = programs.jit(f"predict with {samples}", predict)

    def trace(self, params: Params, examples: Examples) -> None:
        """Look at the predictions of a few points without computing them.

        Raises:
            InputError: they are of a wrong shape.
        """
        x, y = examples.take(np.zeros(2, np.int64))
        jax.eval_shape(self._predict, params, x, y, self._key, np.uint32(0))

    def compile(self, params: Params, examples: Inputs) -> None:
        """Do now what the first chunk of these examples would take long for."""
        for _ in self.chunks(params, examples):
            break

    def chunks(
        self, params: Params, examples: Inputs
    ) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Targets as stored and predictions of consecutive chunks; axis 0 is the points."""
        count = -(-len(examples) // self._points_per_chunk)
        size = -(-len(examples) // max(count, 1))  # as even as can be: little is filled up
        for start in range(0, len(examples), size or 1):
            rows = np.arange(start, min(start + size, len(examples)))
            x, y = examples.take(rows)
            missing = size - len(rows)
            padded = [np.concatenate([a, np.repeat(a[:1], missing, axis=0)]) for a in (x, y)]
            result = self._predict(params, *padded, self._key, np.uint32(start))
            yield y, {name: np.asarray(a)[: len(rows)] for name, a in result.items()}


class Evaluation:
    """Metrics of one set of test points, and what the run's figure shows of them.

    Attributes:
        metrics: By name; see `distvi.evaluation.metrics`.
        predictions: The reliability table, or predictions with 95 % intervals.
    """

    def __init__(self, predictor: Predictor, params: Params, examples: Examples, target: str):
        task = predictor.task
        if task is Task.CLASSIFICATION:
            counted = ClassificationMetrics()
            for y, chunk in predictor.chunks(params, examples):
                counted.update(chunk["probabilities"], y, chunk["log_density"])
            self.metrics, self.predictions = counted.result(), counted.reliability()
            return
        scale = predictor.standardization.y_scale
        summed = RegressionMetrics(scale) if task is Task.REGRESSION else CountMetrics()
        shown = []
        for y, chunk in predictor.chunks(params, examples):
            quantiles = np.moveaxis(chunk["quantiles"], 1, 0)
            standardized = predictor.standardization.standardize_y(y)
            summed.update(chunk["mean"], quantiles, chunk["log_density"], standardized)
            if sum(part.shape[1] for part in shown) < POINTS_IN_FIGURE:
                shown.append(_first_target(predictor, y, chunk))
        self.metrics = summed.result()
        true, mean, lower, upper = np.concatenate(shown, axis=1)
        self.predictions = Intervals(target, true, mean, lower, upper, INTERVALS[-1])


def _first_target(predictor: Predictor, y: np.ndarray, chunk: dict[str, np.ndarray]) -> np.ndarray:
    restore = predictor.standardization.restore_y
    lower, upper = chunk["quantiles"][:, -2], chunk["quantiles"][:, -1]
    columns = (y, restore(chunk["mean"]), restore(lower), restore(upper))
    return np.stack([column[:, 0] for column in columns])
