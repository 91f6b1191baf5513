"""The commands as functions: what ``distvi train`` does, from Python."""

from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from distvi import training
from distvi.config.resolve import resolve
from distvi.progress import Progress
from distvi.runs import predict as predict_module
from distvi.runs.folder import Run, load_run
from distvi.runs.own import Own, again, separate
from distvi.system.names import refuse_while_loading

Pathlike = str | PathLike[str]


def train(
    dataset: Any = None,
    targets: Any = None,
    *,
    config: Pathlike | None = None,
    out: Pathlike | None = None,
    set: Iterable[str] = (),
    progress: Progress | None = None,
    **settings: Any,
) -> Run:
    """Train a model and return its run.

    Besides settings there can be objects of one's own:

    * ``model``: any object with ``init(key)`` and ``neg_elbo(params, batch, key, n_data)`` or
      ``loss(params, batch, key)``, see `distvi.Model`. It is tested if it has ``predict``, too.
    * ``data``: ``(x, y)``, ``(x, y, x_test, y_test)`` or a `distvi.Dataset`.
    * ``optimizer``: a transformation of optax, or a function of the learning rates that makes one.
    * ``scheme``: a `distvi.protocol.Scheme`, or a function that makes one.
    * ``rules``: settings of one's own beside names, see `distvi.algorithms.registry`.

    The processes of engine ``local`` make them again: from the class and the fields of an object,
    and from the name of a function, both at the top level of a module or of the running script.
    `distvi.by_name` names a call with its arguments. What cannot travel so is refused with what to
    do; engines ``mesh`` without hosts and ``simulated``, which have no processes of their own, take
    anything.

    Args:
        dataset: Name of a data set, path of a table, or arrays; may instead stand in ``config``.
        targets: Where ``dataset`` is an array of inputs.
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
        SystemExit: another of the engine's hosts leads the run, which is over.

    Example:
        >>> import distvi
        >>> run = distvi.train("digits", epochs=20, model={"hidden_layers": 1})  # doctest: +SKIP
        >>> run.summary["test"]["error_rate"]  # doctest: +SKIP
    """
    refuse_while_loading("distvi.train")
    table, own = separate(dataset, targets, settings)
    name = None if own.data is not None or dataset is None else str(dataset)
    resolved = resolve(name, file=config, settings=table, assignments=set)
    return training.train(resolved, None if out is None else Path(out), progress, own=own)


def resume(
    run: Pathlike | Run,
    *,
    progress: Progress | None = None,
    moved_to: Pathlike | None = None,
    **own: Any,
) -> Run:
    """Go on with a run that was stopped, from its newest checkpoint; see `distvi.training`.

    Args:
        run: The run, or its folder.
        progress: Who is told how it goes.
        moved_to: Where the run's data are now, if they have moved.
        **own: ``data``, ``model``, ``optimizer`` and ``scheme``, if they were given as objects
            that a run folder cannot hold.

    Raises:
        InputError: no run folder, no checkpoint that can be read, other data than before, or
            something has to be given again.
    """
    refuse_while_loading("distvi.resume")
    place = None if moved_to is None else Path(moved_to)
    return training.resume(_path(run), progress, own=again(**own), moved_to=place)


def evaluate(
    run: Pathlike | Run,
    data: Any = None,
    *,
    model: Any = None,
    moved_to: Pathlike | None = None,
    tell: Callable[[str], None] | None = None,
) -> dict[str, float]:
    """Test metrics of a run; see `distvi.runs.predict.evaluate`.

    Args:
        run: The run, or its folder.
        data: A name or a path, arrays ``(x, y)``, or a `distvi.Dataset`; None: the part of the
            run's own data that it held out.
        model: The model, if it was given as an object that a run folder cannot hold.
        moved_to: Where the run's own data are now, if they have moved.
        tell: Called with a line about which rows were tested on.
    """
    if isinstance(data, PathLike):
        data = str(data)
    place = None if moved_to is None else Path(moved_to)
    found = predict_module.evaluate(load_run(_path(run)), data, place, own=Own(model=model))
    if tell is not None:
        tell(f"tested on {found.words}")
    return found.metrics


def predict(run: Pathlike | Run, inputs: Any, out: Pathlike, *, model: Any = None) -> int:
    """Write a run's predictions for inputs; see `distvi.runs.predict.predict`.

    Args:
        run: The run, or its folder.
        inputs: A table's path, or an array.
        out: The file to write.
        model: The model, if it was given as an object that a run folder cannot hold.
    """
    return predict_module.predict(load_run(_path(run)), inputs, Path(out), own=Own(model=model))


def _path(run: Pathlike | Run) -> Path:
    return run.path if isinstance(run, Run) else Path(run)
