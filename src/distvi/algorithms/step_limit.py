"""Step limit: an update is shortened by how far the parameters moved while it was computed.

Steps of a usual size that all go one way while a gradient is computed, tau of them, are what
makes stale gradients unstable: the step size must fall as 1 / tau. So the optimizer's update of
each entry, whatever the optimizer, is multiplied by::

    f = min(1, limit / d),   d = |w - w_then| / C

with C the running mean of the size of the entry's steps as they were made. Where tau steps went
one way d is tau; where they went back and forth it is less, and less is lost than a rate of 1 / tau
would cost. A smaller gradient would not do: an optimizer such as Adam divides by its usual size.
Of several contributions the mean of f counts. With a staleness of zero nothing changes.

References:
    Giladi et al. (2019), At stability's edge: how to adjust hyperparameters to preserve minima
    selection in asynchronous training, for the steps that a delay allows; Barkai, Hakimi, Schuster
    (2020), Gap-aware mitigation of gradient staleness, for distances in steps.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from pydantic import Field

from distvi.algorithms.base import (
    Combined,
    Delivery,
    Keep,
    Part,
    Scalar,
    ServerRule,
)
from distvi.algorithms.draft import Draft, Sent
from distvi.algorithms.running import StepState, mean_of, moved, running, steps_apart
from distvi.system.settings import Settings


class StepLimitSettings(Settings):
    """Updates are shortened by how far the parameters moved while they were computed."""

    limit: float = Field(default=1.0, gt=0)
    """Steps one way that the parameters may have moved before an update is shortened."""

    step_decay: float = Field(default=0.99, ge=0, lt=1)
    """Share of a usual step's running mean that an update leaves."""


class Limited(NamedTuple):
    """What contributions come to, and how much of the update is made.

    Attributes:
        combined: By the rule within.
        share: Of each entry's update, in (0, 1].
    """

    combined: Combined
    share: Part


def step_limited(limit: float, step_decay: float) -> Callable[[ServerRule], ServerRule]:
    """Shorten the updates of another rule.

    Args:
        limit: Steps that an entry may have moved before its update is shortened.
        step_decay: Of the running mean of steps, in [0, 1).
    """

    def wrap(rule: ServerRule) -> ServerRule:
        def init(part: Part) -> StepState:
            return StepState(rule.init(part), running(part))

        def combine(part: Part, state: StepState, deliveries: Sequence[Delivery]) -> Limited:
            step = state.step.mean
            shares = [
                jax.tree.map(
                    lambda steps: limit / jnp.maximum(steps, limit),
                    steps_apart(part, each.base, step),
                )
                for each in deliveries
            ]
            return Limited(rule.combine(part, state.inner, deliveries), mean_of(shares))

        def update(
            part: Part, state: StepState, limited: Limited, rate: Scalar
        ) -> tuple[Part, StepState]:
            full, inner = rule.update(part, state.inner, limited.combined, rate)
            # Backwards from the full step, so that a share of one leaves it as it is.
            new = jax.tree.map(
                lambda end, start, share: end - (1 - share) * (end - start),
                full,
                part,
                limited.share,
            )
            return new, StepState(inner, state.step.after(moved(new, part), step_decay))

        return rule._replace(init=init, combine=combine, update=update, keeps=Keep.BASE)

    return wrap


def wrap(settings: StepLimitSettings, draft: Draft) -> Draft:
    """See `distvi.algorithms.registry`."""
    draft.takes("step-limit", Sent.GRADIENT, Sent.LIKELIHOOD, Sent.DISTANCE)
    server = step_limited(settings.limit, settings.step_decay)(draft.server)
    return draft._replace(server=server)
