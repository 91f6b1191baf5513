"""Observation models p(y | f): log densities, moments and distribution functions.

Each is a frozen object. ``f`` has shape (..., latents) and a target's last axis is dropped for
Bernoulli and categorical likelihoods, whose targets are class numbers.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaincc, gammaln, ndtr
from jaxtyping import Array, Float, Shaped

from distvi.numerics import gaussians

Params = dict[str, Array]
Latents = Float[Array, "*samples points latents"]
Outputs = Float[Array, "*samples points outputs"]
Targets = Float[Array, "points outputs"]
PerPoint = Float[Array, "*samples points"]
Probabilities = Float[Array, "*samples points classes"]


@runtime_checkable
class Likelihood(Protocol):
    """The law of a target given the last layer's values."""

    discrete: bool
    """Whether quantiles are whole numbers."""

    def latents(self, outputs: int) -> int:
        """Width of the last layer, given the number of target columns or of classes."""
        ...

    def init(self, outputs: int) -> Params:
        """Initial parameters of the likelihood itself."""
        ...

    def log_density(self, params: Params, f: Array, y: Array) -> Array:
        """Log p(y | f) per point, in nats; summed over the target's columns."""
        ...

    def mean(self, params: Params, f: Array) -> Array:
        """E[y | f]."""
        ...

    def variance(self, params: Params, f: Array) -> Array:
        """Var[y | f], elementwise: the noise."""
        ...


@runtime_checkable
class Ordered(Likelihood, Protocol):
    """A likelihood whose targets are numbers, so that quantiles make sense."""

    def cdf(self, params: Params, f: Array, y: Array) -> Array:
        """P(Y <= y | f), elementwise."""
        ...


@runtime_checkable
class Classifier(Likelihood, Protocol):
    """A likelihood whose targets are classes."""

    def probabilities(self, params: Params, f: Array) -> Array:
        """Class probabilities given f; the last axis is the class."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """y = f + noise, with one noise variance per output.

    Attributes:
        initial_var: Initial noise variance; exp(-2) in Cutajar et al. (2017).
    """

    initial_var: float = math.exp(-2.0)
    discrete = False

    def latents(self, outputs: int) -> int:
        return outputs

    def init(self, outputs: int) -> Params:
        return {"log_var": jnp.full((outputs,), math.log(self.initial_var))}

    def log_density(self, params: Params, f: Latents, y: Targets) -> PerPoint:
        return gaussians.log_density(y, f, params["log_var"]).sum(-1)

    def mean(self, params: Params, f: Latents) -> Outputs:
        return f

    def variance(self, params: Params, f: Latents) -> Outputs:
        return jnp.broadcast_to(jnp.exp(params["log_var"]), f.shape)

    def cdf(self, params: Params, f: Latents, y: Targets) -> Outputs:
        return ndtr((y - f) * jnp.exp(-0.5 * params["log_var"]))


@dataclass(frozen=True)
class StudentT:
    """y = f + scale * t, robust to outliers; one scale per output, fixed degrees of freedom.

    Attributes:
        degrees: Degrees of freedom: even, so that the distribution function is a short sum, and
            above 2, so that the variance exists.
        initial_var: Initial variance of the noise.
    """

    degrees: int = 4
    initial_var: float = math.exp(-2.0)
    discrete = False

    def __post_init__(self) -> None:
        if self.degrees < 4 or self.degrees % 2:
            raise ValueError(f"degrees must be even and at least 4, got {self.degrees}")

    def latents(self, outputs: int) -> int:
        return outputs

    def init(self, outputs: int) -> Params:
        scale2 = self.initial_var * (self.degrees - 2.0) / self.degrees
        return {"log_scale": jnp.full((outputs,), 0.5 * math.log(scale2))}

    def log_density(self, params: Params, f: Latents, y: Targets) -> PerPoint:
        nu = self.degrees
        z = (y - f) * jnp.exp(-params["log_scale"])
        constant = gammaln(0.5 * (nu + 1)) - gammaln(0.5 * nu) - 0.5 * jnp.log(nu * jnp.pi)
        log_p = constant - params["log_scale"] - 0.5 * (nu + 1) * jnp.log1p(z**2 / nu)
        return log_p.sum(-1)

    def mean(self, params: Params, f: Latents) -> Outputs:
        return f

    def variance(self, params: Params, f: Latents) -> Outputs:
        variance = jnp.exp(2.0 * params["log_scale"]) * self.degrees / (self.degrees - 2.0)
        return jnp.broadcast_to(variance, f.shape)

    def cdf(self, params: Params, f: Latents, y: Targets) -> Outputs:
        z = (y - f) * jnp.exp(-params["log_scale"])
        # Abramowitz and Stegun (1964), 26.7.4: a sum over even powers of a cosine.
        cos2 = self.degrees / (self.degrees + z**2)
        term = total = jnp.ones_like(z)
        for n in range(2, self.degrees - 1, 2):
            term = term * cos2 * (n - 1) / n
            total = total + term
        return 0.5 + 0.5 * z * jax.lax.rsqrt(self.degrees + z**2) * total


@dataclass(frozen=True)
class Poisson:
    """Counts with rate exp(f)."""

    discrete = True

    def latents(self, outputs: int) -> int:
        return outputs

    def init(self, outputs: int) -> Params:
        return {}

    def log_density(self, params: Params, f: Latents, y: Targets) -> PerPoint:
        return (y * f - jnp.exp(f) - gammaln(y + 1.0)).sum(-1)

    def mean(self, params: Params, f: Latents) -> Outputs:
        return jnp.exp(f)

    def variance(self, params: Params, f: Latents) -> Outputs:
        return jnp.exp(f)

    def cdf(self, params: Params, f: Latents, y: Targets) -> Outputs:
        whole = jnp.floor(y)
        return jnp.where(whole < 0, 0.0, gammaincc(jnp.maximum(whole, 0.0) + 1.0, jnp.exp(f)))


@dataclass(frozen=True)
class Bernoulli:
    """Two classes from one latent: P(y = 1 | f) = 1 / (1 + exp(-f))."""

    discrete = True

    def latents(self, outputs: int) -> int:
        if outputs != 2:
            raise ValueError(f"a Bernoulli likelihood has 2 classes, got {outputs}")
        return 1

    def init(self, outputs: int) -> Params:
        return {}

    def log_density(self, params: Params, f: Latents, y: Shaped[Array, " points"]) -> PerPoint:
        sign = 2.0 * y - 1.0
        return jax.nn.log_sigmoid(sign * f[..., 0])

    def mean(self, params: Params, f: Latents) -> Outputs:
        return jax.nn.sigmoid(f)

    def variance(self, params: Params, f: Latents) -> Outputs:
        p = jax.nn.sigmoid(f)
        return p * (1.0 - p)

    def probabilities(self, params: Params, f: Latents) -> Probabilities:
        return jnp.concatenate([jax.nn.sigmoid(-f), jax.nn.sigmoid(f)], axis=-1)


@dataclass(frozen=True)
class Categorical:
    """Several classes, by the softmax of one latent per class."""

    discrete = True

    def latents(self, outputs: int) -> int:
        return outputs

    def init(self, outputs: int) -> Params:
        return {}

    def log_density(self, params: Params, f: Latents, y: Shaped[Array, " points"]) -> PerPoint:
        log_p = jax.nn.log_softmax(f)
        one_hot = jax.nn.one_hot(y, f.shape[-1], dtype=f.dtype)
        return (log_p * one_hot).sum(-1)

    def mean(self, params: Params, f: Latents) -> Outputs:
        return jax.nn.softmax(f)

    def variance(self, params: Params, f: Latents) -> Outputs:
        p = jax.nn.softmax(f)
        return p * (1.0 - p)

    def probabilities(self, params: Params, f: Latents) -> Probabilities:
        return jax.nn.softmax(f)
