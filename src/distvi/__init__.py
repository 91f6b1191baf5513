"""Distributed stochastic variational inference of Bayesian deep models.

The names below are the package's public interface; each is imported when it is first used, so
that the command line answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distvi.api import evaluate, predict, resume, train
    from distvi.config.run import RunConfig, resolve
    from distvi.data import Dataset, load
    from distvi.errors import DistviError, InputError, RunFailed
    from distvi.models import Batch, DeepGP, Model, Predictive, build_model
    from distvi.runs.folder import Run, load_run
    from distvi.training.trainer import Interrupted

__version__ = "0.1.0"

_HOMES = {
    "distvi.api": ("evaluate", "predict", "resume", "train"),
    "distvi.config.run": ("RunConfig", "resolve"),
    "distvi.data": ("Dataset", "load"),
    "distvi.errors": ("DistviError", "InputError", "RunFailed"),
    "distvi.models": ("Batch", "DeepGP", "Model", "Predictive", "build_model"),
    "distvi.runs.folder": ("Run", "load_run"),
    "distvi.training.trainer": ("Interrupted",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Batch",
    "Dataset",
    "DeepGP",
    "DistviError",
    "InputError",
    "Interrupted",
    "Model",
    "Predictive",
    "Run",
    "RunConfig",
    "RunFailed",
    "build_model",
    "evaluate",
    "load",
    "load_run",
    "predict",
    "resolve",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'distvi' has no attribute '{name}'")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
