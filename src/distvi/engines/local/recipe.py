"""A problem that another process can build for itself: functions by name, numbers by memory."""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from distvi.engines.base import Params, Problem

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
