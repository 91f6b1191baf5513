"""The servers of one process: versions of the parameters, and gradients under their tickets."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from distvi.errors import RunFailed
from distvi.parameters.shards import Flat, OptStates, Shards
from distvi.protocol import Commit, Lot, Ticket

Key = tuple[int, int, int]


class Snapshot(NamedTuple):
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
        self._held: dict[Key, Flat] = {}
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

    def pull(self) -> Snapshot:
        """The newest parameters, all of one version."""
        return Snapshot(self._version, self._flat)

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
        missing = [part.ticket for part in command.parts if part.ticket.key not in self._held]
        if command.version != self._version + 1 or missing:
            raise RunFailed(
                f"update {command.version} does not follow version {self._version}, or its "
                f"gradients are not all here: {missing}"
            )
        rate, factors = rates(command.parts)
        gradient = None
        for part, factor in zip(command.parts, factors, strict=True):
            one = self._held.pop(part.ticket.key)
            if gradient is not None:
                gradient = _sum(gradient, one, factor)
            else:
                gradient = one if factor == 1 else _scaled(one, factor)
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


@jax.jit
def _scaled(gradient: Flat, factor: float | Array) -> Flat:
    return factor * gradient


@partial(jax.jit, donate_argnums=0)
def _sum(total: Flat, gradient: Flat, factor: float | Array) -> Flat:
    return total + factor * gradient
