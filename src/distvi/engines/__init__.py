"""Ways to compute the updates of a run; each is handed functions and knows no model."""

from typing import TYPE_CHECKING

from distvi.system.lazy import lazy

if TYPE_CHECKING:
    from distvi.engines.base import (
        Built,
        Diverged,
        Driven,
        Engine,
        Examples,
        Halted,
        Problem,
        Recipe,
        Start,
        TrainState,
    )

__all__ = [
    "Built",
    "Diverged",
    "Driven",
    "Engine",
    "Examples",
    "Halted",
    "Problem",
    "Recipe",
    "Start",
    "TrainState",
]

# Imported when they are first used: the command line reads the engines' settings without JAX.
__getattr__ = lazy(__name__, {"distvi.engines.base": __all__})
