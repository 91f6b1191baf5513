"""A problem that another process can build for itself: functions by name, numbers by memory."""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from distvi.engines.base import Params, Problem
from distvi.parameters import Layout, Shards, layout_of, make_shards, place

Build = Callable[[dict[str, Any], np.ndarray, np.ndarray], tuple[Problem, Params]]


class Recipe(NamedTuple):
    """How a process builds the problem.

    Closures cannot travel between processes, so the problem is described: the factory is imported
    there by its name and called as ``factory(settings, x, y)``. It returns the problem with ``x``
    and ``y`` as its examples, and its parameters or their shapes (``jax.ShapeDtypeStruct``).

    Attributes:
        factory: ``package.module:function``.
        settings: Its first argument, for JSON.
    """

    factory: str
    settings: dict[str, Any]

    def build(self, x: np.ndarray, y: np.ndarray) -> tuple[Problem, Params]:
        """The problem, and the shapes of its parameters."""
        module, _, name = self.factory.partition(":")
        build: Build = getattr(importlib.import_module(module), name)
        problem, params = build(self.settings, x, y)
        return problem, jax.eval_shape(lambda: params)


@runtime_checkable
class Described(Protocol):
    """What ``shards_of`` needs to know of a run."""

    @property
    def placement(self) -> str: ...

    @property
    def servers(self) -> int: ...


def shards_of(problem: Problem, layout: Layout, described: Described) -> Shards:
    """The servers' parts, the same in every process.

    Raises:
        InputError: see `distvi.parameters.place` and `distvi.parameters.make_shards`.
    """
    placement = place(described.placement, layout.sizes, described.servers)
    return make_shards(layout, placement, problem.optimizer, problem.hold_until)


__all__ = ["Build", "Recipe", "layout_of", "shards_of"]
