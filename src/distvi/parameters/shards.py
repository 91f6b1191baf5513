"""Servers that hold the parameters in parts, each with its part of the optimizer's state.

A part is a tree like the parameters, with whole tensors or flat pieces of them, and None where a
tensor lies elsewhere; so optimizers, and what they keep, work on it as on the whole.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from distvi.errors import InputError
from distvi.parameters.hold import held, hold
from distvi.parameters.layout import Layout, Tensor
from distvi.parameters.placement import Placement, Span
from distvi.parameters.scope import Scope, scope_of

Flat = Float[Array, " size"]
OptStates = tuple[optax.OptState, ...]
"""One for each server."""


@dataclass(frozen=True, eq=False)
class Shard:
    """One server's part.

    Attributes:
        layout: Of all parameters.
        spans: What this server holds.
        optimizer: Works on trees of this part.
    """

    layout: Layout
    spans: tuple[Span, ...]
    optimizer: optax.GradientTransformation

    def take(self, flat: Flat) -> PyTree:
        """The server's part of a flat vector."""
        leaves: list[Array | None] = [None] * len(self.layout.tensors)
        for span in self.spans:
            tensor = self.layout.tensors[span.tensor]
            piece = flat[tensor.start + span.start : tensor.start + span.stop]
            leaves[span.tensor] = piece.reshape(tensor.shape) if _whole(tensor, span) else piece
        return self.layout.structure.unflatten(leaves)

    def apply(
        self, part: PyTree, opt_state: optax.OptState, gradient: PyTree, rate: Array | float
    ) -> tuple[PyTree, optax.OptState]:
        """One update of this part.

        Args:
            part: The parameters of this server.
            opt_state: The optimizer's state for them.
            gradient: Their gradient.
            rate: Factor of the learning rate.
        """
        updates, opt_state = self.optimizer.update(gradient, opt_state, part)
        scaled = jax.tree.map(lambda update: rate * update, updates)
        return optax.apply_updates(part, scaled), opt_state


@dataclass(frozen=True, eq=False)
class Shards:
    """The parts of all servers, as functions of the flat vector.

    Attributes:
        layout: Of all parameters.
        placement: Who holds what.
        whole: The optimizer of all parameters together, as an unsharded run has it.
        each: The servers.
    """

    layout: Layout
    placement: Placement
    whole: optax.GradientTransformation
    each: tuple[Shard, ...]

    def init(self, flat: Flat) -> OptStates:
        """The state of the optimizer on each server before the first update."""
        return tuple(shard.optimizer.init(shard.take(flat)) for shard in self.each)

    def apply(
        self, flat: Flat, opt_states: OptStates, gradient: Flat, rate: Array | float
    ) -> tuple[Flat, OptStates]:
        """One update on all servers; pure, so there is no state in which some have made it."""
        pieces, states = [], []
        for shard, opt_state in zip(self.each, opt_states, strict=True):
            part, opt_state = shard.apply(shard.take(flat), opt_state, shard.take(gradient), rate)
            leaves = self.layout.structure.flatten_up_to(part)
            pieces += [(span, leaves[span.tensor]) for span in shard.spans]
            states.append(opt_state)
        pieces.sort(key=lambda piece: piece[0])
        return jnp.concatenate([leaf.ravel() for _, leaf in pieces]), tuple(states)

    @cached_property
    def _params(self) -> PyTree:
        return jax.eval_shape(self.layout.unflatten, _shape(self.layout))

    def gather(self, opt_states: OptStates) -> optax.OptState:
        """The state that an unsharded run would have: checkpoints do not depend on servers."""
        pieces: dict[Any, list[Array]] = {}
        for opt_state in opt_states:
            for path, leaf in jax.tree_util.tree_leaves_with_path(opt_state):
                pieces.setdefault(path, []).append(leaf)

        def gathered(path: Any, like: Any) -> Array:
            first = pieces[path][0]
            if first.shape == like.shape:  # a whole tensor, or a number that all servers share
                return first
            return jnp.concatenate(pieces[path]).reshape(like.shape)

        like = jax.eval_shape(self.whole.init, self._params)
        return jax.tree_util.tree_map_with_path(gathered, like)

    def scatter(self, opt_state: optax.OptState) -> OptStates:
        """The parts of an unsharded run's state; the inverse of `gather`."""
        whole = dict(jax.tree_util.tree_leaves_with_path(opt_state))
        used: dict[Any, int] = {}

        def scattered(path: Any, like: Any) -> Array:
            leaf = whole[path]
            if leaf.shape == like.shape:
                return leaf
            start = used.get(path, 0)  # servers follow one another along each tensor
            used[path] = start + like.size
            return leaf.ravel()[start : start + like.size]

        def empty(shard: Shard) -> optax.OptState:
            return jax.eval_shape(
                lambda flat: shard.optimizer.init(shard.take(flat)), _shape(self.layout)
            )

        return tuple(
            jax.tree_util.tree_map_with_path(scattered, empty(shard)) for shard in self.each
        )


def make_shards(
    layout: Layout,
    placement: Placement,
    optimizer: optax.GradientTransformation,
    hold_until: PyTree[int] | None = None,
) -> Shards:
    """The servers of a placement.

    Args:
        layout: Of the parameters.
        placement: Who holds what.
        optimizer: Without hold.
        hold_until: See `distvi.parameters.hold.hold`.

    Raises:
        InputError: the optimizer would give other parameters than unsharded: it looks at whole
            tensors and the placement cuts them, or at all tensors together and there are
            several servers.
    """
    params = jax.eval_shape(layout.unflatten, _shape(layout))
    _check_scope(layout, placement, *scope_of(optimizer, params))
    whole = hold(optimizer, hold_until)
    if whole is optimizer:
        return Shards(layout, placement, whole, _each(layout, placement, lambda spans: optimizer))
    until = layout.structure.flatten_up_to(hold_until)

    def own(spans: tuple[Span, ...]) -> optax.GradientTransformation:
        here = {span.tensor for span in spans}
        tree = [first if number in here else None for number, first in enumerate(until)]
        return held(optimizer, layout.structure.unflatten(tree))

    return Shards(layout, placement, whole, _each(layout, placement, own))


def _each(
    layout: Layout,
    placement: Placement,
    optimizer: Callable[[tuple[Span, ...]], optax.GradientTransformation],
) -> tuple[Shard, ...]:
    return tuple(Shard(layout, spans, optimizer(spans)) for spans in placement.parts)


def _check_scope(layout: Layout, placement: Placement, scope: Scope, cause: str) -> None:
    servers = len(placement.parts)
    if scope is Scope.WHOLE and servers > 1:
        raise InputError(
            f"the optimizer needs all parameters together (its computation has {cause} across "
            f"tensors, or draws noise), but they are on {servers} servers; use 1 server, or an "
            "optimizer that works entry by entry, such as adam"
        )
    spans = (span for part in placement.parts for span in part)
    cut = next((s for s in spans if not _whole(layout.tensors[s.tensor], s)), None)
    if scope is Scope.TENSOR and cut is not None:
        raise InputError(
            f"the optimizer needs whole matrices (its computation has {cause}), but placement "
            f"'{placement.name}' on {servers} servers cuts {layout.tensors[cut.tensor].name}; "
            "use placement 'greedy' or 'round-robin', or 1 server"
        )


def _whole(tensor: Tensor, span: Span) -> bool:
    return span.stop - span.start == tensor.stop - tensor.start


def _shape(layout: Layout) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((layout.size,), jnp.float32)
