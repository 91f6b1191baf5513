"""The servers of one process: versions of the parameters, and payloads under their tickets."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from distvi.algorithms.base import Delivery, Keep, ServerState, weighted_sum
from distvi.algorithms.combine import rates
from distvi.errors import RunFailed
from distvi.parameters.shards import Flat, Shards, States
from distvi.protocol import Commit, Ticket, TicketId
from distvi.system.programs import OWN_PROGRAMS, Programs

_AT_ONCE = 8
"""Payloads that are summed in one pass; each number of them is a program of its own."""


class ParameterVersion(NamedTuple):
    """The parameters of one version; workers of the same version share its memory."""

    version: int
    flat: Flat


class _Held(NamedTuple):
    """A payload, and the parameters that it was computed on where the server rule needs them."""

    payload: Flat
    base: Flat | None


class Store:
    """All servers, and the payloads they hold; here tickets meet numbers.

    Args:
        shards: Who holds what.
        flat: Parameters to begin with.
        state: Of the unsharded server rule, to go on from; None: a new one.
        version: Of those parameters.
        programs: What compiles.
    """

    def __init__(
        self,
        shards: Shards,
        flat: Flat,
        state: ServerState | None = None,
        version: int = 0,
        *,
        programs: Programs = OWN_PROGRAMS,
    ) -> None:
        self.shards = shards
        self._joined = shards = shards.joined
        init = programs.jit("server state", shards.init)
        states = init(flat) if state is None else _scattered(shards, state)
        self._version, self._flat, self._states = version, flat, states
        self._keeps_base = shards.rule.keeps is Keep.BASE
        self._held: dict[TicketId, _Held] = {}
        self._sums = shards.rule.combine is weighted_sum
        self._combine = programs.jit("combine", shards.combine)
        update = shards.update_by_sum if self._sums else shards.update
        self._update = programs.jit("update", update, donate_argnums=1)

    @property
    def version(self) -> int:
        """Updates made."""
        return self._version

    @property
    def params(self) -> PyTree:
        """The parameters of the newest version."""
        return self.shards.layout.unflatten(self._flat)

    @property
    def state(self) -> ServerState:
        """The servers' state as an unsharded run has it."""
        copied = jax.tree.map(np.array, self._states)  # the next update uses its own up
        return self._joined.gather(copied)

    def pull(self) -> ParameterVersion:
        """The newest parameters, all of one version."""
        return ParameterVersion(self._version, self._flat)

    def hold(self, ticket: Ticket, payload: Flat, base: ParameterVersion) -> None:
        """Keep a payload until it is committed or dropped.

        Args:
            ticket: Its ticket.
            payload: Its numbers.
            base: What it was computed on.
        """
        self._held[ticket.key] = _Held(payload, base.flat if self._keeps_base else None)

    def drop(self, ticket: Ticket) -> None:
        """Forget a payload, if it ever came."""
        self._held.pop(ticket.key, None)

    def commit(self, command: Commit) -> None:
        """Make one update on all servers, or none.

        Raises:
            RunFailed: the command is not for the next version, or names a payload that is not
                here; nothing has changed.
        """
        keys = [each.ticket.key for each in command.contributions]
        missing = [key for key in keys if key not in self._held]
        if command.version != self._version + 1 or missing:
            raise RunFailed(
                f"update {command.version} does not follow version {self._version}, or its "
                f"contributions are not all here: {missing}"
            )
        rate, factors = rates(command.contributions)
        combined = self._combined([self._held.pop(key) for key in keys], factors)
        self._flat, self._states = self._update(self._flat, self._states, combined, rate)
        self._version = command.version

    def _combined(self, held: list[_Held], factors: tuple[float, ...]) -> Any:
        """What `update_by_sum` of the shards takes, or `update`."""
        if self._sums:
            return _sum([payload for payload, _ in held], factors)
        deliveries = [
            Delivery(payload, np.float32(factor), base)
            for (payload, base), factor in zip(held, factors, strict=True)
        ]
        return self._combine(self._flat, self._states, deliveries)


def _scattered(shards: Shards, state: ServerState) -> States:
    return jax.tree.map(jnp.array, shards.scatter(state))  # the first update uses them up


def _sum(payloads: Sequence[Flat], factors: Sequence[float]) -> Flat:
    """The weighted sum in few passes over the numbers, each by one of few programs."""
    if tuple(factors) == (1.0,):
        return payloads[0]
    total = _pass(payloads[:_AT_ONCE], np.array(factors[:_AT_ONCE], np.float32))
    for start in range(_AT_ONCE, len(payloads), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        total = _pass([total, *payloads[some]], np.array([1.0, *factors[some]], np.float32))
    return total


@jax.jit
def _pass(payloads: Sequence[Flat], factors: Float[Array, " payloads"]) -> Flat:
    deliveries = [Delivery(each, factors[n]) for n, each in enumerate(payloads)]
    return weighted_sum(None, None, deliveries)
