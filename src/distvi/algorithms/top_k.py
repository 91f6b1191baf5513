"""Top-k with error feedback: only the largest numbers of a payload travel, the rest is kept.

A worker remembers what it has not sent, the residual m. To each payload g it adds m, sends each
server the k entries of its part that are largest in magnitude, and keeps the rest::

    p = g + m;   sent = top_k(p);   m = p - sent

Nothing is lost, only late. (A payload that the scheme refuses has been sent, and is lost as ever.)

References:
    Stich, Cordonnier, Jaggi (2018), Sparsified SGD with memory, algorithm 1; Candela et al. (2019),
    Finite-sample convergence under staleness keeps the O(1/sqrt T) rate.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32
from pydantic import Field

from distvi.algorithms.base import (
    Batches,
    Encoded,
    Memory,
    Params,
    Part,
    Payload,
    Wire,
    Work,
    WorkerRule,
)
from distvi.algorithms.draft import Draft
from distvi.system.settings import Settings


class TopKSettings(Settings):
    """Only the largest numbers travel; a worker keeps the rest for later."""

    fraction: float = Field(default=0.01, gt=0, le=1)
    """Share of each server's numbers that a worker sends it."""


def top_k(fraction: float) -> Callable[[WorkerRule], WorkerRule]:
    """Send the largest entries of another rule's payload, and add the rest to its next.

    Args:
        fraction: Share of each server's entries, in (0, 1]; at least one is sent.
    """

    def wrap(rule: WorkerRule) -> WorkerRule:
        return error_feedback(rule._replace(wire=sparse(fraction)))

    return wrap


def sparse(fraction: float) -> Wire:
    """The largest entries of a part in magnitude, and where they are."""

    def encode(part: Part) -> Encoded:
        flat = _flat(part)
        _, where = jax.lax.top_k(jnp.abs(flat), max(1, round(fraction * flat.size)))
        return {"values": flat[where], "indices": where.astype(jnp.int32)}

    def decode(message: Encoded, like: Part) -> Part:
        values: Float[Array, " k"] = message["values"]
        indices: Int32[Array, " k"] = message["indices"]
        leaves, tree = jax.tree.flatten(like)
        ends = [0]
        for leaf in leaves:
            ends.append(ends[-1] + leaf.size)
        flat = jnp.zeros(ends[-1], jnp.float32).at[indices].set(values)
        pieces = [
            flat[begin:end].reshape(leaf.shape)
            for begin, end, leaf in zip(ends, ends[1:], leaves, strict=False)
        ]
        return tree.unflatten(pieces)

    return Wire(encode, decode)


def error_feedback(rule: WorkerRule) -> WorkerRule:
    """Add to each payload what the wire has lost of those before it.

    References:
        Seide et al. (2014), 1-bit stochastic gradient descent; Stich et al. (2018).
    """

    def init(params: Params) -> Memory:
        return rule.init(params), jax.tree.map(jnp.zeros_like, params)

    def work(params: Params, memory: Memory, batches: Batches, key: Array) -> Work:
        inner, residual = memory
        payload, inner, neg_elbo = rule.work(params, inner, batches, key)
        corrected = jax.tree.map(jnp.add, payload, residual)
        return Work(corrected, (inner, residual), neg_elbo)

    def feedback(memory: Memory, payload: Payload, received: Payload) -> Memory:
        inner, _ = memory
        if rule.feedback is not None:
            inner = rule.feedback(inner, payload, received)
        return inner, jax.tree.map(jnp.subtract, payload, received)

    return rule._replace(work=work, init=init, feedback=feedback)


def wrap(settings: TopKSettings, draft: Draft) -> Draft:
    """See `distvi.algorithms.registry`."""
    return draft._replace(worker=top_k(settings.fraction)(draft.worker))


def _flat(part: Part) -> Float[Array, " size"]:
    leaves = [leaf.ravel() for leaf in jax.tree.leaves(part)]
    return leaves[0] if len(leaves) == 1 else jnp.concatenate(leaves)
