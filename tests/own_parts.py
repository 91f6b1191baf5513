"""Parts of runs as users write them: models, an optimizer, rules, a scheme, a script."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from pydantic import Field

from distvi.aggregation import schemes
from distvi.algorithms.draft import Draft
from distvi.models import Batch, Predictive
from distvi.models.likelihoods import Gaussian
from distvi.protocol import Scheme
from distvi.system.settings import Settings


def double(f: jax.Array) -> jax.Array:
    """A function of a module, as a field of a model."""
    return 2.0 * f


@dataclass(frozen=True)
class Line:
    """Bayesian linear regression with a loss alone: it trains and is not tested."""

    inputs: int
    n_data: int = 54
    transform: Callable[[jax.Array], jax.Array] = double

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Mean and log variance of the weights."""
        w = 0.1 * jax.random.normal(key, (self.inputs, 1))
        return {"mean": {"w": w}, "log_var": {"w": jnp.full((self.inputs, 1), -4.0)}}

    def loss(self, params: dict[str, Any], batch: Batch, key: jax.Array) -> jax.Array:
        """The negative ELBO with one draw of the weights."""
        mean, log_var = params["mean"]["w"], params["log_var"]["w"]
        w = mean + jnp.exp(0.5 * log_var) * jax.random.normal(key, mean.shape)
        divergence = 0.5 * (mean**2 + jnp.exp(log_var) - log_var).sum()
        misfit = (batch.y - self.transform(batch.x @ w)) ** 2
        return divergence + self.n_data * misfit.sum(1).mean()


@dataclass(frozen=True)
class TestedLine(Line):
    """The same with predictions."""

    __test__ = False  # for pytest: it is none

    def predict(
        self, params: dict[str, Any], x: jax.Array, key: jax.Array, samples: int
    ) -> Predictive:
        """A mixture over draws of the weights."""
        mean, log_var = params["mean"]["w"], params["log_var"]["w"]
        noise = jax.random.normal(key, (samples, *mean.shape))
        w = mean[None] + jnp.exp(0.5 * log_var)[None] * noise
        f = self.transform(jnp.einsum("pi,sio->spo", x, w))
        return Predictive(f, {"log_var": jnp.zeros(1)}, Gaussian())


class PlainLine(TestedLine):
    """A class whose fields no dataclass has declared."""

    def __init__(self, inputs: int) -> None:
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "n_data", 54)
        object.__setattr__(self, "transform", double)


class Rows(Line):
    """Mistakes a column of targets for a row."""

    def loss(self, params: dict[str, Any], batch: Batch, key: jax.Array) -> jax.Array:
        """A matrix of each example against every other, to JAX."""
        return ((batch.y - (batch.x @ params["mean"]["w"])[:, 0]) ** 2).mean()


class Vector(Line):
    """Forgets to sum."""

    def loss(self, params: dict[str, Any], batch: Batch, key: jax.Array) -> jax.Array:
        """One number for each example."""
        return ((batch.y - batch.x @ params["mean"]["w"]) ** 2).sum(1)


def clipped(rates: optax.Schedule, limit: float = 1.0) -> optax.GradientTransformation:
    """An optimizer of one's own, which treats parameters by their names."""

    def labels(params: Any) -> Any:
        return {name: jax.tree.map(lambda _, n=name: n, part) for name, part in params.items()}

    by_name: dict[Hashable, optax.GradientTransformation] = {
        "mean": optax.sgd(rates),
        "log_var": optax.sgd(lambda count: 0.1 * rates(count)),
    }
    return optax.chain(optax.clip(limit), optax.multi_transform(by_name, labels))


def lockstep() -> Scheme:
    """A scheme of one's own."""
    return schemes.sync()


class ShrinkSettings(Settings):
    """A rule of one's own: the servers get only a share of each gradient."""

    share: float = Field(default=0.5, gt=0)

    def wrap(self, draft: Draft) -> Draft:
        """See `distvi.algorithms.registry`."""
        rule = draft.worker

        def work(*args: Any) -> Any:
            done = rule.work(*args)
            return done._replace(payload=jax.tree.map(lambda g: self.share * g, done.payload))

        return draft._replace(worker=rule._replace(work=work))


def arrays(rows: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (rows, 2) and targets (rows,) of a line with noise."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(rows, 2))
    return x, x @ [2.0, -1.0] + 0.1 * rng.normal(size=rows)


def labels(rows: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (rows, 2) and class numbers (rows,)."""
    x, y = arrays(rows)
    return x, (y > 0).astype(np.int64)


def line_of_two() -> TestedLine:
    """A function that makes a model."""
    return TestedLine(2)
