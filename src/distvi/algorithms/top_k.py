"""Top-k with error feedback: only the largest numbers of a payload travel, the rest is kept.

A worker remembers what it has not sent, the residual m. To each payload g it adds m, sends each
server the k entries of its part that are largest in magnitude, and keeps the rest::

    p = g + m;   sent = top_k(p);   m = p - sent

Nothing is lost, only late, see `distvi.algorithms.error_feedback`.

References:
    Stich, Cordonnier, Jaggi (2018), Sparsified SGD with memory, algorithm 1; Candela et al. (2019),
    Finite-sample convergence under staleness keeps the O(1/sqrt T) rate.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32
from pydantic import Field

from distvi.algorithms.base import Encoded, Part, Wire, WorkerRule
from distvi.algorithms.draft import Draft
from distvi.algorithms.error_feedback import error_feedback
from distvi.errors import InputError
from distvi.system.settings import Settings


class TopKSettings(Settings):
    """Only the largest numbers travel; a worker keeps the rest for later."""

    fraction: float = Field(default=0.01, gt=0, le=1)
    """Share of each server's numbers that a worker sends it."""


def top_k(fraction: float) -> Callable[[WorkerRule], WorkerRule]:
    """Send the largest entries of another rule's payload, and add the rest to its next.

    Args:
        fraction: Share of each server's entries, in (0, 1]; at least one is sent.

    Raises:
        InputError: when it wraps a rule that says how numbers travel: it chooses among a payload's
            own.
    """

    def wrap(rule: WorkerRule) -> WorkerRule:
        if rule.wire is not None:
            raise InputError(
                "rule 'top-k' chooses which numbers travel, so it comes before rules that say "
                "how, such as 'cast' and 'int8'; name it first"
            )
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


def wrap(settings: TopKSettings, draft: Draft) -> Draft:
    """See `distvi.algorithms.registry`."""
    return draft._replace(worker=top_k(settings.fraction)(draft.worker))


def _flat(part: Part) -> Float[Array, " size"]:
    leaves = [leaf.ravel() for leaf in jax.tree.leaves(part)]
    return leaves[0] if len(leaves) == 1 else jnp.concatenate(leaves)
