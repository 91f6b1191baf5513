"""What a model is: any object with ``init``, an ELBO, and perhaps ``predict``."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float, Shaped, UInt32

from distvi.errors import InputError
from distvi.models.predictive import Predictive
from distvi.system.settings import KindSettings

Params = Any
"""A pytree (nested dicts) of float32 arrays."""


class ModelSettings(KindSettings):
    """Settings of a kind of model."""

    def suited_to(self, inputs_rms: float) -> "ModelSettings":
        """With what the data decide, where it was left open.

        Args:
            inputs_rms: Root mean square of the inputs, as the model sees them.
        """
        return self


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batch:
    """A mini-batch (a JAX pytree), as a model sees it: standardized inputs and targets.

    Attributes:
        x: Inputs.
        y: Targets: float (batch, outputs) for regression and counts, class numbers (batch,) else.
        index: Position of every example in the training set; its noise is drawn from it.
    """

    x: Float[Array, "batch inputs"]
    y: Shaped[Array, "batch ..."]
    index: UInt32[Array, " batch"]


@runtime_checkable
class Trainable(Protocol):
    """A stochastic ELBO as a pure function of the parameters: what training needs of a model.

    A model may also have ``freeze_until(params)``: a pytree like ``params`` of update numbers
    before which each parameter keeps its initial value; and ``divergence(params)``: that part of
    ``neg_elbo`` which needs no data, the KL in nats, for the rules that treat it apart.
    """

    def init(self, key: Array) -> Params:
        """Initial parameters."""
        ...

    def neg_elbo(self, params: Params, batch: Batch, key: Array, n_data: int) -> Float[Array, ""]:
        """Estimate of the negative evidence lower bound of the whole training set, in nats.

        Args:
            params: As ``init`` gives them.
            batch: Examples drawn from the training set.
            key: The step's key; the same on every worker of a step.
            n_data: Number of examples in the training set.
        """
        ...


@runtime_checkable
class Model(Trainable, Protocol):
    """A stochastic ELBO and its predictions, as pure functions of the parameters.

    Nothing else of distvi knows more of a model than this. One's own, given as
    ``distvi.train(model=...)``, may have ``loss(params, batch, key)`` in the place of ``neg_elbo``
    (whose fields know the number of examples, if it needs that), and is not tested if it has no
    ``predict``.
    """

    def predict(
        self, params: Params, x: Float[Array, "points inputs"], key: Array, samples: int
    ) -> Predictive:
        """Predictive distribution at ``x``: a mixture over Monte Carlo samples."""
        ...


@runtime_checkable
class Drawn(Trainable, Protocol):
    """A model with numbers that are drawn once from the run's seed, and stay.

    Runs whose models differ in these alone can share what is compiled, for programs take them as an
    argument.
    """

    @property
    def seed(self) -> int:
        """Of its draws."""
        ...

    def draw(self, seed: Array) -> Any:
        """The numbers of a seed: a tree of arrays; pure."""
        ...

    def with_draws(self, draws: Any) -> "Drawn":
        """The model with these."""
        ...


def neg_elbo(
    expected_log_likelihood: Float[Array, " batch"], divergence: Float[Array, ""], n_data: int
) -> Float[Array, ""]:
    """``KL - n_data / batch * sum(E[log p(y | f)])``: the one place that scales a mini-batch.

    References:
        Hoffman et al. (2013), section 2.3; Cutajar et al. (2017), equation 12.

    Raises:
        InputError: the log likelihoods are not one number for each example.
    """
    if expected_log_likelihood.ndim != 1:
        raise InputError(
            f"the expected log likelihoods have shape {expected_log_likelihood.shape}; they should "
            "be one number for each example of the batch, summed over the target's columns"
        )
    return divergence - n_data * expected_log_likelihood.mean()
