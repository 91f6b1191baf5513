"""Random features of a projection, and the moments of a Gaussian weight layer on top of them.

A layer maps ``x`` to ``features(x @ omega) @ w`` with ``w ~ N(mean, var)`` independent. Local
reparameterization needs only the output's mean and variance,

    mean = features @ w_mean,    var = features**2 @ w_var.

Amplitudes (sigma, 1/sqrt(N)) are left to the caller: everything here is free of hyper-parameters.

References:
    Kingma, Salimans and Welling (2015), equation 6; Cutajar et al. (2017), section 3.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distvi.numerics.trigonometry import sincos

Projection = Float[Array, "rows frequencies"]
Weights = Float[Array, "columns outputs"]
Moments = tuple[Float[Array, "rows outputs"], Float[Array, "rows outputs"]]


class FeatureMap(NamedTuple):
    """One family of random features, without amplitude.

    Attributes:
        columns: Number of feature columns per frequency.
        features: ``projection -> (rows, columns * frequencies)``.
        moments: ``(projection, w_mean, w_var) -> (mean, var)`` of ``features @ w``.
    """

    columns: int
    features: Callable[[Array], Array]
    moments: Callable[[Array, Array, Array], Moments]


def turned(w_mean: Weights, frequencies: int) -> Weights:
    """Means of weights between two bases: one of features, one with their common direction first.

    Cosines and ramps have positive means, so a step of all their weights by the same small number
    is a large step of the layer's output: sharper by far than any other direction, and spread over
    as many coordinates as there are frequencies, where an optimizer that scales coordinates cannot
    see it. The reflection that swaps ``(1, ..., 1) / sqrt(n)`` and the first axis makes it one
    coordinate. Means that are standard normal stay so. It is its own inverse.

    Args:
        w_mean: In one of the bases.
        frequencies: Rows that have the common direction, n: cosines come first.

    References:
        Householder (1958), Unitary triangularization of a nonsymmetric matrix.
    """
    if frequencies == 1:
        return w_mean
    root = np.sqrt(frequencies)
    across = np.zeros(len(w_mean))
    across[:frequencies] = -1 / root
    across[0] += 1.0
    across = across.astype(w_mean.dtype)
    return w_mean - across[:, None] * (across @ w_mean / (1 - 1 / root).astype(w_mean.dtype))[None]


# --- cosine and sine ---------------------------------------------------------------------------


def trigonometric_features(projection: Projection) -> Float[Array, "rows columns"]:
    """``[cos, sin]`` of the projection, the cosines first.

    References:
        Rahimi and Recht (2007); Cutajar et al. (2017), equation 4.
    """
    sin, cos = sincos(projection)
    return jnp.concatenate([cos, sin], axis=1)


@jax.custom_vjp
def trigonometric_moments(projection: Projection, w_mean: Weights, w_var: Weights) -> Moments:
    """Mean and variance of ``trigonometric_features(projection) @ w``, ``w ~ N(w_mean, w_var)``.

    As ``sin**2 = 1 - cos**2``, the variance needs the squared cosines alone,

        var = cos**2 @ (w_var_cos - w_var_sin) + sum(w_var_sin),

    half the matrix product. The backward pass reuses sine and cosine.
    """
    return _trigonometric_forward(projection, w_mean, w_var)[0]


def _trigonometric_forward(projection: Array, w_mean: Array, w_var: Array):
    sin, cos = sincos(projection)
    mean_cos, mean_sin = jnp.split(w_mean, 2)
    var_cos, var_sin = jnp.split(w_var, 2)
    mean = cos @ mean_cos + sin @ mean_sin
    var = (cos * cos) @ (var_cos - var_sin) + var_sin.sum(axis=0)[None, :]
    # Where w_var all but vanishes, rounding of the difference can leave a negative number.
    var = jnp.maximum(var, jnp.finfo(var.dtype).tiny)
    return (mean, var), (sin, cos, w_mean, var_cos - var_sin)


def _trigonometric_backward(saved, d_moments: Moments):
    sin, cos, w_mean, var_difference = saved
    d_mean, d_var = d_moments
    mean_cos, mean_sin = jnp.split(w_mean, 2)
    d_projection = cos * (d_mean @ mean_sin.T) - sin * (
        d_mean @ mean_cos.T + 2.0 * cos * (d_var @ var_difference.T)
    )
    # d.T @ cos and not cos.T @ d: the narrow factor is the one that gets transposed. Transposed
    # back together, for XLA would turn the transpose of a product alone into the other product.
    d_w_mean = jnp.concatenate([d_mean.T @ cos, d_mean.T @ sin], axis=1).T
    d_var_cos = d_var.T @ (cos * cos)
    d_w_var = jnp.concatenate([d_var_cos, d_var.sum(axis=0)[:, None] - d_var_cos], axis=1).T
    return d_projection, d_w_mean, d_w_var


trigonometric_moments.defvjp(_trigonometric_forward, _trigonometric_backward)

TRIGONOMETRIC = FeatureMap(2, trigonometric_features, trigonometric_moments)


# --- step, ramp, squared ramp ------------------------------------------------------------------


def ramp(order: int) -> FeatureMap:
    """``max(0, projection) ** order``, the features of the arc-cosine kernels.

    Order 0 is the step function: no gradient passes through it.

    Raises:
        ValueError: the order is not 0, 1 or 2.

    References:
        Cho and Saul (2009), equation 1.
    """
    if order not in (0, 1, 2):
        raise ValueError(f"arc-cosine order is 0, 1 or 2, got {order}")

    def features(projection: Projection) -> Float[Array, "rows columns"]:
        if order == 0:
            return (projection > 0).astype(projection.dtype)
        return jnp.maximum(projection, 0.0) ** order

    def moments(projection: Projection, w_mean: Weights, w_var: Weights) -> Moments:
        phi = features(projection)
        # Where all features of a row vanish, the square root of its variance has no derivative.
        var = jnp.maximum((phi * phi) @ w_var, jnp.finfo(phi.dtype).tiny)
        return phi @ w_mean, var

    return FeatureMap(1, features, moments)
