"""Stationary and arc-cosine kernels: exact values, and what their random features need.

A kernel is a feature map, an amplitude and a law of the frequencies. All frequencies are written

    omega[i, j] = z[i, j] * scale[j] / lengthscale[i],    z standard normal,

so that given ``scale`` every prior over frequencies is Gaussian. RBF and arc-cosine kernels have
``scale = 1``; the Student-t law of a Matern kernel is the scale mixture with
``scale = sqrt(2 nu / chi2(2 nu))``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from distvi.numerics.features import TRIGONOMETRIC, FeatureMap, ramp
from distvi.numerics.spectra import student_scales

# Exact kernel values with unit lengthscale and variance: (x, y) -> (rows of x, rows of y).
Exact = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Kernel:
    """A covariance function that random features approximate.

    Attributes:
        name: As in the configuration.
        feature_map: The features and their fused moments.
        amplitude: The features' squared amplitude is ``amplitude * variance / frequencies``.
        degrees: Degrees of freedom of the Student-t spectral law; None for a normal law.
        exact: Values at unit lengthscale and variance; the oracle of the tests.
    """

    name: str
    feature_map: FeatureMap
    amplitude: float
    degrees: int | None
    exact: Exact

    def scales(self, key: Array, frequencies: int) -> Float[Array, " frequencies"]:
        """The scale of each frequency's normal law."""
        if self.degrees is None:
            return jnp.ones(frequencies)
        return student_scales(key, self.degrees, frequencies)


def _distance(x: Array, y: Array) -> Array:
    return jnp.sqrt(((x[:, None, :] - y[None, :, :]) ** 2).sum(-1))


def _rbf(x: Array, y: Array) -> Array:
    return jnp.exp(-0.5 * _distance(x, y) ** 2)


def _matern(nu: float) -> Exact:
    def exact(x: Array, y: Array) -> Array:
        r = math.sqrt(2 * nu) * _distance(x, y)
        polynomial = {0.5: 1.0, 1.5: 1.0 + r, 2.5: 1.0 + r + r**2 / 3.0}[nu]
        return polynomial * jnp.exp(-r)

    return exact


def _arc_cosine(order: int) -> Exact:
    def exact(x: Array, y: Array) -> Array:
        norms = jnp.linalg.norm(x, axis=1)[:, None] * jnp.linalg.norm(y, axis=1)[None, :]
        cosine = jnp.clip(x @ y.T / norms, -1.0, 1.0)
        angle = jnp.arccos(cosine)
        sine = jnp.sin(angle)
        j = (
            jnp.pi - angle,
            sine + (jnp.pi - angle) * cosine,
            3 * sine * cosine + (jnp.pi - angle) * (1 + 2 * cosine**2),
        )[order]
        return norms**order * j / jnp.pi

    return exact


_KERNELS = (
    Kernel("rbf", TRIGONOMETRIC, 1.0, None, _rbf),
    Kernel("matern12", TRIGONOMETRIC, 1.0, 1, _matern(0.5)),
    Kernel("matern32", TRIGONOMETRIC, 1.0, 3, _matern(1.5)),
    Kernel("matern52", TRIGONOMETRIC, 1.0, 5, _matern(2.5)),
    Kernel("arccos0", ramp(0), 2.0, None, _arc_cosine(0)),
    Kernel("arccos1", ramp(1), 2.0, None, _arc_cosine(1)),
    Kernel("arccos2", ramp(2), 2.0, None, _arc_cosine(2)),
)

KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in _KERNELS}
"""The kernels by name: RBF; Matern 1/2, 3/2, 5/2; arc-cosine of order 0, 1, 2.

References:
    Rasmussen and Williams (2006), section 4.2; Cho and Saul (2009), equation 3.
"""
