"""A server: makes the updates of its part of the parameters, in place, in one fused pass.

The part and the optimizer's state are XLA's own arrays, which every update is given to overwrite.
Others read copies: of the parameters, which an update writes to a slot; of the state when it is
saved. What happens when a server dies is told in `distvi.engines.coordinator.servers`.
"""

import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from distvi.engines.coordinator.messages import (
    Applied,
    Apply,
    Begin,
    Ready,
    Save,
    Saved,
    receive,
    send,
)
from distvi.engines.coordinator.slots import (
    ArrayAt,
    Memory,
    memory_of,
    parameter_pieces,
    parts_of,
    state_pieces,
)
from distvi.engines.local.doorbell import notify, published_in
from distvi.engines.local.memory import SharedArray
from distvi.engines.local.process import Assignment, pin
from distvi.engines.local.recipe import Recipe
from distvi.parameters import Shard, Shards, layout_of

Update = Callable[..., tuple[list[Array], list[Array]]]


def serve(connection: Connection, assignment: Assignment) -> None:
    """Make updates until the main process is gone."""
    x, y = SharedArray(*assignment.x).open(), SharedArray(*assignment.y).open()
    problem, params = Recipe(*assignment.recipe).build(x, y)
    shards = parts_of(problem, layout_of(params), assignment)
    descriptors = (
        assignment.parameters,
        assignment.gradients,
        assignment.states,
        assignment.published,
    )
    memory = memory_of(shards, *descriptors)
    part, published = ShardServer(shards, assignment.number, memory), published_in(memory.published)
    compile_time_s = part.compile(assignment.lot)
    pin(assignment.cores)
    send(connection, Ready(compile_time_s))
    while True:
        message = receive(connection)
        started_s = time.perf_counter()
        if isinstance(message, Begin):
            part.begin(message)
        elif isinstance(message, Apply):
            part.apply(message)
            if message.target is not None:
                ended_s = time.perf_counter()
                published[assignment.number] = message.version
                notify(assignment.doorbells)
                send(connection, Applied(message.version, started_s, ended_s))
        elif isinstance(message, Save):
            part.save(message)
            send(connection, Saved(message.version, started_s, time.perf_counter()))


class ShardServer:
    """A server's part of the parameters.

    Args:
        shards: Those of all servers.
        number: Which of them this is.
        memory: Where others read and write.
    """

    def __init__(self, shards: Shards, number: int, memory: Memory) -> None:
        shard = shards.each[number]
        self._memory = memory
        self._pieces = parameter_pieces(shard)
        self._state_pieces = state_pieces(shards)[0][number]
        self._update: Update = jax.jit(make_update(shard), donate_argnums=(0, 1))
        self._gradients: dict[int, list[Any]] = {}
        self._part, self._state = (
            [jnp.zeros(piece.shape, piece.dtype) for piece in pieces]
            for pieces in (self._pieces, self._state_pieces)
        )

    def compile(self, lot: int) -> float:
        """Compile updates of so many gradients; those of another number when they first come.

        Returns:
            The time it took, in seconds.
        """
        before_s = time.perf_counter()
        gradient = [np.zeros(piece.shape, piece.dtype) for piece in self._pieces]
        self._make([gradient] * lot, np.ones(lot, np.float32), np.float32(1.0))
        return time.perf_counter() - before_s

    def begin(self, message: Begin) -> None:
        """Take a version's parameters and state from their slots."""
        parameters, _, states, _ = self._memory
        self._part = _copies(_views(self._pieces, parameters.bytes(message.parameters)))
        self._state = _copies(_views(self._state_pieces, states.bytes(message.state)))

    def apply(self, message: Apply) -> None:
        """Make an update, and copy the parameters to their slot."""
        gradients = [self._gradient(slot) for slot in message.gradients]
        # NumPy's, because jax takes half a millisecond to make arrays of its own of them.
        factors = np.asarray(message.factors, np.float32)
        self._make(gradients, factors, np.float32(message.rate))
        if message.target is not None:
            store(self._part, _views(self._pieces, self._memory.parameters.bytes(message.target)))

    def save(self, message: Save) -> None:
        """Copy the optimizer's state to its slot."""
        store(self._state, _views(self._state_pieces, self._memory.states.bytes(message.state)))

    def _make(self, gradients: list[list[Any]], factors: Any, rate: Any) -> None:
        made = self._update(self._part, self._state, gradients, factors, rate)
        self._part, self._state = jax.block_until_ready(made)

    def _gradient(self, slot: int) -> list[Any]:
        """Arrays that XLA reads where they lie.

        To hand a NumPy array over takes a while, so it is done once for each slot: what JAX holds
        is the memory itself, whose content changes. Where it had to make a copy, for the
        alignment's sake, NumPy's view is handed over each time.
        """
        if slot not in self._gradients:
            views = _views(self._pieces, self._memory.gradients.bytes(slot))
            arrays = [jax.device_put(view) for view in views]
            self._gradients[slot] = [
                array if array.unsafe_buffer_pointer() == view.ctypes.data else view
                for array, view in zip(arrays, views, strict=True)
            ]
        return self._gradients[slot]


def _views(pieces: list[ArrayAt], slot: np.ndarray) -> list[np.ndarray]:
    return [piece.view(slot) for piece in pieces]


def _copies(views: list[np.ndarray]) -> list[Array]:
    """In memory that belongs to nobody else."""
    return [jnp.asarray(view.copy()) for view in views]


def make_update(shard: Shard) -> Any:
    """``update(part, state, gradients, factors, rate) -> (part, state)``, all of them leaves."""
    flat = jax.ShapeDtypeStruct((shard.layout.size,), np.float32)
    part_tree = jax.tree.structure(jax.eval_shape(shard.take, flat))
    state_like = jax.eval_shape(lambda flat: shard.optimizer.init(shard.take(flat)), flat)
    state_tree = jax.tree.structure(state_like)

    def update(
        part: list[Array],
        state: list[Array],
        gradients: list[list[Array]],
        factors: Array,
        rate: Array,
    ) -> tuple[list[Array], list[Array]]:
        total = [factors[0] * leaf for leaf in gradients[0]]
        for number, gradient in enumerate(gradients[1:], start=1):
            total = [s + factors[number] * leaf for s, leaf in zip(total, gradient, strict=True)]
        trees = (part_tree.unflatten(part), state_tree.unflatten(state), part_tree.unflatten(total))
        new_part, new_state = shard.apply(*trees, rate)
        return jax.tree.leaves(new_part), jax.tree.leaves(new_state)

    return update


def store(results: list[Array], targets: list[np.ndarray]) -> None:
    """Write to a slot; nobody looks at it before it is published, or the message that follows."""
    for result, target in zip(results, targets, strict=True):
        np.copyto(target, np.asarray(result))
