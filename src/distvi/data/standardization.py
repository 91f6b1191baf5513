"""Putting inputs and targets to scale, learnt on the training part; of targets undone afterwards.

Inputs can be conditioned, too: centred, and turned into their principal axes. To an isotropic
kernel turned inputs are the same inputs, but not to an optimizer that scales each coordinate by
itself, such as Adam: it then meets one curvature per coordinate instead of the sum of all. Why
stale gradients need that is told in docs/asynchrony.md.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32
from threadpoolctl import threadpool_limits

from distvi.data.dataset import MOST_TURNED, Examples, Task
from distvi.errors import InputError, nearest

INPUTS_MODES = ("center", "standardize", "pca", "whiten", "unit", "none")
"""Ways to put inputs to scale, see `Standardization.learn`."""

_DAMPING = 0.1  # of a whitened direction's variance, as a share of the mean variance
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Standardization:
    """``(value - shift) / scale`` for every column; inputs may be multiplied by ``x_axes`` then.

    Targets of classification and of counts keep their scale: shift 0, scale 1.
    """

    x_shift: Float32[np.ndarray, " inputs"]
    x_scale: Float32[np.ndarray, " inputs"]
    y_shift: Float32[np.ndarray, " outputs"]
    y_scale: Float32[np.ndarray, " outputs"]
    x_axes: Float32[np.ndarray, "inputs inputs"] | None = None

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
                which takes images to [0, 1]; ``center``: that with zero mean in each column;
                ``pca``: images as with ``center``, tables as with ``standardize``, and turned into
                their principal axes, the one of largest variance first; ``whiten``: and divided by
                the deviation along each axis, damped by a tenth of the mean variance; ``none``: as
                they are.

        Raises:
            InputError: ``inputs_mode`` is none of these, or there are too many columns to turn.
        """
        if inputs_mode not in INPUTS_MODES:
            raise InputError(
                f"unknown way to scale the inputs {inputs_mode!r}"
                + nearest(inputs_mode, INPUTS_MODES)
            )
        is_turned = inputs_mode in ("pca", "whiten")
        if is_turned:
            _check_turnable(train, inputs_mode)
        x_shift, x_scale = _shift_and_scale(train, inputs_mode)
        outputs = 1 if train.y.ndim == 1 else train.y.shape[1]
        y_shift, y_scale = np.zeros(outputs, np.float32), np.ones(outputs, np.float32)
        if task is Task.REGRESSION:
            y_shift, y_scale = _mean_and_deviation([train.y], outputs)
        plain = cls(x_shift, x_scale, y_shift, y_scale)
        if not is_turned:
            return plain
        axes = _principal_axes(plain._standard_blocks(train), inputs_mode == "whiten")
        return replace(plain, x_axes=axes)

    def _standard_blocks(self, examples: Examples) -> Iterator[np.ndarray]:
        """Inputs in standard units, some rows at a time."""
        for block in examples.blocks():
            for start in range(0, len(block), _ROWS_AT_ONCE):
                yield self.standardize_x(block[start : start + _ROWS_AT_ONCE])

    def applied(self, examples: Examples) -> "tuple[Examples, Standardization]":
        """Examples with their inputs in standard units, and what is left to do to them.

        Where a product is a part of it, that is better done once than in every batch.
        """
        x = np.empty(examples.x.shape, np.float32)
        start = 0
        for block in self._standard_blocks(examples):
            x[start : start + len(block)] = block
            start += len(block)
        zeros, ones = np.zeros_like(self.x_shift), np.ones_like(self.x_scale)
        left = replace(self, x_shift=zeros, x_scale=ones, x_axes=None)
        return Examples(x, examples.y), left

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
        x = (x.astype(np.float32) - shift) / scale
        if self.x_axes is None:
            return x
        if isinstance(x, np.ndarray):
            return x @ self.x_axes
        return jnp.matmul(x, self.x_axes, precision="highest")  # as NumPy, on GPUs, too

    def inputs_rms(self, examples: Examples) -> float:
        """Root mean square of inputs in standard units, of at most 4,096 rows; to three digits."""
        rows = np.linspace(0, len(examples) - 1, min(len(examples), _ROWS_AT_ONCE)).astype(int)
        x = self.standardize_x(examples.take(rows)[0])
        return float(f"{np.sqrt(np.mean(np.square(x), dtype=np.float64)):.3g}") or 1.0

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

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of lists; the axes as their float32 bytes in base64, row by row. Exact.

        (As a list, those of images of 784 pixels would be 12 MB.)
        """
        record: dict[str, Any] = {name: getattr(self, name).tolist() for name in _VECTORS}
        if self.x_axes is not None:
            record["x_axes"] = b64encode(self.x_axes.astype("<f4").tobytes()).decode()
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Standardization":
        """The inverse of ``to_json``.

        Raises:
            KeyError, ValueError: an entry is missing, or is not what it was.
        """
        vectors = {name: np.asarray(record[name], np.float32) for name in _VECTORS}
        axes = None
        if "x_axes" in record:
            inputs = len(vectors["x_shift"])
            flat = np.frombuffer(b64decode(record["x_axes"]), "<f4")
            axes = flat.astype(np.float32).reshape(inputs, inputs)
        return cls(**vectors, x_axes=axes)


_VECTORS = ("x_shift", "x_scale", "y_shift", "y_scale")


def _check_turnable(train: Examples, inputs_mode: str) -> None:
    if train.x.shape[1] > MOST_TURNED:
        raise InputError(
            f"there are {train.x.shape[1]} input columns, and {inputs_mode!r} turns at most "
            f"{MOST_TURNED}; use --inputs center or standardize"
        )


def _shift_and_scale(train: Examples, inputs_mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Of the inputs, before they are turned."""
    inputs = train.x.shape[1]
    if inputs_mode == "none":
        return np.zeros(inputs, np.float32), np.ones(inputs, np.float32)
    is_one_scale = inputs_mode in ("unit", "center")
    if inputs_mode in ("pca", "whiten"):  # columns of a table may have any units
        is_one_scale = train.x.dtype == np.uint8
    if not is_one_scale:
        return _mean_and_deviation(train.blocks(), inputs)
    scale = np.full(inputs, _largest(train) or 1.0, np.float32)
    if inputs_mode == "unit":
        return np.zeros(inputs, np.float32), scale
    return _mean_and_deviation(train.blocks(), inputs)[0], scale


def _principal_axes(blocks: Iterator[np.ndarray], is_white: bool) -> np.ndarray:
    """What centred inputs are multiplied by, of shape (inputs, inputs): an axis per column.

    One thread computes them: with more, sums are rounded otherwise, and the axes of a run would
    depend on how many cores the process has that learns them.

    Args:
        blocks: The inputs, float32.
        is_white: Whether each axis is to have the same variance, almost.
    """
    count, moments = 0, 0.0
    with threadpool_limits(1, "blas"):
        for block in blocks:
            moments = moments + (block.T @ block).astype(np.float64)
            count += len(block)
        variances, axes = np.linalg.eigh(moments / count)
    variances, axes = np.maximum(variances[::-1], 0.0), axes[:, ::-1]
    # An axis has two directions; this one does not depend on the library that computed it.
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.sign(axes[largest, np.arange(len(axes))])
    if is_white:
        damped = variances + _DAMPING * variances.mean()
        axes = axes / np.sqrt(np.where(damped > 0, damped, 1.0))
    return axes.astype(np.float32)


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
