"""Running means that servers keep, and distances in units of a mean step.

The means are exponential, and weighted means of what they have seen from the first update on, as
Adam's are with its correction of the bias: nothing pulls them towards the zero they begin with.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distvi.algorithms.base import Part, ServerState

_TINY = np.float32(np.finfo(np.float32).tiny)


class Running(NamedTuple):
    """A running mean of parts.

    Attributes:
        total: Of what was seen, each by its weight.
        weight: Of all of it together: 0 at first, then towards 1.
    """

    total: Part
    weight: Float[Array, ""]

    @property
    def mean(self) -> Part:
        """Zero where nothing was seen."""
        return jax.tree.map(lambda leaf: leaf / jnp.maximum(self.weight, _TINY), self.total)

    def after(self, seen: Part, decay: float) -> "Running":
        """The mean with one more.

        Args:
            seen: The newest.
            decay: Share that all earlier ones keep.
        """
        total = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, self.total, seen)
        return Running(total, decay * self.weight + (1 - decay))


class StepState(NamedTuple):
    """What a server keeps for a rule that tells distances in steps.

    Attributes:
        inner: State of the rule within.
        step: How far an update moves each entry.
    """

    inner: ServerState
    step: Running


def running(part: Part) -> Running:
    """A running mean that has seen nothing."""
    return Running(jax.tree.map(jnp.zeros_like, part), jnp.zeros((), jnp.float32))


def mean_of(parts: Sequence[Part]) -> Part:
    """Of several parts, entry by entry."""
    return jax.tree.map(lambda first, *rest: sum(rest, first) / (1 + len(rest)), *parts)


def moved(now: Part, then: Part) -> Part:
    """How far each entry has moved."""
    return jax.tree.map(lambda a, b: jnp.abs(a - b), now, then)


def steps_apart(now: Part, then: Part, step: Part) -> Part:
    """How far each entry has moved, in steps; 0 where it has not.

    Args:
        now: Parameters.
        then: Earlier ones.
        step: The size of a usual step of each entry.
    """
    return jax.tree.map(
        lambda distance, own: distance / jnp.maximum(own, _TINY), moved(now, then), step
    )
