"""Delay compensation: a stale gradient is corrected for how far the parameters have moved since.

To first order the gradient at the present parameters w is ``g + H (w - w_then)``; in the place of
the Hessian H stands lambda times a diagonal that is had for nothing::

    g + lambda * c * (w - w_then)

The diagonal c, by name: ``gradient`` is g * g, the contribution's own square. ``adaptive`` is
g * g / sqrt(v), with v a running mean of the squares that the server keeps: it grows with the
gradients as a curvature does, not with their square, so lambda is a number without units. ``adam``
is the optimizer's own second moment, a mean of g * g over many updates.

With a staleness of zero nothing changes.

References:
    Zheng et al. (2017), Asynchronous stochastic gradient descent with delay compensation,
    equation 10, and section 4.2 for the adaptive lambda (DC-ASGD-a).
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from pydantic import Field

from distvi.algorithms.base import (
    Combined,
    Delivery,
    Keep,
    Part,
    Scalar,
    ServerRule,
    ServerState,
)
from distvi.algorithms.draft import Draft, Sent
from distvi.algorithms.running import Running, mean_of, running
from distvi.errors import InputError
from distvi.system.settings import Settings

_EPSILON = np.float32(1e-7)  # of the paper
_TINY = np.float32(np.finfo(np.float32).tiny)


STRENGTHS = {"gradient": 0.04, "adaptive": 2.0, "adam": 0.04}
"""Lambda by curvature; those of the paper, and for the second moment that of its own square."""


class DelayCompensationSettings(Settings):
    """Stale gradients are corrected for how far the parameters have moved since."""

    strength: float | None = Field(default=None, ge=0)
    """Lambda: how far that is trusted to be the curvature (default: 0.04; of adaptive: 2)."""

    curvature: Literal["gradient", "adaptive", "adam"] = "gradient"
    """gradient: its square; adaptive: that over the root of its mean; adam: the second moment."""

    square_decay: float = Field(default=0.95, ge=0, lt=1)
    """Adaptive: share of the running mean of squares that an update leaves."""


Wrap = Callable[[ServerRule], ServerRule]


def delay_compensated(strength: float) -> Wrap:
    """Correct every contribution by its own square before another rule has it.

    Args:
        strength: Lambda, from 0 on; 0 corrects nothing.
    """

    def wrap(rule: ServerRule) -> ServerRule:
        def combine(part: Part, state: ServerState, deliveries: Sequence[Delivery]) -> Combined:
            # Not g * g first, which may overflow where what comes of it does not.
            corrected = [
                _corrected(each, part, lambda g, moved: (strength * g * moved) * g)
                for each in deliveries
            ]
            return rule.combine(part, state, corrected)

        return rule._replace(combine=combine, keeps=Keep.BASE)

    return wrap


class AdaptiveState(NamedTuple):
    """What a server keeps.

    Attributes:
        inner: State of the rule within.
        square: Of the contributions, the mean square.
    """

    inner: ServerState
    square: Running


class Squared(NamedTuple):
    """What contributions come to, and their mean square.

    Attributes:
        combined: By the rule within.
        square: Of the contributions as they came.
    """

    combined: Combined
    square: Part


def adaptively_compensated(strength: float, decay: float) -> Wrap:
    """Correct every contribution by its square over the root of its mean square.

    Args:
        strength: Lambda_0 of the paper.
        decay: Of the running mean of squares, in [0, 1).
    """

    def wrap(rule: ServerRule) -> ServerRule:
        def init(part: Part) -> AdaptiveState:
            return AdaptiveState(rule.init(part), running(part))

        def combine(part: Part, state: AdaptiveState, deliveries: Sequence[Delivery]) -> Squared:
            corrected, squares = [], []
            for each in deliveries:
                squares.append(jax.tree.map(jnp.square, each.payload))
                square = state.square.after(squares[-1], decay).mean  # its own is in it already
                corrected.append(
                    _corrected(
                        each,
                        part,
                        lambda g, moved, v: (strength * g * moved) * (g / jnp.sqrt(v + _EPSILON)),
                        square,
                    )
                )
            return Squared(rule.combine(part, state.inner, corrected), mean_of(squares))

        def update(
            part: Part, state: AdaptiveState, squared: Squared, rate: Scalar
        ) -> tuple[Part, AdaptiveState]:
            part, inner = rule.update(part, state.inner, squared.combined, rate)
            return part, AdaptiveState(inner, state.square.after(squared.square, decay))

        return rule._replace(init=init, combine=combine, update=update, keeps=Keep.BASE)

    return wrap


class MomentState(NamedTuple):
    """What a server keeps.

    Attributes:
        inner: State of the rule within, the optimizer's among it.
        share: Of the newest square in the second moment: 1 - b2 of Adam.
        weight: Of all squares in it together: ``1 - b2 ** updates``.
    """

    inner: ServerState
    share: Float[Array, ""]
    weight: Float[Array, ""]


def compensated_by_moment(strength: float) -> Wrap:
    """Correct every contribution by the optimizer's second moment.

    That begins at zero, and grows to the mean of squares over some 1 / (1 - b2) updates; here it is
    divided by the weight of what it has seen, as the optimizer does. The state does not tell b2,
    but a trial does: from nothing, a gradient of one leaves a moment of 1 - b2 (less where the
    optimizer shrinks gradients first; early corrections are too large by as much).

    Args:
        strength: Lambda.

    Raises:
        InputError: when the rule begins: its optimizer keeps no second moment of each entry.
    """

    def wrap(rule: ServerRule) -> ServerRule:
        def init(part: Part) -> MomentState:
            state = rule.init(part)
            second_moment(state, part)
            trial = jax.tree.map(lambda leaf: jnp.ones((1,) * leaf.ndim, jnp.float32), part)
            delivery = Delivery(trial, 1.0, trial)
            tried, after = rule.apply(trial, rule.init(trial), [delivery], 1.0)
            moments = jax.tree.leaves(second_moment(after, tried))
            none = jnp.zeros((), jnp.float32)
            return MomentState(state, moments[0].reshape(()) if moments else none, none)

        def combine(part: Part, state: MomentState, deliveries: Sequence[Delivery]) -> Combined:
            weight = jnp.maximum(state.weight, _TINY)
            moment = jax.tree.map(lambda v: v / weight, second_moment(state.inner, part))
            corrected = [
                _corrected(each, part, lambda g, moved, v: strength * v * moved, moment)
                for each in deliveries
            ]
            return rule.combine(part, state.inner, corrected)

        def update(
            part: Part, state: MomentState, combined: Combined, rate: Scalar
        ) -> tuple[Part, MomentState]:
            part, inner = rule.update(part, state.inner, combined, rate)
            weight = state.weight + state.share * (1 - state.weight)
            return part, MomentState(inner, state.share, weight)

        return rule._replace(init=init, combine=combine, update=update, keeps=Keep.BASE)

    return wrap


def second_moment(state: ServerState, part: Part) -> Part:
    """The second moment of each entry of a part, as an optimizer of optax keeps it.

    Raises:
        InputError: there is none, or none of some entries.
    """
    try:
        found = optax.tree_utils.tree_get(state, "nu")
    except KeyError:  # several
        found = None
    is_whole = jax.tree.structure(found) == jax.tree.structure(part) and all(
        own.shape == leaf.shape
        for own, leaf in zip(jax.tree.leaves(found), jax.tree.leaves(part), strict=True)
    )
    if not is_whole:
        raise InputError(
            "rule 'delay-compensation' with curvature 'adam' needs an optimizer that keeps one "
            "second moment of every parameter, such as adam or rmsprop; use such a one, or "
            "curvature 'gradient' or 'adaptive'"
        )
    return found


def _corrected(
    delivery: Delivery, part: Part, correction: Callable[..., Array], *others: Part
) -> Delivery:
    """A contribution with ``correction(g, moved, *others)`` of each tensor added."""

    def corrected(g: Array, now: Array, then: Array, *own: Array) -> Array:
        return g + correction(g, now - then, *own)

    payload = jax.tree.map(corrected, delivery.payload, part, delivery.base, *others)
    return delivery._replace(payload=payload)


def wrap(settings: DelayCompensationSettings, draft: Draft) -> Draft:
    """See `distvi.algorithms.registry`."""
    kinds = [Sent.GRADIENT, Sent.DISTANCE]
    if settings.curvature != "adam":  # whose trial is of one entry: the KL is not told of such
        kinds.append(Sent.LIKELIHOOD)
    draft.takes("delay-compensation", *kinds)
    strength = STRENGTHS[settings.curvature] if settings.strength is None else settings.strength
    rules = {
        "gradient": delay_compensated(strength),
        "adaptive": adaptively_compensated(strength, settings.square_decay),
        "adam": compensated_by_moment(strength),
    }
    return draft._replace(server=rules[settings.curvature](draft.server))
