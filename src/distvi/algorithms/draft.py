"""An algorithm in the making, which the rules of a run change one after the other."""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import optax
from jaxtyping import Array

from distvi.algorithms.base import Params, ServerRule, WorkerRule
from distvi.errors import InputError


class Sent(StrEnum):
    """What a payload is, in words for messages: not every rule can go on from every other."""

    GRADIENT = "the gradient of the loss"
    LIKELIHOOD = "the gradient of the loss without its divergence"
    DISTANCE = "the distance of a worker's own steps"
    NATURAL = "changes of natural parameters"


class Draft(NamedTuple):
    """What a rule by name may change.

    Attributes:
        worker: What workers make of requests so far.
        server: What servers make of contributions so far.
        optimizer: From a number of steps for each update of the run, in the mean, to the optimizer
            that the run was asked for, with its learning rates and freezes over as many steps.
        requests_per_update: That a worker answers, in the mean: 1 in lockstep, 1 of n where each
            of n workers makes updates by itself.
        workers: That answer requests, each with a memory of its own: the number of those that the
            run begins with, however many are left. Devices that share one batch are one worker.
        divergence: The part of the loss that needs no data, the KL of the posterior from the prior
            in nats, for each of the parameters it is given; None: the model does not tell it apart.
        sent: What the payload is so far.
    """

    worker: WorkerRule
    server: ServerRule
    optimizer: Callable[[float], optax.GradientTransformation]
    requests_per_update: float = 1.0
    workers: int = 1
    divergence: Callable[[Params], Array] | None = None
    sent: Sent = Sent.GRADIENT

    def takes(self, rule: str, *kinds: Sent) -> None:
        """Check that a rule can go on from what the rules before it send.

        Args:
            rule: Its name.
            kinds: That it can go on from.

        Raises:
            InputError: it cannot.
        """
        if self.sent not in kinds:
            raise InputError(
                f"rule '{rule}' cannot work on {self.sent}, which the rules before it send; leave "
                "one of them out"
            )

    @property
    def contributions_per_update(self) -> int:
        """That make an update, while all workers are equally fast."""
        return round(self.requests_per_update * self.workers)

    def told_divergence(self, rule: str) -> Callable[[Params], Array]:
        """The divergence, for a rule that cannot do without.

        Args:
            rule: Its name.

        Raises:
            InputError: the model does not tell it.
        """
        if self.divergence is None:
            raise InputError(
                f"rule '{rule}' needs the KL apart from the rest of the loss: give the model "
                "divergence(params), or leave the rule out"
            )
        return self.divergence
