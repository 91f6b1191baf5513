"""Local steps: a worker optimizes by itself for a while, and contributes how far it got.

A request consumes H batches. The worker starts on the parameters w that it was sent, makes H steps
with an optimizer of its own, and its payload is the distance that it went, which servers add::

    d = w - step_H(... step_1(w));   w <- w - rate * d

In lockstep the distances of all P workers come as their mean, and with a rate of 1 this is local
SGD (federated averaging). Where every contribution is an update by itself, P workers go their ways
at once, each from about the same parameters, and adding all distances would go P times too far:
there the rate is 1/P, which again comes to the mean. In between, where an update is the mean of k
distances, it is k/P: whoever is not in it counts as one who stayed where it was. So the rate is the
number of requests that a worker answers for each update. The workers' optimizer states stay with
the workers.

References:
    McMahan et al. (2017), Communication-efficient learning of deep networks from decentralized
    data; Stich (2019), Local SGD converges fast and communicates little.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array
from pydantic import Field

from distvi.algorithms.base import Batches, Memory, Params, Work, WorkerRule, weighted_sum
from distvi.algorithms.draft import Draft, Sent
from distvi.algorithms.gradient import optimize
from distvi.errors import InputError
from distvi.system.settings import Settings


class LocalStepsSettings(Settings):
    """Workers make several steps by themselves; servers add the mean distance."""

    steps: int = Field(default=10, gt=0)
    """Batches that a worker consumes between two contributions."""

    outer_rate: float | None = Field(default=None, gt=0)
    """Learning rate of the servers; by default 1 in lockstep, 1/n where each of n workers makes
    updates by itself."""


def local_steps(
    steps: int, optimizer: optax.GradientTransformation
) -> Callable[[WorkerRule], WorkerRule]:
    """Make ``steps`` steps along another rule's payloads before contributing.

    Args:
        steps: How many, H.
        optimizer: Of the worker; its state is a part of the worker's memory.

    Raises:
        InputError: when it wraps a rule that says how payloads travel: that is not asked at each
            step.
    """

    def wrap(rule: WorkerRule) -> WorkerRule:
        rule = rule.without_wire("local-steps")

        def init(params: Params) -> Memory:
            return rule.init(params), optimizer.init(params)

        def work(params: Params, memory: Memory, batches: Batches, key: Array) -> Work:
            end, memory, neg_elbo = walk(rule, steps, optimizer, params, memory, batches, key)
            return Work(jax.tree.map(jnp.subtract, params, end), memory, neg_elbo)

        return rule._replace(work=work, init=init, batches=steps * rule.batches)

    return wrap


def walk(
    rule: WorkerRule,
    steps: int,
    optimizer: optax.GradientTransformation,
    params: Params,
    memory: Memory,
    batches: Batches,
    key: Array,
) -> tuple[Params, Memory, Array]:
    """Where steps along a rule's payloads lead; the memory then, and the mean negative ELBO.

    Args:
        rule: What it steps along.
        steps: How many.
        optimizer: Makes them.
        params: Where it begins.
        memory: Of the rule, and the optimizer's state.
        batches: Those of all steps.
        key: The run's key.
    """

    def step(carry: tuple[Params, Memory], own: Batches) -> tuple[tuple, Array]:
        here, (inner, state) = carry
        payload, inner, neg_elbo = rule.work(here, inner, own, key)
        updates, state = optimizer.update(payload, state, here)
        return (optax.apply_updates(here, updates), (inner, state)), neg_elbo

    in_steps = jax.tree.map(
        lambda rows: rows.reshape(steps, rule.batches, *rows.shape[1:]), batches
    )
    (end, memory), neg_elbos = jax.lax.scan(step, (params, memory), in_steps)
    return end, memory, neg_elbos.mean()


def with_local_steps(
    draft: Draft, rule: str, steps: int, outer: optax.GradientTransformation
) -> Draft:
    """A draft whose workers have its optimizer, and whose servers have one for distances.

    Args:
        draft: What rules have made of the run so far.
        rule: Name of the one that asks.
        steps: See `local_steps`.
        outer: The servers' optimizer; it treats all entries alike.

    Raises:
        InputError: a rule before it says how payloads travel, or what servers make of them.
    """
    draft.takes(rule, Sent.GRADIENT)
    if draft.server.combine is not weighted_sum:
        raise InputError(
            f"rule '{rule}' gives the servers another optimizer, so it comes before rules that "
            "say what servers make of contributions, such as 'delay-compensation'; name it first"
        )
    inner = draft.optimizer(steps * draft.requests_per_update)
    return draft._replace(
        worker=local_steps(steps, inner)(draft.worker.without_wire(rule)),
        server=optimize(outer, is_uniform=True),
        sent=Sent.DISTANCE,
    )


def wrap(settings: LocalStepsSettings, draft: Draft) -> Draft:
    """See `distvi.algorithms.registry`."""
    # More than one request of each worker for an update: their mean is the mean still.
    rate = settings.outer_rate or min(draft.requests_per_update, 1.0)
    return with_local_steps(draft, "local-steps", settings.steps, optax.sgd(rate))
