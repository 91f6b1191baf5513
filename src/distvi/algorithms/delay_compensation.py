"""Delay compensation: a stale gradient is corrected for how far the parameters have moved since.

To first order the gradient at the present parameters w is ``g + H (w - w_then)``; the Hessian H is
replaced by lambda times the diagonal of the gradient's outer product with itself, which is had for
nothing::

    g + lambda * g * g * (w - w_then)

With a staleness of zero nothing changes.

References:
    Zheng et al. (2017), Asynchronous stochastic gradient descent with delay compensation,
    equation 10.
"""

from collections.abc import Callable, Sequence

import jax
from pydantic import Field

from distvi.algorithms.base import Delivery, Keep, Part, ServerRule, ServerState
from distvi.algorithms.draft import Draft, Sent
from distvi.system.settings import Settings


class DelayCompensationSettings(Settings):
    """Stale gradients are corrected for how far the parameters have moved since."""

    strength: float = Field(default=0.04, ge=0)
    """Lambda: how far the gradient's square is trusted to be the curvature."""


def delay_compensated(strength: float) -> Callable[[ServerRule], ServerRule]:
    """Correct every contribution before another rule applies it.

    Args:
        strength: Lambda, from 0 on; 0 corrects nothing.
    """

    def wrap(rule: ServerRule) -> ServerRule:
        def combine(part: Part, state: ServerState, deliveries: Sequence[Delivery]) -> Part:
            corrected = [
                each._replace(
                    payload=jax.tree.map(
                        lambda g, now, then: g + (strength * g * (now - then)) * g,
                        each.payload,
                        part,
                        each.base,
                    )
                )
                for each in deliveries
            ]
            return rule.combine(part, state, corrected)

        return rule._replace(combine=combine, keeps=Keep.BASE)

    return wrap


def wrap(settings: DelayCompensationSettings, draft: Draft) -> Draft:
    """See `distvi.algorithms.registry`."""
    draft.takes("delay-compensation", Sent.GRADIENT, Sent.LIKELIHOOD, Sent.DISTANCE)
    return draft._replace(server=delay_compensated(settings.strength)(draft.server))
