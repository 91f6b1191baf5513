"""One run: a plan from its configuration, then the updates and what they leave behind."""

from distvi.training.trainer import Interrupted, resume, train

__all__ = ["Interrupted", "resume", "train"]
