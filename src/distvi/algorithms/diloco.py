"""DiLoCo: local steps, and Nesterov's momentum on the servers.

Workers make H steps by themselves and contribute the distance d that they went, as in
`distvi.algorithms.local_steps`. Servers take the mean of the distances for a gradient, and follow
it with momentum::

    m <- beta m + d;   w <- w - rate * (beta m + d)

Where workers contribute one by one, momentum at every contribution would add distances up that
were gone side by side, from about the same parameters, and go too far. *Delayed Nesterov* refreshes
it only with every N-th contribution, and makes a plain step of 1/N with each of the others. With
the contributions d_1, ..., d_N since the last time::

    w <- w - rate * d_i / N                                      for i < N
    m <- beta m + (d_1 + ... + d_N) / N
    w <- w - rate * (beta m + d_N / N)                           for i = N

which comes to one step of DiLoCo along their mean, made in N pieces. The published algorithm has a
choice besides, c from 0 to 1/N: the share of the momentum's step that each of the N pieces makes
with the momentum as it is. Here c is 0, the authors' default; so m is not read before it is
complete, and serves to collect the distances as well.

N is the number of updates in which each worker contributes once: that of the workers under
asynchronous schemes, and 1 in lockstep, where it is DiLoCo as published.

Distances that were begun a round ago bear less momentum. Where local steps go a share k of the way
to the optimum of a quadratic, and workers contribute in turn, a momentum of 0.9 is stable for
``rate * k`` below 1.36 in lockstep, 0.76 with 4 workers and 0.57 with 8: if asynchronous workers
diverge, less momentum is the remedy.

References:
    Douillard et al. (2023), DiLoCo: distributed low-communication training of language models,
    algorithm 1; Liu et al. (2024), Asynchronous local-SGD training for language modeling,
    algorithm 3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int32
from pydantic import Field

from distvi.algorithms.base import Part
from distvi.algorithms.draft import Draft
from distvi.algorithms.local_steps import with_local_steps
from distvi.system.settings import Settings


class DiLoCoSettings(Settings):
    """Workers make several steps by themselves; servers add the mean distance with momentum."""

    steps: int = Field(default=10, gt=0)
    """Batches that a worker consumes between two contributions; 500 as published."""

    outer_rate: float = Field(default=0.7, gt=0)
    """Learning rate of the servers."""

    outer_momentum: float = Field(default=0.9, ge=0, lt=1)
    """Nesterov momentum of the servers, beta."""


class DelayedTrace(NamedTuple):
    """State of `delayed_trace`.

    Attributes:
        seen: Contributions since the momentum was refreshed, from 0 to N - 1.
        momentum: With what has come since, once any has.
    """

    seen: Int32[Array, ""]
    momentum: Part


def delayed_trace(decay: float, every: int) -> optax.GradientTransformation:
    """Nesterov's momentum of sums of ``every`` updates; ``optax.trace`` where that is 1.

    Args:
        decay: Beta.
        every: N.
    """

    def init(params: Part) -> DelayedTrace:
        return DelayedTrace(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(
        updates: Part, state: optax.OptState, params: Part | None = None
    ) -> tuple[Part, optax.OptState]:
        assert isinstance(state, DelayedTrace)
        is_first, is_last = state.seen == 0, state.seen == every - 1
        kept = jnp.where(is_first, decay, 1.0)
        momentum = jax.tree.map(lambda d, m: d + kept * m, updates, state.momentum)
        updates = jax.tree.map(lambda d, m: jnp.where(is_last, d + decay * m, d), updates, momentum)
        return updates, DelayedTrace(jnp.where(is_last, 0, state.seen + 1), momentum)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def delayed_nesterov(rate: float, momentum: float, every: int) -> optax.GradientTransformation:
    """Stochastic gradient descent with delayed Nesterov momentum.

    ``optax.sgd(rate, momentum, nesterov=True)`` where ``every`` is 1.

    Args:
        rate: Learning rate.
        momentum: Beta, in [0, 1).
        every: Contributions for which the momentum is refreshed once, N.
    """
    return optax.chain(
        optax.scale(1 / every),
        delayed_trace(momentum, every),
        optax.scale_by_learning_rate(rate),
    )


def wrap(settings: DiLoCoSettings, draft: Draft) -> Draft:
    """See `distvi.algorithms.registry`."""
    every = max(1, round(1 / draft.requests_per_update))
    outer = delayed_nesterov(settings.outer_rate, settings.outer_momentum, every)
    return with_local_steps(draft, "diloco", settings.steps, outer)
