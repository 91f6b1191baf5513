"""Settings of the models: the ``[model]`` table of a configuration, validated.

``kind`` selects the model; every other key belongs to that kind. All defaults live here.
"""

from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from distvi.system.settings import Settings

KernelName = Literal["rbf", "matern12", "matern32", "matern52", "arccos0", "arccos1", "arccos2"]
LikelihoodName = Literal["auto", "gaussian", "student_t", "bernoulli", "categorical", "poisson"]
OmegaTreatment = Literal["prior_fixed", "var_fixed", "var_resampled"]
EstimatorName = Literal["local", "weights"]


class _Settings(Settings):
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


class DeepGPSettings(_Settings):
    """A deep Gaussian process with random feature expansions."""

    kind: Literal["deep_gp"] = "deep_gp"

    features: PositiveInt = 500
    """Random frequencies per layer."""

    kernel: KernelName = "rbf"
    """Covariance function of every layer."""

    ard: bool = True
    """One lengthscale per input of a layer, instead of one per layer."""

    omega: OmegaTreatment = "var_fixed"
    """``prior_fixed``: frequencies follow the prior, through the lengthscales alone;
    ``var_fixed``: q(Omega) is learnt, sampled with fixed standard draws;
    ``var_resampled``: q(Omega) is learnt, sampled anew in every step and sample."""

    orthogonal: bool = False
    """Orthogonal instead of independent frequencies."""

    feed_forward: bool = False
    """Append the inputs to every hidden layer's output."""

    freeze_omega: NonNegativeInt = 0
    """Updates for which q(Omega) keeps its initial value."""

    freeze_kernel: NonNegativeInt = 0
    """Updates for which kernel parameters and the likelihood's noise keep their initial values."""

    initial_weight_var: PositiveFloat = 0.01
    """Initial variance of q(W)."""

    initial_weight_spread: NonNegativeFloat = 0.5
    """Standard deviation of the initial means of the hidden layers' q(W). With 0, as the authors
    have it, all means start at zero, where no gradient but noise's tells the hidden GPs apart."""

    initial_lengthscale: PositiveFloat = 1.0
    """Initial lengthscales, as a multiple of the square root of the layer's inputs."""

    initial_noise_var: PositiveFloat = 0.1353352832366127
    """Initial noise variance of a regression, in standardized units; exp(-2) as the authors."""

    @model_validator(mode="after")
    def _orthogonal_draws_are_fixed(self) -> "DeepGPSettings":
        if self.orthogonal and self.omega == "var_resampled":
            raise ValueError(
                "orthogonal frequencies are fixed draws: use omega = 'prior_fixed' or 'var_fixed'"
            )
        return self


class BayesianNetworkSettings(_Settings):
    """A mean-field Bayesian neural network."""

    kind: Literal["bayesian_network"] = "bayesian_network"

    width: PositiveInt = 200

    activation: Literal["relu", "tanh", "gelu"] = "relu"
    """Nonlinearity of the hidden layers."""

    prior_var: PositiveFloat = 1.0
    """Prior variance of every weight, times its layer's inputs."""

    initial_weight_var: PositiveFloat = 1e-4
    """Initial variance of q(w)."""

    initial_noise_var: PositiveFloat = 0.1353352832366127
    """Initial noise variance of a regression, in standardized units."""


ModelSettings = Annotated[DeepGPSettings | BayesianNetworkSettings, Field(discriminator="kind")]
