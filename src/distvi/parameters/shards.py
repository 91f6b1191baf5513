"""Servers that hold the parameters in parts, each with its part of the server rule's state.

A part is a tree like the parameters, with whole tensors or flat pieces of them, and None where a
tensor lies elsewhere; so rules, and what they keep, work on it as on the whole. To one that treats
all entries alike it does not matter where a tensor ends: it gets its part in as few and as long
pieces as can be, which takes half the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from distvi.algorithms.base import (
    Combined,
    Delivery,
    Encoded,
    Payload,
    Scalar,
    ServerRule,
    ServerState,
    Wire,
)
from distvi.errors import InputError
from distvi.parameters.layout import Layout, Tensor
from distvi.parameters.locality import Locality, locality_of
from distvi.parameters.placement import Placement, Slice, place

Flat = Float[Array, " size"]
States = tuple[ServerState, ...]
"""One for each server."""


@jax.tree_util.register_pytree_node_class
class Runs(tuple[Any, ...]):
    """A server's part as pieces of the flat vector, with no regard to tensors."""

    __slots__ = ()

    def tree_flatten(self) -> tuple[tuple[Any, ...], None]:
        """For JAX."""
        return tuple(self), None

    @classmethod
    def tree_unflatten(cls, _: None, pieces: tuple[Any, ...]) -> "Runs":
        """For JAX."""
        return cls(pieces)


@dataclass(frozen=True, eq=False)
class Shard:
    """One server's part.

    Attributes:
        layout: Of all parameters.
        slices: What this server holds.
        rule: Works on what `take` gives.
        by_run: Whether tensors need not be kept apart.
    """

    layout: Layout
    slices: tuple[Slice, ...]
    rule: ServerRule
    by_run: bool = False

    @cached_property
    def _ends(self) -> list[tuple[int, int]]:
        """Where each slice lies in the flat vector."""
        starts = [self.layout.tensors[slice_.tensor].start for slice_ in self.slices]
        return [(at + s.start, at + s.stop) for at, s in zip(starts, self.slices, strict=True)]

    @cached_property
    def _runs(self) -> list[tuple[int, int]]:
        """The same where neighbours are one."""
        runs: list[tuple[int, int]] = []
        for start, stop in self._ends:
            if runs and runs[-1][1] == start:
                runs[-1] = (runs[-1][0], stop)
            else:
                runs.append((start, stop))
        return runs

    @property
    def starts(self) -> list[int]:
        """Where each leaf of `take` begins in the flat vector."""
        return [start for start, _ in (self._runs if self.by_run else self._ends)]

    def take(self, flat: Flat) -> PyTree:
        """The server's part of a flat vector."""
        if self.by_run:
            return Runs(flat[start:stop] for start, stop in self._runs)
        return self._tree([flat[start:stop] for start, stop in self._ends])

    def by_tensor(self, state: ServerState) -> ServerState:
        """A rule's state with trees of tensors for runs."""

        def split(runs: Any) -> PyTree:
            if not isinstance(runs, Runs):
                return runs
            joined, ends = np.concatenate([np.asarray(run) for run in runs]), self._ends
            cuts = np.cumsum([stop - start for start, stop in ends])[:-1]
            return self._tree(np.split(joined, cuts))

        return jax.tree.map(split, state, is_leaf=lambda node: isinstance(node, Runs))

    def in_runs(self, state: ServerState) -> ServerState:
        """The inverse of `by_tensor`."""
        flat = jax.ShapeDtypeStruct((self.layout.size,), jnp.float32)
        like = jax.eval_shape(lambda flat: self.rule.init(self.take(flat)), flat)
        leaves = iter(jax.tree.leaves(state))

        def join(runs: Any) -> Any:
            if not isinstance(runs, Runs):
                return next(leaves)
            joined = np.concatenate([next(leaves).ravel() for _ in self.slices])
            cuts = np.cumsum([run.size for run in runs])[:-1]
            return Runs(np.split(joined, cuts))

        return jax.tree.map(join, like, is_leaf=lambda node: isinstance(node, Runs))

    def _tree(self, pieces: Sequence[Array | np.ndarray]) -> PyTree:
        leaves: list[Array | np.ndarray | None] = [None] * len(self.layout.tensors)
        for slice_, piece in zip(self.slices, pieces, strict=True):
            tensor = self.layout.tensors[slice_.tensor]
            leaves[slice_.tensor] = piece.reshape(tensor.shape) if _whole(tensor, slice_) else piece
        return self.layout.structure.unflatten(leaves)


@dataclass(frozen=True, eq=False)
class Shards:
    """The parts of all servers, as functions of the flat vector.

    Attributes:
        layout: Of all parameters.
        placement: Who holds what.
        rule: What each does.
        each: The servers.
    """

    layout: Layout
    placement: Placement
    rule: ServerRule
    each: tuple[Shard, ...]

    def init(self, flat: Flat) -> States:
        """The state of the rule on each server before the first update."""
        return tuple(shard.rule.init(shard.take(flat)) for shard in self.each)

    def combine(
        self, flat: Flat, states: States, deliveries: Sequence[Delivery]
    ) -> tuple[Combined, ...]:
        """What contributions to an update come to, on each server.

        Args:
            flat: All parameters.
            states: Of the servers.
            deliveries: Their payloads, and bases if the rule keeps them, are flat vectors.
        """
        combined = []
        for shard, state in zip(self.each, states, strict=True):
            own = [
                Delivery(shard.take(payload), factor, None if base is None else shard.take(base))
                for payload, factor, base in deliveries
            ]
            combined.append(self.rule.combine(shard.take(flat), state, own))
        return tuple(combined)

    def update(
        self, flat: Flat, states: States, combined: Sequence[Combined], rate: Scalar
    ) -> tuple[Flat, States]:
        """One update on all servers; pure, so there is no state in which some have made it.

        Args:
            flat: All parameters.
            states: Of the servers.
            combined: What the contributions come to on each.
            rate: Factor of the learning rate.
        """
        pieces, new_states = [], []
        for shard, state, own in zip(self.each, states, combined, strict=True):
            part, state = self.rule.update(shard.take(flat), state, own, rate)
            pieces += zip(shard.starts, jax.tree.leaves(part), strict=True)
            new_states.append(state)
        return _join(pieces), tuple(new_states)

    def update_by_sum(
        self, flat: Flat, states: States, total: Flat, rate: Scalar
    ) -> tuple[Flat, States]:
        """The same where contributions come to a sum, which needs no servers to be had.

        Args:
            flat: All parameters.
            states: Of the servers.
            total: The sum.
            rate: Factor of the learning rate.
        """
        return self.update(flat, states, [shard.take(total) for shard in self.each], rate)

    def transmit(self, wire: Wire, payload: Payload) -> tuple[list[Encoded], Payload]:
        """See `distvi.algorithms.base.Transmit`."""
        flat, messages, pieces = self.layout.flatten(payload), [], []
        for shard in self.each:
            part = shard.take(flat)
            messages.append(wire.encode(part))
            received = jax.tree.leaves(wire.decode(messages[-1], part))
            pieces += zip(shard.starts, received, strict=True)
        return messages, self.layout.unflatten(_join(pieces))

    def messages_like(self, wire: Wire | None) -> list[Encoded]:
        """Shapes and dtypes of what each server gets of a payload (``jax.ShapeDtypeStruct``)."""

        def messages(flat: Flat) -> list[Encoded]:
            parts = [shard.take(flat) for shard in self.each]
            return parts if wire is None else [wire.encode(part) for part in parts]

        return jax.eval_shape(messages, _shape(self.layout))

    def pushed_bytes(self, wire: Wire | None) -> tuple[int, ...]:
        """What a worker sends each server of a payload; it pulls ``placement.bytes``."""
        return tuple(
            sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(message))
            for message in self.messages_like(wire)
        )

    @cached_property
    def _params(self) -> PyTree:
        return jax.eval_shape(self.layout.unflatten, _shape(self.layout))

    @cached_property
    def joined(self) -> "Shards":
        """The same updates from one server, where it makes no difference who holds an entry.

        For numbers that all lie in one process: it spares cutting and joining them.
        """
        if len(self.each) == 1 or not all(shard.by_run for shard in self.each):
            return self
        return make_shards(self.layout, place("ranges", self.layout.sizes, 1), self.rule)

    def gather(self, states: States) -> ServerState:
        """The state that an unsharded run would have: checkpoints do not depend on servers.

        Its arrays are NumPy's, and may share memory with those that are given: nothing is compiled.
        """
        pieces: dict[Any, list[np.ndarray]] = {}
        for shard, state in zip(self.each, states, strict=True):
            for path, leaf in jax.tree_util.tree_leaves_with_path(shard.by_tensor(state)):
                pieces.setdefault(path, []).append(np.asarray(leaf))

        def gathered(path: Any, like: Any) -> np.ndarray:
            first = pieces[path][0]
            if first.shape == like.shape:  # a whole tensor, or a number that all servers share
                return first
            return np.concatenate(pieces[path]).reshape(like.shape)

        like = jax.eval_shape(self.rule.init, self._params)
        return jax.tree_util.tree_map_with_path(gathered, like)

    def scatter(self, state: ServerState) -> States:
        """The parts of an unsharded run's state; the inverse of `gather`."""
        leaves = jax.tree_util.tree_leaves_with_path(state)
        whole = {path: np.asarray(leaf) for path, leaf in leaves}
        used: dict[Any, int] = {}

        def scattered(path: Any, like: Any) -> np.ndarray:
            leaf = whole[path]
            if leaf.shape == like.shape:
                return leaf
            start = used.get(path, 0)  # servers follow one another along each tensor
            used[path] = start + like.size
            return leaf.ravel()[start : start + like.size]

        def empty(shard: Shard) -> ServerState:
            by_tensor = replace(shard, by_run=False)
            return jax.eval_shape(
                lambda flat: shard.rule.init(by_tensor.take(flat)), _shape(self.layout)
            )

        parts = [jax.tree_util.tree_map_with_path(scattered, empty(shard)) for shard in self.each]
        return tuple(
            shard.in_runs(part) if shard.by_run else part
            for shard, part in zip(self.each, parts, strict=True)
        )


def make_shards(layout: Layout, placement: Placement, rule: ServerRule) -> Shards:
    """The servers of a placement.

    Raises:
        InputError: the rule would give other parameters than unsharded: it looks at whole tensors
            and the placement cuts them, or at all tensors together and there are several servers.
    """
    params = jax.eval_shape(layout.unflatten, _shape(layout))
    locality, cause = locality_of(rule, params)
    if rule.needs_all and len(placement.shards) > 1:
        raise InputError(
            f"rule '{rule.needs_all}' needs all parameters together, but they are on "
            f"{len(placement.shards)} servers; use 1 server"
        )
    _check_locality(layout, placement, locality, cause)
    by_run = rule.is_uniform and locality is Locality.ELEMENTWISE
    each = tuple(Shard(layout, slices, rule, by_run) for slices in placement.shards)
    return Shards(layout, placement, rule, each)


def _check_locality(layout: Layout, placement: Placement, locality: Locality, cause: str) -> None:
    servers = len(placement.shards)
    if locality is Locality.GLOBAL and servers > 1:
        raise InputError(
            f"the server rule needs all parameters together (its computation has {cause} across "
            f"tensors, or draws noise), but they are on {servers} servers; use 1 server, or an "
            "optimizer that works entry by entry, such as adam"
        )
    slices = (slice_ for part in placement.shards for slice_ in part)
    cut = next((s for s in slices if not _whole(layout.tensors[s.tensor], s)), None)
    if locality is Locality.PER_TENSOR and cut is not None:
        raise InputError(
            f"the server rule needs whole tensors (its computation has {cause}), but placement "
            f"'{placement.name}' on {servers} servers cuts {layout.tensors[cut.tensor].name}; "
            "use placement 'greedy' or 'round-robin', or 1 server"
        )


def _join(pieces: list[tuple[int, Array]]) -> Flat:
    """The flat vector of pieces with their starts."""
    pieces.sort(key=lambda piece: piece[0])
    leaves = [leaf.ravel() for _, leaf in pieces]
    return leaves[0] if len(leaves) == 1 else jnp.concatenate(leaves)


def _whole(tensor: Tensor, slice_: Slice) -> bool:
    return slice_.stop - slice_.start == tensor.stop - tensor.start


def _shape(layout: Layout) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((layout.size,), jnp.float32)
