"""Distributed stochastic variational inference of Bayesian deep models.

The names below are the package's public interface; each is imported when it is first used, so
that the command line answers at once.
"""

from typing import TYPE_CHECKING

from distvi.system.lazy import lazy

if TYPE_CHECKING:
    from distvi.api import evaluate, predict, resume, train
    from distvi.config.resolve import resolve
    from distvi.config.run import RunConfig
    from distvi.data import Dataset, load
    from distvi.errors import DistviError, InputError, RunFailed
    from distvi.models import Batch, DeepGP, Model, Predictive, build_model
    from distvi.runs.folder import Run, load_run
    from distvi.system.names import by_name
    from distvi.training.trainer import Interrupted

__version__ = "0.1.0"

_HOMES = {
    "distvi.api": ("evaluate", "predict", "resume", "train"),
    "distvi.config.resolve": ("resolve",),
    "distvi.config.run": ("RunConfig",),
    "distvi.data": ("Dataset", "load"),
    "distvi.errors": ("DistviError", "InputError", "RunFailed"),
    "distvi.models": ("Batch", "DeepGP", "Model", "Predictive", "build_model"),
    "distvi.runs.folder": ("Run", "load_run"),
    "distvi.system.names": ("by_name",),
    "distvi.training.trainer": ("Interrupted",),
}
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
    "by_name",
    "evaluate",
    "load",
    "load_run",
    "predict",
    "resolve",
    "resume",
    "train",
]


__getattr__ = lazy(__name__, _HOMES)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
