"""The servers' data plane: the flat layout, its placement, and the optimizer on each server."""

from distvi.parameters.hold import hold
from distvi.parameters.layout import Layout, Tensor, layout_of
from distvi.parameters.placement import PARAMETER_BYTES, PLACEMENTS, Placement, Span, place
from distvi.parameters.scope import Scope, scope_of
from distvi.parameters.shards import Flat, Shard, Shards, make_shards
from distvi.parameters.store import Snapshot, Store, rates

__all__ = [
    "PARAMETER_BYTES",
    "PLACEMENTS",
    "Flat",
    "Layout",
    "Placement",
    "Scope",
    "Shard",
    "Shards",
    "Snapshot",
    "Span",
    "Store",
    "Tensor",
    "hold",
    "layout_of",
    "make_shards",
    "place",
    "rates",
    "scope_of",
]
