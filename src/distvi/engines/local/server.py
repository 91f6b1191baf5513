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

from distvi.engines.local.arena import SharedArray, Slots
from distvi.engines.local.child import Assignment
from distvi.engines.local.messages import Applied, Apply, Ready, receive, send
from distvi.engines.local.parts import Piece, parameter_pieces, state_pieces
from distvi.engines.local.recipe import Recipe, shards_of
from distvi.parameters import Shard, layout_of


def serve(connection: Connection, assignment: Assignment) -> None:
    """Make updates until the main process is gone."""
    x, y = SharedArray(*assignment.x).open(), SharedArray(*assignment.y).open()
    problem, params = Recipe(*assignment.recipe).build(x, y)
    layout = layout_of(params)
    shards = shards_of(problem, layout, assignment)
    shard = shards.each[assignment.number]
    all_states, state_bytes = state_pieces(shards)
    part, state = parameter_pieces(shard), all_states[assignment.number]
    parameters = Slots(4 * layout.size, assignment.parameters)
    gradients = Slots(4 * layout.size, assignment.gradients)
    states = Slots(state_bytes, assignment.states)
    update = jax.jit(make_update(shard))
    send(connection, Ready(_compile(update, part, state, assignment.lot)))
    while True:
        message = receive(connection)
        assert isinstance(message, Apply)
        started_s = time.perf_counter()
        source, target = parameters.bytes(message.source), parameters.bytes(message.target)
        source_state = states.bytes(message.source_state)
        target_state = states.bytes(message.target_state)
        results = update(
            [piece.view(source) for piece in part],
            [piece.view(source_state) for piece in state],
            [[piece.view(gradients.bytes(slot)) for piece in part] for slot in message.gradients],
            np.asarray(message.factors, np.float32),
            np.float32(message.rate),
        )
        store(results[0], [piece.view(target) for piece in part])
        store(results[1], [piece.view(target_state) for piece in state])
        send(connection, Applied(message.version, started_s, time.perf_counter()))


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


def _compile(update: Any, part: list[Piece], state: list[Piece], lot: int) -> float:
    """Compile updates of ``lot`` gradients; those of another number when they first come."""
    before_s = time.perf_counter()
    zeros, states = (
        [np.zeros(piece.shape, piece.dtype) for piece in each] for each in (part, state)
    )
    jax.block_until_ready(
        update(zeros, states, [zeros] * lot, np.ones(lot, np.float32), np.float32(1.0))
    )
    return time.perf_counter() - before_s


def store(results: list[Array], targets: list[np.ndarray]) -> None:
    """Write what an update gave; nobody looks at the slots before the message that follows."""
    for result, target in zip(results, targets, strict=True):
        np.copyto(target, np.asarray(result))
