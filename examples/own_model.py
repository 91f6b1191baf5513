"""A model of one's own on worker and server processes: Bayesian linear regression.

Any object with ``init`` and an ELBO is a model. The worker processes import this file for the class
and make the object again of its fields, so what is run stands below ``if __name__ == "__main__"``.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

import distvi


@dataclass(frozen=True)
class BayesianLine:
    """Weights with a factorised normal posterior and a standard normal prior; noise of one.

    Attributes:
        inputs: Number of input columns.
        n_data: Number of training examples.
    """

    inputs: int
    n_data: int

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        """Initial parameters: any pytree of float32 arrays."""
        return {
            "mean": 0.1 * jax.random.normal(key, (self.inputs, 1)),
            "log_var": jnp.full((self.inputs, 1), -4.0),
        }

    def loss(self, params: dict[str, jax.Array], batch: distvi.Batch, key: jax.Array) -> jax.Array:
        """The negative ELBO of the whole training set, estimated from a batch."""
        mean, log_var = params["mean"], params["log_var"]
        divergence = 0.5 * (mean**2 + jnp.exp(log_var) - 1.0 - log_var).sum()
        weights = mean + jnp.exp(0.5 * log_var) * jax.random.normal(key, mean.shape)
        misfit = 0.5 * ((batch.y - batch.x @ weights) ** 2).sum(1)  # batch.y is (batch, outputs)
        return divergence + self.n_data * misfit.mean()


def careful_adam(rates: optax.Schedule, limit: float = 100.0) -> optax.GradientTransformation:
    """An optimizer of one's own: a function of the learning rates."""
    return optax.chain(optax.clip_by_global_norm(limit), optax.adam(rates))


def main() -> None:
    """Train on two workers and a server."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 3))
    y = x @ np.array([2.0, -1.0, 0.5]) + rng.normal(size=500)
    run = distvi.train(
        data=(x, y),
        test_fraction=0.2,
        model=BayesianLine(inputs=3, n_data=400),
        optimizer=distvi.by_name(f"{__file__}:careful_adam", limit=50.0),
        engine="local",
        workers=2,
        updates=200,
        batch_size=50,
    )
    print(f"{run.path}: {run.summary['neg_elbo_per_example']:.3f} nats per example")
    print("again: distvi.resume(run, data=(x, y))")


if __name__ == "__main__":
    main()
