"""Observation models p(y | f): log densities, moments and distribution functions.

Each is a frozen object. ``f`` has shape (..., latents) and a target's last axis is dropped for
Bernoulli and categorical likelihoods, whose targets are class numbers. ``LIKELIHOODS`` has all of
them by name, each with the tasks that it suits: one more likelihood is one more entry there.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.lax import broadcast_to_rank
from jax.scipy.special import gammaincc, gammaln, ndtr
from jaxtyping import Array, Float, Shaped
from pydantic import AfterValidator

from distvi.errors import InputError, nearest
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
        y, log_var = _as_samples(f, y, params["log_var"])
        return gaussians.log_density(y, f, log_var).sum(-1)

    def mean(self, params: Params, f: Latents) -> Outputs:
        return f

    def variance(self, params: Params, f: Latents) -> Outputs:
        return jnp.broadcast_to(jnp.exp(params["log_var"]), f.shape)

    def cdf(self, params: Params, f: Latents, y: Targets) -> Outputs:
        y, precision = _as_samples(f, y, jnp.exp(-0.5 * params["log_var"]))
        return ndtr((y - f) * precision)


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
        y, log_scale = _as_samples(f, y, params["log_scale"])
        z = (y - f) * jnp.exp(-log_scale)
        constant = gammaln(0.5 * (nu + 1)) - gammaln(0.5 * nu) - 0.5 * jnp.log(nu * jnp.pi)
        log_p = constant - log_scale - 0.5 * (nu + 1) * jnp.log1p(z**2 / nu)
        return log_p.sum(-1)

    def mean(self, params: Params, f: Latents) -> Outputs:
        return f

    def variance(self, params: Params, f: Latents) -> Outputs:
        variance = jnp.exp(2.0 * params["log_scale"]) * self.degrees / (self.degrees - 2.0)
        return jnp.broadcast_to(variance, f.shape)

    def cdf(self, params: Params, f: Latents, y: Targets) -> Outputs:
        y, log_scale = _as_samples(f, y, params["log_scale"])
        z = (y - f) * jnp.exp(-log_scale)
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
        (y,) = _as_samples(f, y)
        return (y * f - jnp.exp(f) - gammaln(y + 1.0)).sum(-1)

    def mean(self, params: Params, f: Latents) -> Outputs:
        return jnp.exp(f)

    def variance(self, params: Params, f: Latents) -> Outputs:
        return jnp.exp(f)

    def cdf(self, params: Params, f: Latents, y: Targets) -> Outputs:
        (y,) = _as_samples(f, y)
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
        f = f[..., 0]
        (sign,) = _as_samples(f, 2.0 * y.astype(f.dtype) - 1.0)
        return jax.nn.log_sigmoid(sign * f)

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
        (one_hot,) = _as_samples(f, jax.nn.one_hot(y, f.shape[-1], dtype=f.dtype))
        return (log_p * one_hot).sum(-1)

    def mean(self, params: Params, f: Latents) -> Outputs:
        return jax.nn.softmax(f)

    def variance(self, params: Params, f: Latents) -> Outputs:
        p = jax.nn.softmax(f)
        return p * (1.0 - p)

    def probabilities(self, params: Params, f: Latents) -> Probabilities:
        return jax.nn.softmax(f)


def _as_samples(f: Array, *values: Array) -> tuple[Array, ...]:
    """What all samples share, with axes of length one for those that ``f`` alone has."""
    return tuple(broadcast_to_rank(value, f.ndim) for value in values)


Task = Literal["regression", "classification", "count"]
"""What the targets are."""


class LikelihoodKind(NamedTuple):
    """A likelihood by name.

    Attributes:
        make: Makes it, given the initial variance of the noise, if it has any.
        suits: The tasks that it is for, each with its place among the likelihoods of that task:
            the first is the one that ``auto`` stands for.
        classes: The only number of classes that it can do; None: any.
    """

    make: Callable[[float], Likelihood]
    suits: Mapping[Task, int]
    classes: int | None = None


AUTO = "auto"
"""Stands for the likelihood that comes first for the task."""

LIKELIHOODS: Mapping[str, LikelihoodKind] = {
    "gaussian": LikelihoodKind(Gaussian, {"regression": 0, "count": 1}),
    "student_t": LikelihoodKind(
        lambda noise_var: StudentT(initial_var=noise_var), {"regression": 1, "count": 2}
    ),
    "poisson": LikelihoodKind(lambda _: Poisson(), {"count": 0}),
    "categorical": LikelihoodKind(lambda _: Categorical(), {"classification": 0}),
    "bernoulli": LikelihoodKind(lambda _: Bernoulli(), {"classification": 1}, classes=2),
}


def _known(name: str) -> str:
    if name != AUTO and name not in LIKELIHOODS:
        raise ValueError(f"unknown likelihood '{name}'{nearest(name, [AUTO, *LIKELIHOODS])}")
    return name


LikelihoodName = Annotated[str, AfterValidator(_known)]
"""A key of ``LIKELIHOODS``, or ``auto``."""


def likelihoods_for(task: Task) -> list[str]:
    """Names of the likelihoods that suit a task, the usual one first.

    Example:
        >>> likelihoods_for("count")
        ['poisson', 'gaussian', 'student_t']
    """
    suitable = [name for name, kind in LIKELIHOODS.items() if task in kind.suits]
    return sorted(suitable, key=lambda name: LIKELIHOODS[name].suits[task])


def likelihood_named(name: str, *, task: Task, outputs: int, noise_var: float) -> Likelihood:
    """The likelihood of a name, checked against the data.

    Args:
        name: Of ``LIKELIHOODS``, or ``auto``.
        task: What the targets are.
        outputs: Number of target columns, or of classes.
        noise_var: Initial variance of the noise, for a likelihood that has any.

    Raises:
        InputError: the likelihood does not suit the task, or the number of classes.
    """
    suitable = likelihoods_for(task)
    name = suitable[0] if name == AUTO else name
    if name not in suitable:
        raise InputError(
            f"model.likelihood: '{name}' does not suit {task}; use one of {', '.join(suitable)}"
        )
    kind = LIKELIHOODS[name]
    if kind.classes is not None and outputs != kind.classes:
        raise InputError(
            f"model.likelihood: '{name}' is for {kind.classes} classes and the data have "
            f"{outputs}; use '{suitable[0]}'"
        )
    return kind.make(noise_var)
