"""How good predictions are: a model's predictions in chunks, and their metrics."""

from distvi.evaluation.predictor import Evaluation, Inputs, Predictor

__all__ = ["Evaluation", "Inputs", "Predictor"]
