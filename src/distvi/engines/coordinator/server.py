"""A server: makes the updates of its part of the parameters, in place, in one fused pass.

The part and the rule's state are XLA's own arrays, which every update is given to overwrite.
Others read copies: of the parameters, which an update writes to a slot; of the state when it is
saved. What happens when a server dies is told in `distvi.engines.coordinator.servers`.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from distvi.algorithms.base import Delivery, Keep, WorkerRule
from distvi.engines.base import Built
from distvi.engines.coordinator.clock import MachineClock
from distvi.engines.coordinator.messages import Applied, Apply, Begin, Message, Save, Saved
from distvi.engines.coordinator.slots import ArrayAt, Numbers, SlotMap, views
from distvi.parameters import Shards

Update = Callable[..., tuple[list[Array], list[Array]]]


class ShardServer:
    """A server's part of the parameters, as the coordinator's messages have it.

    Args:
        number: Which server it is.
        slots: Where everything lies.
        numbers: Where others read and write.
        built: The rules, and what may go wrong.
        clock: The machine's.
    """

    def __init__(
        self,
        number: int,
        slots: SlotMap,
        numbers: Numbers,
        built: Built,
        clock: MachineClock = time.perf_counter,
    ) -> None:
        self.number, self._numbers, self._fault, self._clock = number, numbers, built.fault, clock
        self._parts, self._states = slots.parts[number], slots.states[number]
        self._sources = slots.sources[number]
        update = make_update(slots.shards, slots.rule, number)
        self._update: Update = jax.jit(update, donate_argnums=(0, 1))
        self._published = numbers.published_versions
        self._payloads: dict[int, list[Any]] = {}
        self._bases: dict[int, list[Any]] = {}
        self._keeps_base = slots.shards.rule.keeps is Keep.BASE
        self._part, self._state = (
            [jnp.zeros(array.shape, array.dtype) for array in arrays]
            for arrays in (self._parts, self._states)
        )

    def compile(self, contributions: int) -> float:
        """Compile updates of so many contributions; those of another number when they first come.

        Returns:
            The time it took, in seconds.
        """
        before_s = self._clock()
        payload = [np.zeros(array.shape, array.dtype) for array in self._sources]
        base = [np.zeros(array.shape, array.dtype) for array in self._parts]
        bases = [base] * contributions if self._keeps_base else []
        factors = np.ones(contributions, np.float32)
        self._make([payload] * contributions, bases, factors, np.float32(1.0))
        return self._clock() - before_s

    def handle(self, message: Message) -> Applied | Saved | None:
        """Do what a message says; the answer, if it has one. A version is published before that."""
        started_s = self._clock()
        if isinstance(message, Begin):
            self._begin(message)
        elif isinstance(message, Apply):
            self._apply(message)
            if not message.is_again:
                ended_s = self._clock()
                self._published[self.number] = message.version
                return Applied(message.version, started_s, ended_s)
        elif isinstance(message, Save):
            self.save(message.state)
            return Saved(message.version, started_s, self._clock())
        return None

    def _begin(self, message: Begin) -> None:
        """Take a version's parameters and state from their slots."""
        numbers = self._numbers
        self._part = _copies(views(self._parts, numbers.parameters.bytes(message.parameters)))
        self._state = _copies(views(self._states, numbers.states.bytes(message.state)))

    def _apply(self, message: Apply) -> None:
        """Make an update, and copy the parameters to their slot."""
        numbers = self._numbers
        payloads = [
            self._arrays(slot, self._sources, numbers.payloads, self._payloads)
            for slot in message.payloads
        ]
        bases = [
            self._arrays(slot, self._parts, numbers.parameters, self._bases)
            for slot in message.bases
        ]
        # NumPy's, because jax takes half a millisecond to make arrays of its own of them.
        factors = np.asarray(message.factors, np.float32)
        self._make(payloads, bases, factors, np.float32(message.rate))
        if message.target is not None:
            targets = views(self._parts, numbers.parameters.bytes(message.target))
            self._fault("updating", targets)
            store(self._part, targets)

    def save(self, slot: int) -> None:
        """Copy the rule's state to its slot."""
        targets = views(self._states, self._numbers.states.bytes(slot))
        self._fault("saving", targets)
        store(self._state, targets)

    def _make(self, payloads: list[list[Any]], bases: Any, factors: Any, rate: Any) -> None:
        made = self._update(self._part, self._state, payloads, bases, factors, rate)
        self._part, self._state = jax.block_until_ready(made)

    @staticmethod
    def _arrays(slot: int, arrays: list[ArrayAt], slots: Any, known: dict[int, list[Any]]) -> list:
        """Arrays that XLA reads where they lie.

        To hand a NumPy array over takes a while, so it is done once for each slot: what JAX holds
        is the memory itself, whose content changes. Where it had to make a copy, for the
        alignment's sake, NumPy's view is handed over each time.
        """
        if slot not in known:
            seen = views(arrays, slots.bytes(slot))
            given = [jax.device_put(view) for view in seen]
            known[slot] = [
                array if array.unsafe_buffer_pointer() == view.ctypes.data else view
                for array, view in zip(given, seen, strict=True)
            ]
        return known[slot]


def _copies(arrays: list[np.ndarray]) -> list[Array]:
    """In memory that belongs to nobody else."""
    return [jnp.asarray(array.copy()) for array in arrays]


def make_update(shards: Shards, rule: WorkerRule, number: int) -> Any:
    """``update(part, state, payloads, bases, factors, rate) -> (part, state)``, all leaves."""
    shard, wire = shards.each[number], rule.wire
    flat = jax.ShapeDtypeStruct((shards.layout.size,), np.float32)
    like = jax.eval_shape(shard.take, flat)
    part_tree = jax.tree.structure(like)
    state_tree = jax.tree.structure(jax.eval_shape(lambda f: shards.rule.init(shard.take(f)), flat))
    message_tree = jax.tree.structure(shards.messages_like(wire)[number])

    def update(
        part: list[Array],
        state: list[Array],
        payloads: list[list[Array]],
        bases: list[list[Array]],
        factors: Array,
        rate: Array,
    ) -> tuple[list[Array], list[Array]]:
        deliveries = []
        for order, leaves in enumerate(payloads):
            payload = message_tree.unflatten(leaves)
            if wire is not None:
                payload = wire.decode(payload, like)
            base = part_tree.unflatten(bases[order]) if bases else None
            deliveries.append(Delivery(payload, factors[order], base))
        trees = part_tree.unflatten(part), state_tree.unflatten(state)
        new_part, new_state = shards.rule.apply(*trees, deliveries, rate)
        return jax.tree.leaves(new_part), jax.tree.leaves(new_state)

    return update


def store(results: list[Array], targets: list[np.ndarray]) -> None:
    """Write to a slot; nobody looks at it before it is published, or the message that follows."""
    for result, target in zip(results, targets, strict=True):
        np.copyto(target, np.asarray(result))
