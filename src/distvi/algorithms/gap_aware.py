"""Gap-aware: a stale gradient counts the less, the further the parameters have moved since.

The gap G of an entry is how far it has moved since the gradient's parameters, in units of C, the
running mean of the size of its steps; the gradient is divided by it::

    g / G,   G = 1 + |w - w_then| / C

It is the distance that counts, not the number of updates: a gradient that is late by many small
steps, or by steps back and forth, is still good. With a staleness of zero nothing changes.

An optimizer that divides by the size of its gradients, such as Adam, follows a smaller scale after
a while. With it the rule weighs contributions against each other, and ``step_limit.py`` has what
shortens steps.

References:
    Barkai, Hakimi, Schuster (2020), Gap-aware mitigation of gradient staleness.
"""

from collections.abc import Callable, Sequence

import jax
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
from distvi.algorithms.running import StepState, moved, running, steps_apart
from distvi.system.settings import Settings


class GapAwareSettings(Settings):
    """Stale gradients count the less, the further the parameters have moved since."""

    step_decay: float = Field(default=0.99, ge=0, lt=1)
    """Share of a usual step's running mean that an update leaves."""


def gap_aware(step_decay: float) -> Callable[[ServerRule], ServerRule]:
    """Divide every contribution by its gap before another rule has it.

    Args:
        step_decay: Of the running mean of steps, in [0, 1).
    """

    def wrap(rule: ServerRule) -> ServerRule:
        def init(part: Part) -> StepState:
            return StepState(rule.init(part), running(part))

        def combine(part: Part, state: StepState, deliveries: Sequence[Delivery]) -> Combined:
            step = state.step.mean

            def reduced(each: Delivery) -> Delivery:
                gaps = steps_apart(part, each.base, step)
                payload = jax.tree.map(lambda g, gap: g / (1 + gap), each.payload, gaps)
                return each._replace(payload=payload)

            return rule.combine(part, state.inner, [reduced(each) for each in deliveries])

        def update(
            part: Part, state: StepState, combined: Combined, rate: Scalar
        ) -> tuple[Part, StepState]:
            new, inner = rule.update(part, state.inner, combined, rate)
            return new, StepState(inner, state.step.after(moved(new, part), step_decay))

        return rule._replace(init=init, combine=combine, update=update, keeps=Keep.BASE)

    return wrap


def wrap(settings: GapAwareSettings, draft: Draft) -> Draft:
    """See `distvi.algorithms.registry`."""
    draft.takes("gap-aware", Sent.GRADIENT, Sent.LIKELIHOOD, Sent.DISTANCE)
    return draft._replace(server=gap_aware(settings.step_decay)(draft.server))
