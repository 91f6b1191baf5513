"""The servers of one process: versions of the parameters, and gradients under their tickets."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from distvi.errors import RunFailed
from distvi.parameters.shards import Flat, OptStates, Shards
from distvi.protocol import Commit, Lot, Ticket

TicketId = tuple[int, int, int]

_AT_ONCE = 8
"""Gradients that are summed in one pass; each number of them is a program of its own."""


class ParameterVersion(NamedTuple):
    """The parameters of one version; workers of the same version share its memory."""

    version: int
    flat: Flat


class Store:
    """All servers, and the gradients they hold; here tickets meet numbers.

    Args:
        shards: Who holds what.
        flat: Parameters to begin with.
        opt_state: Of the unsharded optimizer, to go on from; by default a new one.
        version: Of those parameters.
    """

    def __init__(
        self,
        shards: Shards,
        flat: Flat,
        opt_state: optax.OptState | None = None,
        version: int = 0,
    ) -> None:
        self.shards = shards
        self._joined = shards = shards.joined
        states = jax.jit(shards.init)(flat) if opt_state is None else _scattered(shards, opt_state)
        self._version, self._flat, self._opt_states = version, flat, states
        self._held: dict[TicketId, Flat] = {}
        self._apply = jax.jit(shards.apply, donate_argnums=1)

    @property
    def version(self) -> int:
        """Updates made."""
        return self._version

    @property
    def params(self) -> PyTree:
        """The parameters of the newest version."""
        return self.shards.layout.unflatten(self._flat)

    @property
    def opt_state(self) -> optax.OptState:
        """The optimizer's state as an unsharded run has it."""
        copied = jax.tree.map(np.array, self._opt_states)  # the next update uses its own up
        return self._joined.gather(copied)

    def pull(self) -> ParameterVersion:
        """The newest parameters, all of one version."""
        return ParameterVersion(self._version, self._flat)

    def hold(self, ticket: Ticket, gradient: Flat) -> None:
        """Keep a gradient until it is committed or dropped."""
        self._held[ticket.key] = gradient

    def drop(self, ticket: Ticket) -> None:
        """Forget a gradient, if it ever came."""
        self._held.pop(ticket.key, None)

    def commit(self, command: Commit) -> None:
        """Make one update on all servers, or none.

        Raises:
            RunFailed: the command is not for the next version, or names a gradient that is not
                here; nothing has changed.
        """
        missing = [
            part.ticket for part in command.contributions if part.ticket.key not in self._held
        ]
        if command.version != self._version + 1 or missing:
            raise RunFailed(
                f"update {command.version} does not follow version {self._version}, or its "
                f"gradients are not all here: {missing}"
            )
        rate, factors = rates(command.contributions)
        gradient = _sum(
            [self._held.pop(part.ticket.key) for part in command.contributions], factors
        )
        self._flat, self._opt_states = self._apply(self._flat, self._opt_states, gradient, rate)
        self._version = command.version


def rates(parts: Lot) -> tuple[float, tuple[float, ...]]:
    """An update's factor of the learning rate, and those of its gradients in their sum.

    The first is the mean of the gradients' rates by weight; the others are ``weight * rate`` over
    it. So plain SGD moves by the sum of ``weight * rate * gradient``, and a gradient alone has
    its rate with any optimizer.
    """
    rate = sum(part.weight * part.rate for part in parts) / sum(part.weight for part in parts)
    if not rate:
        return 0.0, tuple(part.weight for part in parts)
    return rate, tuple(part.weight * part.rate / rate for part in parts)


def _scattered(shards: Shards, opt_state: optax.OptState) -> OptStates:
    return jax.tree.map(jnp.array, shards.scatter(opt_state))  # the first update uses them up


def _sum(gradients: Sequence[Flat], factors: Sequence[float]) -> Flat:
    """The sum of gradients by their factors, in few passes over the numbers."""
    if tuple(factors) == (1,):
        return gradients[0]
    total = _pass(gradients[:_AT_ONCE], np.array(factors[:_AT_ONCE], np.float32))
    for start in range(_AT_ONCE, len(gradients), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        scales = np.array([1.0, *factors[some]], np.float32)
        total = _pass([total, *gradients[some]], scales)
    return total


@jax.jit
def _pass(gradients: Sequence[Flat], factors: Float[Array, " gradients"]) -> Flat:
    total = factors[0] * gradients[0]
    for number, gradient in enumerate(gradients[1:], start=1):
        total += factors[number] * gradient
    return total
