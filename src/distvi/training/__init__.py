"""One run: a plan from its configuration, then the updates and what they leave behind."""

from distvi.training.start import resume, train
from distvi.training.trainer import Interrupted

__all__ = ["Interrupted", "resume", "train"]
