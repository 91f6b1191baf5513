"""A server: makes the updates of its part of the parameters.

It keeps nothing of its own. An update reads the parameters and the optimizer's state of one
version from their slots and writes those of the next into others, in one fused pass; so a server
that is killed on the way loses nothing, and the one that takes its place makes the update again.
"""

import time
from multiprocessing.connection import Connection
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from distvi.engines.local.arena import SharedArray
from distvi.engines.local.child import Assignment
from distvi.engines.local.messages import Applied, Apply, Ready, receive, send
from distvi.engines.local.parts import (
    Memory,
    Piece,
    memory_of,
    parameter_pieces,
    state_pieces,
)
from distvi.engines.local.recipe import Recipe, shards_of
from distvi.parameters import Shard, Shards, layout_of


def serve(connection: Connection, assignment: Assignment) -> None:
    """Make updates until the main process is gone."""
    x, y = SharedArray(*assignment.x).open(), SharedArray(*assignment.y).open()
    problem, params = Recipe(*assignment.recipe).build(x, y)
    shards = shards_of(problem, layout_of(params), assignment)
    descriptors = (assignment.parameters, assignment.gradients, assignment.states)
    part = Part(shards, assignment.number, memory_of(shards, *descriptors))
    send(connection, Ready(part.compile(assignment.lot)))
    while True:
        message = receive(connection)
        assert isinstance(message, Apply)
        started_s = time.perf_counter()
        part.apply(message)
        send(connection, Applied(message.version, started_s, time.perf_counter()))


class Part:
    """A server's part of the parameters.

    Args:
        shards: The parts of all servers.
        number: Which of them this is.
        memory: Where the numbers are.
    """

    def __init__(self, shards: Shards, number: int, memory: Memory) -> None:
        shard = shards.each[number]
        self._memory = memory
        self._part, self._state = parameter_pieces(shard), state_pieces(shards)[0][number]
        self._update = jax.jit(make_update(shard))

    def compile(self, lot: int) -> float:
        """Compile updates of so many gradients; those of another number when they first come.

        Returns:
            The time it took, in seconds.
        """
        before_s = time.perf_counter()
        zeros, states = (
            [np.zeros(piece.shape, piece.dtype) for piece in pieces]
            for pieces in (self._part, self._state)
        )
        ones = np.ones(lot, np.float32)
        jax.block_until_ready(self._update(zeros, states, [zeros] * lot, ones, np.float32(1.0)))
        return time.perf_counter() - before_s

    def apply(self, order: Apply) -> None:
        """Make an update: read one version, write the next."""
        parameters, gradients, states = self._memory
        part, state = self._update(
            _views(self._part, parameters.bytes(order.source)),
            _views(self._state, states.bytes(order.source_state)),
            [_views(self._part, gradients.bytes(slot)) for slot in order.gradients],
            np.asarray(order.factors, np.float32),
            np.float32(order.rate),
        )
        store(part, _views(self._part, parameters.bytes(order.target)))
        store(state, _views(self._state, states.bytes(order.target_state)))


def _views(pieces: list[Piece], slot: np.ndarray) -> list[np.ndarray]:
    return [piece.view(slot) for piece in pieces]


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
    """Write what an update gave; nobody looks at the slots before the message that follows."""
    for result, target in zip(results, targets, strict=True):
        np.copyto(target, np.asarray(result))
