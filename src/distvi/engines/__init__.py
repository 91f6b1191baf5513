"""Ways to compute the updates of a run; each is handed functions and knows no model."""

from distvi.engines.base import Diverged, Driven, Engine, Examples, Halted, Problem, TrainState

__all__ = ["Diverged", "Driven", "Engine", "Examples", "Halted", "Problem", "TrainState"]
