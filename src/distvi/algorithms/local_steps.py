"""Local steps: a worker optimizes by itself for a while, and contributes how far it got.

A request consumes H batches. The worker starts on the parameters that it was sent, makes H steps
with an optimizer of its own, and its payload is the distance that it went, ``start - end``: what a
server's optimizer may take for a gradient. With ``sgd(1)`` on the servers and the mean over the
workers this is local SGD (federated averaging); with Nesterov momentum there it is DiLoCo. The
workers' optimizer states stay with the workers.

References:
    McMahan et al. (2017), Communication-efficient learning of deep networks from decentralized
    data; Stich (2019), Local SGD converges fast and communicates little; Douillard et al. (2023),
    DiLoCo.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array
from pydantic import Field

from distvi.algorithms.base import Batches, Memory, Params, Work, WorkerRule
from distvi.algorithms.draft import Draft, Sent, check_nothing_on_the_wire
from distvi.algorithms.gradient import optimize
from distvi.system.settings import Settings


class LocalStepsSettings(Settings):
    """Workers make several steps by themselves; servers add the mean distance."""

    steps: int = Field(default=10, gt=0)
    """Batches that a worker consumes between two contributions."""

    outer_rate: float = Field(default=1.0, gt=0)
    """Learning rate of the servers; 1 is the plain mean. DiLoCo: 0.7."""

    outer_momentum: float = Field(default=0.0, ge=0, lt=1)
    """Nesterov momentum of the servers. DiLoCo: 0.9."""


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
        check_nothing_on_the_wire(rule, "local-steps")

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


def wrap(settings: LocalStepsSettings, draft: Draft) -> Draft:
    """See `distvi.algorithms.registry`."""
    draft.takes("local-steps", Sent.GRADIENT)
    steps = settings.steps
    outer = optax.sgd(
        settings.outer_rate, settings.outer_momentum or None, nesterov=settings.outer_momentum > 0
    )
    return draft._replace(
        worker=local_steps(steps, draft.optimizer(steps * draft.requests_per_update))(draft.worker),
        server=optimize(outer, is_uniform=True)._replace(
            combine=draft.server.combine, keeps=draft.server.keeps
        ),
        sent=Sent.DISTANCE,
    )
