"""From settings and a task to a model."""

from collections.abc import Callable
from typing import Literal

from distvi.errors import InputError
from distvi.models.base import Model
from distvi.models.bayesian_network import BayesianNetwork
from distvi.models.deep_gp import DeepGP
from distvi.models.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    Likelihood,
    Poisson,
    StudentT,
)
from distvi.models.settings import BayesianNetworkSettings, DeepGPSettings

Task = Literal["regression", "classification", "count"]

_SUITABLE = {
    "regression": ("gaussian", "student_t"),
    "classification": ("categorical", "bernoulli"),
    "count": ("poisson", "gaussian", "student_t"),
}


def build_model(
    settings: DeepGPSettings | BayesianNetworkSettings,
    *,
    inputs: int,
    outputs: int,
    task: Task,
    seed: int = 0,
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
    likelihood = build_likelihood(settings, outputs=outputs, task=task)
    if isinstance(settings, BayesianNetworkSettings):
        return BayesianNetwork(inputs, outputs, likelihood, settings)
    return DeepGP(inputs, outputs, likelihood, settings, seed)


def build_likelihood(
    settings: DeepGPSettings | BayesianNetworkSettings, *, outputs: int, task: Task
) -> Likelihood:
    """The observation model named in the settings, or the task's usual one for ``auto``.

    Raises:
        InputError: the likelihood does not suit the task, or the number of classes.
    """
    name = settings.likelihood
    if name == "auto":
        name = _SUITABLE[task][0]
    if name not in _SUITABLE[task]:
        suitable = ", ".join(_SUITABLE[task])
        raise InputError(f"model.likelihood: '{name}' does not suit {task}; use one of {suitable}")
    if name == "bernoulli" and outputs != 2:
        raise InputError(
            f"model.likelihood: 'bernoulli' is for 2 classes and the data have {outputs}; "
            "use 'categorical'"
        )
    makers: dict[str, Callable[[], Likelihood]] = {
        "gaussian": lambda: Gaussian(settings.initial_noise_var),
        "student_t": lambda: StudentT(initial_var=settings.initial_noise_var),
        "poisson": Poisson,
        "bernoulli": Bernoulli,
        "categorical": Categorical,
    }
    return makers[name]()
