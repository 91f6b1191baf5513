"""What the models have in common whose ELBO is estimated by sampling their last layer's values."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from distvi.models.base import Batch, ModelSettings, Params, neg_elbo
from distvi.models.checks import check_log_density
from distvi.models.likelihoods import Likelihood, LikelihoodName
from distvi.models.predictive import Predictive

ROWS_IN_CACHE = 1000
"""Points times samples of a prediction that are computed at once: 500 features of each are 2 MB."""

EstimatorName = Literal["local", "weights"]


class SampledSettings(ModelSettings):
    """What the settings of these models have in common."""

    likelihood: LikelihoodName = "auto"
    """Observation model; ``auto`` follows from the task."""

    hidden_layers: NonNegativeInt = 2
    """Hidden layers (the authors' ``nl`` counts the last layer too: nl = hidden_layers + 1)."""

    width: PositiveInt = 50
    """GPs, or hidden units, per hidden layer."""

    estimator: EstimatorName = "local"
    """``local``: local reparameterization; ``weights``: one draw of the weights per sample."""

    samples: PositiveInt = 1
    """Monte Carlo samples of the training objective."""

    test_samples: PositiveInt = 50
    """Monte Carlo samples of predictions."""

    initial_noise_var: PositiveFloat = 0.1353352832366127
    """Initial noise variance of a regression, in standardized units; exp(-2) as the authors."""


@dataclass(frozen=True)
class SampledModel(ABC):
    """A likelihood on top of latent values of which the posterior gives samples.

    Attributes:
        inputs: Number of input columns.
        outputs: Number of target columns, or of classes.
        likelihood: The observation model.
        settings: Those of the kind of model.
    """

    inputs: int
    outputs: int
    likelihood: Likelihood
    settings: SampledSettings

    @abstractmethod
    def init(self, key: Array) -> Params:
        """Initial parameters."""

    @abstractmethod
    def divergence(self, params: Params) -> Float[Array, ""]:
        """KL of the posterior from the prior, in nats."""

    @abstractmethod
    def _forward(
        self, params: Params, x: Array, index: Array, key: Array
    ) -> Float[Array, "points latents"]:
        """One sample of the last layer's values."""

    def neg_elbo(self, params: Params, batch: Batch, key: Array, n_data: int) -> Float[Array, ""]:
        """Monte Carlo estimate of ``KL(q || p) - sum E_q[log p(y | f)]``, in nats.

        References:
            Cutajar et al. (2017), equation 12; Blundell et al. (2015), equation 2.
        """
        f = self._sample_latents(params, batch.x, batch.index, key, self.settings.samples)
        log_p = self.likelihood.log_density(params["likelihood"], f, batch.y)
        check_log_density(log_p, f)
        return neg_elbo(log_p.mean(0), self.divergence(params), n_data)

    def predict(
        self, params: Params, x: Float[Array, "points inputs"], key: Array, samples: int
    ) -> Predictive:
        """Predictive distribution at ``x`` as a mixture over ``samples`` draws of the model.

        The samples are those of `_sample_latents`, a few at a time. Their noise is drawn from
        (key, sample, row of ``x``): no two of a call share any.
        """
        index = jnp.arange(x.shape[0], dtype=jnp.uint32)
        f = self._sample_latents(params, x, index, key, samples, at_once=_in_cache(x, samples))
        return Predictive(f, params["likelihood"], self.likelihood)

    def _sample_latents(
        self,
        params: Params,
        x: Float[Array, "points inputs"],
        index: UInt32[Array, " points"],
        key: Array,
        samples: int,
        *,
        at_once: int | None = None,
    ) -> Float[Array, "samples points latents"]:
        """The last layer's values; what does not depend on the sample is computed once.

        ``vmap`` does that sharing: a value that no sample's key enters is not batched. Of a loop
        over samples XLA does it: a value that no round changes is computed before the first.

        Args:
            params: The parameters.
            x: Inputs.
            index: Of the points, for their noise.
            key: Of the noise.
            samples: How many.
            at_once: A divisor of them, how many a round of a loop computes; None: all, without a
                loop, as derivatives have it.
        """
        if samples == 1:  # XLA finds better layouts without a sample axis of length one
            return self._forward(params, x, index, jax.random.fold_in(key, 0))[None]
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(samples))

        def sample(key: Array) -> Array:
            return self._forward(params, x, index, key)

        if at_once is None or at_once == samples:
            return jax.vmap(sample)(keys)
        return jax.lax.map(sample, keys, batch_size=at_once if at_once > 1 else None)


def _in_cache(x: Array, samples: int) -> int:
    """How many samples to compute at once: on a CPU those whose features its caches hold."""
    if jax.default_backend() != "cpu":
        return samples
    most = max(1, ROWS_IN_CACHE // max(1, x.shape[0]))
    return max(n for n in range(1, min(most, samples) + 1) if samples % n == 0)
