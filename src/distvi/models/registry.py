"""Families of models by kind: the settings of each, and what builds it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from distvi.models.base import ModelSettings, Trainable
from distvi.models.bayesian_network import BayesianNetwork, BayesianNetworkSettings
from distvi.models.deep_gp import DeepGP, DeepGPSettings
from distvi.models.likelihoods import Likelihood, Task, likelihood_named
from distvi.models.own import OwnModelSettings, as_model
from distvi.models.sampled import SampledSettings
from distvi.system.names import OWN


class ModelFamily(NamedTuple):
    """A kind of model.

    Attributes:
        settings: The class of its settings.
        build: ``build(settings, inputs, outputs, task, seed)``; the seed is of all that is drawn
            once and stays.
    """

    settings: type[ModelSettings]
    build: Callable[[Any, int, int, Task, int], Trainable]


def _deep_gp(
    settings: DeepGPSettings, inputs: int, outputs: int, task: Task, seed: int
) -> Trainable:
    return DeepGP(inputs, outputs, _likelihood(settings, outputs, task), settings, seed)


def _bayesian_network(
    settings: BayesianNetworkSettings, inputs: int, outputs: int, task: Task, seed: int
) -> Trainable:
    return BayesianNetwork(inputs, outputs, _likelihood(settings, outputs, task), settings)


def _likelihood(settings: SampledSettings, outputs: int, task: Task) -> Likelihood:
    return likelihood_named(
        settings.likelihood, task=task, outputs=outputs, noise_var=settings.initial_noise_var
    )


def _own(settings: OwnModelSettings, inputs: int, outputs: int, task: Task, seed: int) -> Trainable:
    return as_model(settings.made_again())


MODELS: Mapping[str, ModelFamily] = {
    "deep_gp": ModelFamily(DeepGPSettings, _deep_gp),
    "bayesian_network": ModelFamily(BayesianNetworkSettings, _bayesian_network),
    OWN: ModelFamily(OwnModelSettings, _own),
}

DEFAULT_MODEL = "deep_gp"


def build_model(
    settings: ModelSettings, *, inputs: int, outputs: int, task: Task, seed: int = 0
) -> Any:
    """The model that the settings describe, for data of the given shape.

    Args:
        settings: The ``[model]`` table.
        inputs: Number of input columns.
        outputs: Number of target columns, or of classes.
        task: What the targets are.
        seed: Of the fixed spectral draws.

    Raises:
        InputError: the likelihood does not suit the task, or the number of classes; or a model of
            one's own cannot be made again.
    """
    return MODELS[settings.kind].build(settings, inputs, outputs, task, seed)
