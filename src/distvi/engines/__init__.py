"""Ways to compute the updates of a run; each is handed functions and knows no model."""

from distvi.engines.base import Diverged, Engine, Examples, Halted, Problem, TrainState

__all__ = ["Diverged", "Engine", "Examples", "Halted", "Problem", "TrainState"]
