"""Families of models by kind: the settings of each, and what builds it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from distvi.models.base import Model
from distvi.models.bayesian_network import BayesianNetwork, BayesianNetworkSettings
from distvi.models.deep_gp import DeepGP, DeepGPSettings
from distvi.models.likelihoods import Likelihood, Task, likelihood_named
from distvi.models.sampled import SampledSettings


class ModelFamily(NamedTuple):
    """A kind of model.

    Attributes:
        settings: The class of its settings.
        build: ``build(settings, inputs, outputs, likelihood, seed)``; the seed is of all that is
            drawn once and stays.
    """

    settings: type[SampledSettings]
    build: Callable[[Any, int, int, Likelihood, int], Model]


def _deep_gp(
    settings: DeepGPSettings, inputs: int, outputs: int, likelihood: Likelihood, seed: int
) -> Model:
    return DeepGP(inputs, outputs, likelihood, settings, seed)


def _bayesian_network(
    settings: BayesianNetworkSettings, inputs: int, outputs: int, likelihood: Likelihood, seed: int
) -> Model:
    return BayesianNetwork(inputs, outputs, likelihood, settings)


MODELS: Mapping[str, ModelFamily] = {
    "deep_gp": ModelFamily(DeepGPSettings, _deep_gp),
    "bayesian_network": ModelFamily(BayesianNetworkSettings, _bayesian_network),
}

DEFAULT_MODEL = "deep_gp"


def build_model(
    settings: SampledSettings, *, inputs: int, outputs: int, task: Task, seed: int = 0
) -> Model:
    """The model that the settings describe, for data of the given shape.

    Args:
        settings: The ``[model]`` table.
        inputs: Number of input columns.
        outputs: Number of target columns, or of classes.
        task: What the targets are.
        seed: Of the fixed spectral draws.

    Raises:
        InputError: the likelihood does not suit the task, or the number of classes.
    """
    likelihood = likelihood_named(
        settings.likelihood, task=task, outputs=outputs, noise_var=settings.initial_noise_var
    )
    return MODELS[settings.kind].build(settings, inputs, outputs, likelihood, seed)
