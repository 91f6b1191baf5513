"""A server: makes the updates of its part of the parameters.

It keeps nothing of its own. An update reads the parameters and the optimizer's state of one
version from their slots and writes those of the next into others, in one fused pass; so a server
that is killed on the way loses nothing, and the one that takes its place makes the update again.
"""

import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from distvi.engines.local.arena import SharedArray, Slots
from distvi.engines.local.child import Assignment, pin
from distvi.engines.local.messages import Applied, Apply, Ready, receive, send
from distvi.engines.local.parts import (
    Memory,
    Parts,
    Piece,
    memory_of,
    parameter_pieces,
    parts_of,
    state_pieces,
)
from distvi.engines.local.recipe import Recipe
from distvi.parameters import Shard, layout_of

Update = Callable[..., tuple[list[Array], list[Array]]]


def serve(connection: Connection, assignment: Assignment) -> None:
    """Make updates until the main process is gone."""
    x, y = SharedArray(*assignment.x).open(), SharedArray(*assignment.y).open()
    problem, params = Recipe(*assignment.recipe).build(x, y)
    parts = parts_of(problem, layout_of(params), assignment)
    descriptors = (assignment.parameters, assignment.gradients, assignment.states)
    part = Part(parts, assignment.number, memory_of(parts.shards, *descriptors))
    compile_time_s = part.compile(assignment.lot)
    pin(assignment.cores)
    send(connection, Ready(compile_time_s))
    while True:
        message = receive(connection)
        assert isinstance(message, Apply)
        started_s = time.perf_counter()
        part.apply(message)
        send(connection, Applied(message.version, started_s, time.perf_counter()))


class Strip(NamedTuple):
    """Where a strip's numbers are in a slot, and the program that updates it."""

    part: list[Piece]
    state: list[Piece]
    update: Update


class Part:
    """A server's part of the parameters.

    Args:
        parts: Those of all servers.
        number: Which of them this is.
        memory: Where the numbers are.
    """

    def __init__(self, parts: Parts, number: int, memory: Memory) -> None:
        self._memory = memory
        self._strips: list[Strip] = []
        self._arrays: dict[Any, list[Any]] = {}
        states, _ = state_pieces(parts.shards)
        programs: dict[Any, Update] = {}
        for shard, state, server in zip(parts.shards.each, states, parts.servers, strict=True):
            if server == number:
                part = parameter_pieces(shard)
                kind = tuple(piece.shape for piece in part) if shard.by_entry else shard.spans
                if kind not in programs:
                    programs[kind] = jax.jit(make_update(shard))
                self._strips.append(Strip(part, state, programs[kind]))

    def compile(self, lot: int) -> float:
        """Compile updates of so many gradients; those of another number when they first come.

        Returns:
            The time it took, in seconds.
        """
        before_s = time.perf_counter()
        ones = np.ones(lot, np.float32)
        for strip in {strip.update: strip for strip in self._strips}.values():
            zeros, states = (
                [np.zeros(piece.shape, piece.dtype) for piece in pieces] for pieces in strip[:2]
            )
            jax.block_until_ready(strip.update(zeros, states, [zeros] * lot, ones, np.float32(1.0)))
        return time.perf_counter() - before_s

    def apply(self, order: Apply) -> None:
        """Make an update: read one version, write the next."""
        parameters, gradients, states = self._memory
        target, target_state = parameters.bytes(order.target), states.bytes(order.target_state)
        factors, rate = jnp.asarray(order.factors, jnp.float32), jnp.float32(order.rate)
        for part_at, state_at, update in self._strips:
            part, state = update(
                self._read(parameters, order.source, part_at),
                self._read(states, order.source_state, state_at),
                [self._read(gradients, slot, part_at) for slot in order.gradients],
                factors,
                rate,
            )
            store(part, _views(part_at, target))
            store(state, _views(state_at, target_state))

    def _read(self, slots: Slots, slot: int, pieces: list[Piece]) -> list[Any]:
        """Arrays that XLA reads where they lie.

        To hand a NumPy array over takes longer than to update a strip, so it is done once for each
        slot: what JAX holds is the memory itself, whose content changes. Where it had to make a
        copy, for the alignment's sake, NumPy's view is handed over each time.
        """
        key = (slots.descriptor, slot, pieces[0].start) if pieces else None
        if key not in self._arrays:
            views = _views(pieces, slots.bytes(slot))
            arrays = [jax.device_put(view) for view in views]
            self._arrays[key] = [
                array if array.unsafe_buffer_pointer() == view.ctypes.data else view
                for array, view in zip(arrays, views, strict=True)
            ]
        return self._arrays[key]


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
