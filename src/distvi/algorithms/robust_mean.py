"""Robust means: a minority of bad contributions cannot spoil an update.

The mean of an update's contributions follows any single one of them, however far it is off. The
``median`` is that of each entry by itself. The ``trimmed`` mean leaves out of n contributions the
k = ceil(share * n) highest and the k lowest of each entry (but not all), so it stands that share of
bad ones. The ``clipped`` mean begins at the median v of the entries and moves, a few times, by what
the contributions g_i say within a radius, tensor by tensor::

    v <- v + mean_i clip(g_i - v),    clip(z) = z * min(1, radius / ||z||)

so none moves it further than radius / n a time. Unless it is given, a tensor's radius is the median
distance of its contributions from the first v. What comes out is multiplied by the sum of the
contributions' factors: with ``average`` that is 1, and with ``add`` a sum is still a sum. Among
themselves contributions count the same: a weight would let few outvote many.

Medians and trimmed means work entry by entry, so with any placement of the parameters. Clipping
needs norms of whole tensors: with several servers that is placement ``greedy`` or ``round-robin``.
Gradients that are not finite never come here: they are refused as they arrive. After top-k an entry
is 0 in most contributions, and so is its median. A scheme that chooses how many contributions make
an update must not choose fewer than three: of `dynamic-backup` that is the option ``least``.

References:
    Yin, Chen, Ramchandran, Bartlett (2018), Byzantine-robust distributed learning, definitions 1
    and 2, for median and trimmed mean; Karimireddy, He, Jaggi (2021), Learning from history for
    Byzantine robust optimization, section 4, for centred clipping.
"""

from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from pydantic import Field

from distvi.algorithms.base import Delivery, Part, ServerRule, ServerState, weighted_sum
from distvi.algorithms.draft import Draft, Sent
from distvi.errors import InputError
from distvi.system.settings import Settings

Mean = Callable[[Sequence[Float[Array, "*shape"]]], Float[Array, "*shape"]]
"""Of a tensor, or a piece of one, in all contributions."""

_FEWEST = 3  # two have no majority


class RobustMeanSettings(Settings):
    """Servers combine contributions so that a minority of bad ones cannot spoil an update."""

    mean: Literal["median", "trimmed", "clipped"] = "median"
    """median or trimmed: of each entry by itself; clipped: centred clipping of each tensor."""

    trim: float = Field(default=0.25, gt=0, lt=0.5)
    """trimmed: share of the contributions left out at each side."""

    radius: float | None = Field(default=None, gt=0)
    """clipped: norm beyond which a contribution pulls no harder; by itself the median distance."""

    iterations: int = Field(default=3, ge=1, le=20)
    """clipped: times that the centre moves."""


def robust(mean: Mean) -> Callable[[ServerRule], ServerRule]:
    """Combine contributions by a robust mean in place of the weighted one.

    Args:
        mean: Of each tensor by itself.
    """

    def combine(part: Part, state: ServerState, deliveries: Sequence[Delivery]) -> Part:
        total = sum(delivery.factor for delivery in deliveries)
        payloads = [delivery.payload for delivery in deliveries]
        return jax.tree.map(lambda *leaves: total * mean(leaves), *payloads)

    return lambda rule: rule._replace(combine=combine)


def median(values: Sequence[Float[Array, "*shape"]]) -> Float[Array, "*shape"]:
    """The median of each entry; of an even number the mean of the two in the middle."""
    ordered, middle = in_order(values), len(values) // 2
    if len(values) % 2:
        return ordered[middle]
    return 0.5 * ordered[middle - 1] + 0.5 * ordered[middle]


def trimmed(share: float) -> Mean:
    """The mean of each entry without its highest and lowest values.

    Args:
        share: Of the values, at each side; one or two always stay.
    """

    def mean(values: Sequence[Float[Array, "*shape"]]) -> Float[Array, "*shape"]:
        cut = min(ceil(share * len(values)), (len(values) - 1) // 2)
        kept = in_order(values)[cut : len(values) - cut]
        return sum(kept[1:], start=kept[0]) / len(kept)

    return mean


def clipped(radius: float | None, iterations: int) -> Mean:
    """Centred clipping, from the median of each entry on.

    Args:
        radius: Norm beyond which a contribution pulls no harder; None: the median distance.
        iterations: Times that the centre moves.
    """

    def mean(values: Sequence[Float[Array, "*shape"]]) -> Float[Array, "*shape"]:
        centre = median(values)
        limit = radius or median([_norm(value - centre) for value in values])
        for _ in range(iterations):
            moves = [_clip(value - centre, limit) for value in values]
            centre = centre + sum(moves[1:], start=moves[0]) / len(values)
        return centre

    return mean


def _clip(move: Float[Array, "*shape"], limit: Float[Array, ""] | float) -> Float[Array, "*shape"]:
    norm = _norm(move)
    # A norm that overflows is of a contribution that is as bad as can be: it does not pull.
    return jnp.where(norm > limit, jnp.where(jnp.isfinite(norm), limit / norm * move, 0.0), move)


def _norm(move: Float[Array, "*shape"]) -> Float[Array, ""]:
    return jnp.sqrt(jnp.square(move).sum())


def in_order(values: Sequence[Float[Array, "*shape"]]) -> list[Float[Array, "*shape"]]:
    """Each entry's values from the lowest to the highest.

    By a network of pairwise minima and maxima: one pass over the numbers, hundreds of times
    faster than XLA's sort across arrays, and visibly entry by entry (`distvi.parameters.locality`).
    """
    ordered = list(values)
    for low, high in comparisons(len(ordered)):
        one, other = ordered[low], ordered[high]
        ordered[low], ordered[high] = jnp.minimum(one, other), jnp.maximum(one, other)
    return ordered


def comparisons(count: int) -> Iterator[tuple[int, int]]:
    """The pairs of places that a merge exchange sort compares, O(count log^2 count) of them.

    References:
        Batcher (1968), Sorting networks and their applications; Knuth, volume 3, algorithm 5.2.2M.
    """
    size = 1
    while size < count:
        step = size
        while step:
            for start in range(step % size, count - step, 2 * step):
                for low in range(start, min(start + step, count - step)):
                    if low // (2 * size) == (low + step) // (2 * size):
                        yield low, low + step
            step //= 2
        size *= 2


def wrap(settings: RobustMeanSettings, draft: Draft) -> Draft:
    """See `distvi.algorithms.registry`."""
    draft.takes("robust-mean", Sent.GRADIENT, Sent.LIKELIHOOD, Sent.DISTANCE)
    if draft.contributions_per_update < _FEWEST:
        raise InputError(
            f"rule 'robust-mean' needs updates of at least {_FEWEST} contributions, and this run's "
            f"have {draft.contributions_per_update}: choose more workers, or a scheme that "
            "collects more, such as sync (the devices of engine mesh are one worker together)"
        )
    if draft.server.combine is not weighted_sum:
        raise InputError(
            "rule 'robust-mean' replaces how contributions are combined, so it comes before rules "
            "that change what is, such as 'delay-compensation'; name it first"
        )
    means: dict[str, Mean] = {
        "median": median,
        "trimmed": trimmed(settings.trim),
        "clipped": clipped(settings.radius, settings.iterations),
    }
    return draft._replace(server=robust(means[settings.mean])(draft.server))
