"""The commands as functions: what ``distvi train`` does, from Python."""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from distvi import training
from distvi.config.resolve import resolve
from distvi.progress import Progress
from distvi.runs import predict as predict_module
from distvi.runs.folder import Run, load_run

Pathlike = str | PathLike[str]


def train(
    dataset: Pathlike | None = None,
    *,
    config: Pathlike | None = None,
    out: Pathlike | None = None,
    set: Iterable[str] = (),
    progress: Progress | None = None,
    **settings: Any,
) -> Run:
    """Train a model and return its run.

    Args:
        dataset: Name of a data set or path of a table; may instead stand in ``config``.
        config: A TOML file; the arguments here take precedence over it.
        out: The run folder to make; by default the next free ``runs/NAME-0001``.
        set: Assignments such as ``"model.width=50"``.
        progress: Who is told how it goes; by default nobody. See `distvi.progress`; for a web page
            ``distvi.dashboard.Dashboard()``, for both ``Callbacks(Lines(), Dashboard())``.
        **settings: The command line's options, such as ``batch_size=500``, and whole tables,
            such as ``model={"hidden_layers": 1}`` or ``model=DeepGPSettings(hidden_layers=1)``.

    Raises:
        InputError: the input is wrong; nothing has been written.
        RunFailed: the ELBO was not finite; the last good checkpoint is kept.

    Example:
        >>> import distvi
        >>> run = distvi.train("digits", epochs=20, model={"hidden_layers": 1})  # doctest: +SKIP
        >>> run.summary["test"]["error_rate"]  # doctest: +SKIP
    """
    name = None if dataset is None else str(dataset)
    resolved = resolve(name, file=config, settings=settings, assignments=set)
    return training.train(resolved, None if out is None else Path(out), progress)


def resume(run: Pathlike | Run, *, progress: Progress | None = None) -> Run:
    """Go on with a run that was stopped, from its newest checkpoint; see `distvi.training`."""
    return training.resume(_path(run), progress)


def evaluate(run: Pathlike | Run, dataset: Pathlike | None = None) -> dict[str, float]:
    """Test metrics of a run; see `distvi.runs.predict.evaluate`."""
    return predict_module.evaluate(load_run(_path(run)), None if dataset is None else str(dataset))


def predict(run: Pathlike | Run, inputs: Pathlike, out: Pathlike) -> int:
    """Write a run's predictions for a table of inputs; see `distvi.runs.predict.predict`."""
    return predict_module.predict(load_run(_path(run)), Path(inputs), Path(out))


def _path(run: Pathlike | Run) -> Path:
    return run.path if isinstance(run, Run) else Path(run)
