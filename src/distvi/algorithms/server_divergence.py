"""The divergence on the servers: only the part of the gradient that needs data is ever stale.

The loss is a sum of two parts: the expected log likelihood, which only the workers can
differentiate, and the KL of the posterior from the prior, which needs no data. So workers send the
gradient of the first at the parameters w_then that they were sent, and the server adds that of the
second at its newest, w, for each contribution::

    g = grad(loss - KL)(w_then);    g + grad KL(w)

With a staleness of zero that is the gradient of the loss.

References:
    Peng, Zhe, Zhang, Qi (2017), Asynchronous distributed variational Gaussian process for
    regression, where servers take the KL's part of every step, a proximal one.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from distvi.algorithms.base import (
    Batches,
    Delivery,
    Keep,
    Memory,
    Params,
    Part,
    ServerRule,
    ServerState,
    Work,
    WorkerRule,
)
from distvi.algorithms.draft import Draft, Sent
from distvi.errors import InputError
from distvi.system.settings import Settings

NAME = "server-divergence"


class ServerDivergenceSettings(Settings):
    """Servers add the KL's gradient at their newest parameters; workers leave it out."""


def without_divergence(
    divergence: Callable[[Params], Array],
) -> Callable[[WorkerRule], WorkerRule]:
    """Take the gradient of the divergence out of the gradient of the loss.

    It is the very computation that the loss's own gradient contains, so that a compiler may do it
    once.

    Args:
        divergence: The part of the loss that needs no data.

    Raises:
        InputError: when it wraps a rule that says how payloads travel.
    """

    def wrap(rule: WorkerRule) -> WorkerRule:
        rule = rule.without_wire(NAME)

        def work(params: Params, memory: Memory, batches: Batches, key: Array) -> Work:
            found = rule.work(params, memory, batches, key)
            rest = jax.tree.map(jnp.subtract, found.payload, jax.grad(divergence)(params))
            return found._replace(payload=rest)

        return rule._replace(work=work)

    return wrap


def with_divergence(divergence: Callable[[Params], Array]) -> Callable[[ServerRule], ServerRule]:
    """Add the gradient of the divergence to every contribution, at the newest parameters.

    Args:
        divergence: The part of the loss that needs no data.
    """

    def wrap(rule: ServerRule) -> ServerRule:
        def combine(part: Part, state: ServerState, deliveries: Sequence[Delivery]) -> Part:
            # Once for all of them. Their factors have the sum 1 where contributions are averaged,
            # and not where they are added up; then the loss counts as often as they do.
            total = sum(each.factor for each in deliveries)
            return jax.tree.map(
                lambda payload, slope: payload + total * slope,
                rule.combine(part, state, deliveries),
                jax.grad(divergence)(part),
            )

        return rule._replace(combine=combine, needs_all=NAME)

    return wrap


def wrap(settings: ServerDivergenceSettings, draft: Draft) -> Draft:
    """See `distvi.algorithms.registry`."""
    draft.takes(NAME, Sent.GRADIENT)
    if draft.server.keeps is Keep.BASE:
        raise InputError(
            f"rule '{NAME}' changes what contributions are, so it comes before rules that correct "
            "stale ones, such as 'delay-compensation' or 'step-limit'; name it first"
        )
    divergence = draft.told_divergence(NAME)
    return draft._replace(
        worker=without_divergence(divergence)(draft.worker),
        server=with_divergence(divergence)(draft.server),
        sent=Sent.LIKELIHOOD,
    )
