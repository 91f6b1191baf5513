"""Putting inputs and targets to scale, learnt on the training part and undone in predictions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from distvi.data.dataset import Examples, Task
from distvi.errors import InputError, nearest

INPUTS_MODES = ("standardize", "unit", "none")


@dataclass(frozen=True, eq=False)
class Standardization:
    """``(value - shift) / scale`` for every column.

    Targets of classification and of counts keep their scale: shift 0, scale 1.
    """

    x_shift: Float32[np.ndarray, " inputs"]
    x_scale: Float32[np.ndarray, " inputs"]
    y_shift: Float32[np.ndarray, " outputs"]
    y_scale: Float32[np.ndarray, " outputs"]

    @classmethod
    def learn(
        cls, train: Examples, task: Task, inputs_mode: str = "standardize"
    ) -> "Standardization":
        """From the training part alone.

        Args:
            train: The training part.
            task: Targets are standardized in regression only.
            inputs_mode: ``standardize``: zero mean and unit variance in each column (a constant
                column keeps scale 1); ``unit``: divided by the largest absolute value anywhere,
                which takes images to [0, 1]; ``none``: as they are.

        Raises:
            InputError: ``inputs_mode`` is none of these.
        """
        inputs = train.x.shape[1]
        if inputs_mode == "standardize":
            x_shift, x_scale = _mean_and_deviation(train.blocks(), inputs)
        elif inputs_mode == "unit":
            x_shift = np.zeros(inputs, np.float32)
            x_scale = np.full(inputs, _largest(train) or 1.0, np.float32)
        elif inputs_mode == "none":
            x_shift, x_scale = np.zeros(inputs, np.float32), np.ones(inputs, np.float32)
        else:
            raise InputError(
                f"unknown way to scale the inputs {inputs_mode!r}"
                + nearest(inputs_mode, INPUTS_MODES)
            )
        outputs = 1 if train.y.ndim == 1 else train.y.shape[1]
        y_shift, y_scale = np.zeros(outputs, np.float32), np.ones(outputs, np.float32)
        if task is Task.REGRESSION:
            y_shift, y_scale = _mean_and_deviation([train.y], outputs)
        return cls(x_shift, x_scale, y_shift, y_scale)

    def standardize_x(self, x: Any) -> Any:
        """Inputs in standard units, float32; takes numpy and JAX arrays, also inside ``jit``.

        Raises:
            InputError: another number of columns than the scales were learnt on.
        """
        if x.shape[-1] != len(self.x_shift):  # a single column would be broadcast
            raise InputError(
                f"the inputs have {x.shape[-1]} columns; the scales were learnt on "
                f"{len(self.x_shift)}"
            )
        shift, scale = _as_rows(self.x_shift, x), _as_rows(self.x_scale, x)
        return (x.astype(np.float32) - shift) / scale

    def standardize_y(self, y: Any) -> Any:
        """Targets in standard units; class numbers stay what they are."""
        if np.issubdtype(y.dtype, np.integer):
            return y
        return (y - _as_rows(self.y_shift, y)) / _as_rows(self.y_scale, y)

    def standardize(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Both; takes numpy and JAX arrays, also inside ``jit``."""
        return self.standardize_x(x), self.standardize_y(y)

    def restore_y(self, y: Any) -> Any:
        """Targets in their original units: means, quantiles and draws, not variances."""
        return y * self.y_scale + self.y_shift

    def to_json(self) -> dict[str, list[float]]:
        """As a dictionary of lists; exact."""
        names = ("x_shift", "x_scale", "y_shift", "y_scale")
        return {name: getattr(self, name).tolist() for name in names}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Standardization":
        """The inverse of ``to_json``.

        Raises:
            KeyError: an entry is missing.
        """
        names = ("x_shift", "x_scale", "y_shift", "y_scale")
        return cls(**{name: np.asarray(record[name], np.float32) for name in names})


def _as_rows(columns: np.ndarray, values: Any) -> np.ndarray:
    """With the axes of ``values``, for JAX may be told to refuse unequal ranks."""
    return columns.reshape((1,) * (values.ndim - 1) + (-1,))


def _mean_and_deviation(blocks: Any, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (1 where it is zero), in one pass in float64.

    Chan, Golub and LeVeque (1983), equation 2.1: blocks merged by their moments, so that a large
    mean does not drown a small variance.
    """
    count, mean, squares = 0, np.zeros(columns), np.zeros(columns)
    for block in blocks:
        rows = np.asarray(block, np.float64)
        block_mean = rows.mean(axis=0)
        block_squares = np.square(rows - block_mean).sum(axis=0)
        total = count + len(rows)
        change = block_mean - mean
        mean = mean + change * (len(rows) / total)
        squares = squares + block_squares + change**2 * (count * len(rows) / total)
        count = total
    deviation = np.sqrt(squares / max(count, 1))
    # The mean of equal numbers can miss them by a rounding, which must not become the unit.
    constant = deviation <= 1e-12 * np.abs(mean)
    return mean.astype(np.float32), np.where(constant, 1.0, deviation).astype(np.float32)


def _largest(train: Examples) -> float:
    """The largest absolute value; stops at the first block that reaches the type's maximum."""
    integer = np.issubdtype(train.x.dtype, np.integer)
    ceiling = np.iinfo(train.x.dtype).max if integer else np.inf
    largest = 0.0
    for block in train.blocks():
        largest = max(largest, float(block.max()), -float(block.min()))
        if largest >= ceiling:
            break
    return largest
