"""The servers' data plane: the flat layout, its placement, and the optimizer on each server."""

from distvi.parameters.freeze import freeze
from distvi.parameters.layout import Layout, Tensor, layout_of
from distvi.parameters.locality import Locality, locality_of
from distvi.parameters.placement import PARAMETER_BYTES, PLACEMENTS, Placement, Slice, place
from distvi.parameters.shards import Flat, Shard, Shards, make_shards
from distvi.parameters.store import ParameterVersion, Store, rates

__all__ = [
    "PARAMETER_BYTES",
    "PLACEMENTS",
    "Flat",
    "Layout",
    "Locality",
    "ParameterVersion",
    "Placement",
    "Shard",
    "Shards",
    "Slice",
    "Store",
    "Tensor",
    "freeze",
    "layout_of",
    "locality_of",
    "make_shards",
    "place",
    "rates",
]
