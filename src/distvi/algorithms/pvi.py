"""Partitioned variational inference: a worker answers for its own share of the data.

The posterior q is the prior times a factor t_k of each of P workers, which stands for the
likelihood of that worker's share. All are Gaussian with diagonal covariances, so in natural
parameters eta (precision times mean, and precision) the product is a sum::

    eta(q) = eta(prior) + sum over k of eta(t_k)

A worker takes its factor out of the q that it was sent; what is left, the cavity, is its prior. By
H optimizer steps from q it fits q_k to that and to its own share, of which nobody else sees any
example, and it sends how far that led, damped. Its factor changes by the same, and so does q when
the server adds it::

    q_k     minimizes  E[-log p(share k)] + KL(q_k || q / t_k)
    delta = rho * (eta(q_k) - eta(q));    eta(t_k) += delta;    eta(q) += delta

Contributions add up, whatever weights and rates the scheme has: they are parts of one product. With
rho = 1/P, the default, all workers at once move q to the mean of what they found. Where nothing
moves any more q is an optimum of the whole ELBO, and so it is whatever the order and the staleness
of contributions on the way.

Posteriors are the nodes ``{"mean": ..., "log_var": ...}`` of the parameters, and a payload has eta
there. All other parameters are points, such as lengthscales and noise: workers move them by the
gradient of their P-th of the loss, and their changes are damped and added up, too. Where the prior
depends on them it moves with them, in a worker's steps and on the server, and takes q along: what
is sent is the change of the factors alone, so the sum above stays true.

A worker whose last contribution is not in the q that it is sent walks the same way twice: schemes
should have it wait for its own update, as they do with ``in_flight=1`` and not in `softsync`.

What the factors do not know makes q wrong for good: contributions that a scheme refuses, for their
worker has changed its factor; the old factor of a worker that died, which begins anew with the
P-th part of all factors together; and what `LEAST` adds.

References:
    Bui, Nguyen, Swaroop, Turner (2018), Partitioned variational inference, algorithm 1 and section
    3; Ashman et al. (2022), Partitioned variational inference: a framework for probabilistic
    federated learning, for damping and asynchronous updates.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree
from pydantic import Field

from distvi.algorithms.base import (
    Batches,
    Delivery,
    Memory,
    Params,
    Part,
    Scalar,
    ServerRule,
    ServerState,
    Work,
    WorkerRule,
    weighted_sum,
)
from distvi.algorithms.draft import Draft, Sent
from distvi.algorithms.local_steps import walk
from distvi.errors import InputError
from distvi.system.settings import Settings

NAME = "pvi"

LEAST = 1e-2
"""A posterior's least precision, in units of its prior's. Late contributions may ask for less, even
for less than nothing; then the mean stays where it was."""

Naturals = list[dict[str, Array]]
"""Of each posterior, in the order of the tree: ``mean`` is precision times mean, ``log_var`` is the
precision. They bear the names of what they are computed from, as payloads have them."""


class PVISettings(Settings):
    """Each worker keeps a factor of the posterior, for its own fixed share of the examples."""

    steps: int = Field(default=20, gt=0)
    """Batches that a worker consumes between two contributions."""

    damping: float | None = Field(default=None, gt=0, le=1)
    """Rho: share of each change that is made. None: 1 of as many as there are workers."""


# Posteriors and their natural parameters


def is_posterior(node: Any) -> bool:
    """Whether a node of the parameters is a Gaussian posterior."""
    return isinstance(node, Mapping) and set(node) == {"mean", "log_var"}


def posteriors(tree: PyTree) -> list[Any]:
    """The posteriors of a tree, or what stands in their places."""
    nodes = jax.tree.leaves(tree, is_leaf=is_posterior)
    return [node for node in nodes if is_posterior(node)]


def with_posteriors(tree: PyTree, others: Iterable[Any]) -> PyTree:
    """The tree with others in their places."""
    given = iter(others)
    return jax.tree.map(
        lambda node: next(given) if is_posterior(node) else node, tree, is_leaf=is_posterior
    )


def natural(params: Params) -> PyTree:
    """The parameters with natural ones in the places of posteriors."""

    def of(q: Mapping[str, Array]) -> dict[str, Array]:
        precision = jnp.exp(-q["log_var"])
        return {"mean": precision * q["mean"], "log_var": precision}

    return with_posteriors(params, map(of, posteriors(params)))


_WIDE = 10.0  # log variance


def prior_of(divergence: Callable[[Params], Array], params: Params) -> Naturals:
    """The priors' natural parameters, given the points among the parameters.

    For diagonal Gaussians ``dKL/dm = (m - m_p) / v_p`` and ``dKL/dlog v = (v / v_p - 1) / 2``, at
    any q. It is taken where m is zero and v larger than most priors', since nothing cancels there.

    Args:
        divergence: KL of all posteriors from their priors, in nats.
        params: Of which posteriors do not matter.
    """
    wide = [
        {"mean": jnp.zeros_like(q["mean"]), "log_var": jnp.full_like(q["log_var"], _WIDE)}
        for q in posteriors(params)
    ]
    slopes = posteriors(jax.grad(divergence)(with_posteriors(params, wide)))
    return [
        {"mean": -slope["mean"], "log_var": (2 * slope["log_var"] + 1) * np.exp(-_WIDE).item()}
        for slope in slopes
    ]


def beyond_the_prior(divergence: Callable[[Params], Array], params: Params) -> PyTree:
    """The parameters with all factors together, in natural parameters, in posteriors' places."""
    q, prior = natural(params), prior_of(divergence, params)
    return with_posteriors(q, jax.tree.map(jnp.subtract, posteriors(q), prior))


def from_cavity(params: Params, cavity: Naturals) -> Float[Array, ""]:
    """KL of the posteriors from a cavity, in nats and up to a constant.

    Factors may have negative precisions, and so may a cavity; then this is what KL becomes.
    """

    def of(q: Mapping[str, Array], c: Mapping[str, Array]) -> Array:
        mean, log_var, precision = q["mean"], q["log_var"], c["log_var"]
        energy = precision * (jnp.exp(log_var) + mean**2) - 2 * c["mean"] * mean
        return 0.5 * jnp.sum(energy - log_var)

    return jnp.sum(jnp.stack(list(map(of, posteriors(params), cavity))))


# Workers


def local_slope(
    rule: WorkerRule, divergence: Callable[[Params], Array], workers: int
) -> WorkerRule:
    """The gradient of a share's free energy; the factors of all others are in its memory.

    Args:
        rule: Whose payload is the gradient of the loss, scaled to all examples as ever: the P-th
            part of it stands for the share.
        divergence: KL of all posteriors from their priors, which is in that loss.
        workers: P.
    """

    def work(params: Params, memory: Memory, batches: Batches, key: Array) -> Work:
        inner, others = memory
        cavity = jax.tree.map(jnp.add, prior_of(divergence, params), others)

        def instead_of_the_prior(own: Params) -> Array:
            # Points keep the slope that the loss has: only posteriors have the cavity as prior.
            return (
                from_cavity(own, cavity)
                - divergence(with_posteriors(params, posteriors(own))) / workers
            )

        slope, inner, neg_elbo = rule.work(params, inner, batches, key)
        other = jax.grad(instead_of_the_prior)(params)
        slope = jax.tree.map(lambda g, h: g / workers + h, slope, other)
        return Work(slope, (inner, others), neg_elbo)

    return rule._replace(work=work)


def keeping_a_factor(
    steps: int,
    damping: float,
    optimizer: optax.GradientTransformation,
    divergence: Callable[[Params], Array],
    workers: int,
) -> Callable[[WorkerRule], WorkerRule]:
    """Fit the posterior to the worker's own share, and send how far that led.

    The worker remembers its factor and its optimizer's state. It begins with the P-th part of what
    the posterior that it is sent has beyond the prior.

    Args:
        steps: To fit it by, H.
        damping: Share of each change that is made, rho.
        optimizer: Of the worker.
        divergence: KL of all posteriors from their priors, in nats.
        workers: P.

    Raises:
        InputError: when it wraps a rule that says how payloads travel; and at the first look at
            parameters without posteriors.
    """

    def wrap(rule: WorkerRule) -> WorkerRule:
        rule = rule.without_wire(NAME)
        slope = local_slope(rule, divergence, workers)

        def init(params: Params) -> Memory:
            _check_posteriors(params)
            factors = posteriors(beyond_the_prior(divergence, params))
            factor = jax.tree.map(lambda of_all: of_all / workers, factors)
            return rule.init(params), optimizer.init(params), factor

        def work(params: Params, memory: Memory, batches: Batches, key: Array) -> Work:
            inner, state, factor = memory
            then = beyond_the_prior(divergence, params)
            others = jax.tree.map(jnp.subtract, posteriors(then), factor)
            found = walk(slope, steps, optimizer, params, ((inner, others), state), batches, key)
            end, ((inner, _), state), neg_elbo = found
            now = beyond_the_prior(divergence, end)
            change = jax.tree.map(lambda now, then: damping * (now - then), now, then)
            factor = jax.tree.map(jnp.add, factor, posteriors(change))
            return Work(change, (inner, state, factor), neg_elbo)

        return rule._replace(
            work=work,
            init=init,
            batches=steps * rule.batches,
            partitioned=True,
            follows_itself=True,
        )

    return wrap


def _check_posteriors(params: Params) -> None:
    if not posteriors(params):
        raise InputError(
            f"rule '{NAME}' needs Gaussian posteriors among the parameters, tables of 'mean' and "
            "'log_var' alone, but this model has none; leave the rule out"
        )


# Servers


def multiply_factors(divergence: Callable[[Params], Array]) -> ServerRule:
    """Add up what workers have changed of their factors, and of the points.

    Args:
        divergence: KL of all posteriors from their priors, in nats.
    """

    def combine(part: Part, state: ServerState, deliveries: Sequence[Delivery]) -> Part:
        return weighted_sum(part, state, [each._replace(factor=1.0) for each in deliveries])

    def update(
        part: Part, state: ServerState, payload: Part, rate: Scalar
    ) -> tuple[Part, ServerState]:
        moved = with_posteriors(jax.tree.map(jnp.add, part, payload), posteriors(part))
        prior, new_prior = prior_of(divergence, part), prior_of(divergence, moved)
        followed = jax.tree.map(
            lambda change, old, new: change + (new - old), posteriors(payload), prior, new_prior
        )
        return with_posteriors(moved, map(_changed, posteriors(part), followed, new_prior)), state

    return ServerRule(lambda part: (), update, combine, needs_all=NAME)


def _changed(
    q: Mapping[str, Array], change: Mapping[str, Array], prior: Mapping[str, Array]
) -> dict[str, Array]:
    """A posterior whose natural parameters change; where they do not it keeps its very bits."""
    old, least = natural(q), LEAST * prior["log_var"]
    precision = old["log_var"] + change["log_var"]
    is_proper = precision >= least
    precision = jnp.where(is_proper, precision, least)
    mean = jnp.where(is_proper, (old["mean"] + change["mean"]) / precision, q["mean"])
    is_same = (change["mean"] == 0) & (change["log_var"] == 0)
    return {
        "mean": jnp.where(is_same, q["mean"], mean),
        "log_var": jnp.where(is_same, q["log_var"], -jnp.log(precision)),
    }


def wrap(settings: PVISettings, draft: Draft) -> Draft:
    """See `distvi.algorithms.registry`."""
    draft.takes(NAME, Sent.GRADIENT)
    if draft.server.combine is not weighted_sum:
        raise InputError(
            f"rule '{NAME}' adds contributions up by itself, so no rule for that may come before "
            "it, such as 'delay-compensation'; leave that out"
        )
    divergence, workers = draft.told_divergence(NAME), draft.workers
    return draft._replace(
        worker=keeping_a_factor(
            settings.steps,
            settings.damping or 1 / workers,
            draft.optimizer(settings.steps * draft.requests_per_update),
            divergence,
            workers,
        )(draft.worker),
        server=multiply_factors(divergence),
        sent=Sent.NATURAL,
    )
