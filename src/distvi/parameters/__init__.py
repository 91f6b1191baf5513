"""The servers' data plane: the flat layout, its placement, and a server rule on each part."""

from distvi.parameters.layout import Layout, Tensor, layout_of
from distvi.parameters.locality import Locality, locality_of
from distvi.parameters.placement import PLACEMENTS, Placement, Slice, place
from distvi.parameters.shards import Flat, Shard, Shards, States, make_shards
from distvi.parameters.store import ParameterVersion, Store

__all__ = [
    "PLACEMENTS",
    "Flat",
    "Layout",
    "Locality",
    "ParameterVersion",
    "Placement",
    "Shard",
    "Shards",
    "Slice",
    "States",
    "Store",
    "Tensor",
    "layout_of",
    "locality_of",
    "make_shards",
    "place",
]
