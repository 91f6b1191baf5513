"""Mean-field Bayesian neural networks.

Every weight and bias has an independent normal posterior and a normal prior; the objective is the
same mini-batch ELBO as a deep GP's, by either estimator.

References:
    Blundell, Cornebise, Kavukcuoglu, Wierstra (2015), Weight Uncertainty in Neural Networks, ICML;
    Kingma, Salimans, Welling (2015) for local reparameterization.
"""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from pydantic import PositiveFloat, PositiveInt

from distvi.models.base import Params
from distvi.models.sampled import SampledModel, SampledSettings
from distvi.numerics.gaussians import kl_to_normal
from distvi.numerics.noise import example_noise

_ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "gelu": jax.nn.gelu}


class BayesianNetworkSettings(SampledSettings):
    """A mean-field Bayesian neural network."""

    kind: str = "bayesian_network"

    width: PositiveInt = 200

    activation: Literal["relu", "tanh", "gelu"] = "relu"
    """Nonlinearity of the hidden layers."""

    prior_var: PositiveFloat = 1.0
    """Prior variance of every weight, times its layer's inputs."""

    initial_weight_var: PositiveFloat = 1e-4
    """Initial variance of q(w)."""


@dataclass(frozen=True)
class BayesianNetwork(SampledModel):
    """A fully connected network with a factorised normal posterior over its weights.

    Attributes:
        settings: Layers, activation, prior, estimator, initial values.
    """

    settings: BayesianNetworkSettings = field(default_factory=BayesianNetworkSettings)

    @cached_property
    def layer_sizes(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of every layer, without the bias."""
        hidden = [self.settings.width] * self.settings.hidden_layers
        sizes = [self.inputs, *hidden, self.likelihood.latents(self.outputs)]
        return tuple(pairwise(sizes))

    def init(self, key: Array) -> Params:
        """Posterior means as He et al. (2015) initialise weights; biases are the last row."""
        params: Params = {"likelihood": self.likelihood.init(self.outputs)}
        for layer, (inputs, outputs) in enumerate(self.layer_sizes):
            draw = jax.random.normal(jax.random.fold_in(key, layer), (inputs, outputs))
            mean = jnp.concatenate([draw * np.sqrt(2.0 / inputs), jnp.zeros((1, outputs))])
            log_var = jnp.full(mean.shape, np.log(self.settings.initial_weight_var))
            params[f"layer_{layer}"] = {"mean": mean, "log_var": log_var}
        return params

    def divergence(self, params: Params) -> Float[Array, ""]:
        """KL of the posterior from the prior, in nats."""
        total = jnp.zeros(())
        for layer, (inputs, _) in enumerate(self.layer_sizes):
            prior_log_var = np.log(self.settings.prior_var / inputs)
            values = params[f"layer_{layer}"]
            total += kl_to_normal(values["mean"], values["log_var"], 0.0, float(prior_log_var))
        return total

    def _forward(
        self, params: Params, x: Array, index: Array, key: Array
    ) -> Float[Array, "points latents"]:
        hidden = x
        for layer, (_, outputs) in enumerate(self.layer_sizes):
            if layer:
                hidden = _ACTIVATIONS[self.settings.activation](hidden)
            layer_key = jax.random.fold_in(key, layer)
            mean, log_var = params[f"layer_{layer}"]["mean"], params[f"layer_{layer}"]["log_var"]
            if self.settings.estimator == "local":
                noise = example_noise(layer_key, index, outputs)
                var = _affine(hidden**2, jnp.exp(log_var))
                hidden = _affine(hidden, mean) + jnp.sqrt(var) * noise
            else:
                noise = jax.random.normal(layer_key, mean.shape)
                hidden = _affine(hidden, mean + jnp.exp(0.5 * log_var) * noise)
        return hidden


def _affine(x: Array, weights: Array) -> Array:
    """``[x, 1] @ weights``: the last row of the weights is the bias."""
    return x @ weights[:-1] + weights[-1:]
