"""The parts of a run: its data, model, key and predictor, from its configuration."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from distvi import data
from distvi.config.data import MEMORY, OF_TABLES, DataSettings
from distvi.config.run import RunConfig
from distvi.data import Dataset, Schema, Standardization, TableOptions, Task
from distvi.errors import InputError
from distvi.evaluation.predictor import Predictor
from distvi.models import Trainable, as_model, build_model
from distvi.models.own import made
from distvi.runs.folder import Run
from distvi.runs.own import dataset_of
from distvi.system.names import OWN, located
from distvi.system.programs import OWN_PROGRAMS, Programs

# The noise of update u has the key fold_in(run's key, u); these two lie beyond any update.
INIT, PREDICT = 2**32 - 1, 2**32 - 2


def load_dataset(settings: DataSettings, given: Any = None) -> Dataset:
    """The data set that the settings name.

    Args:
        settings: The table ``[data]``.
        given: The data themselves, where they were made in memory; see `distvi.runs.own.Own`.

    Raises:
        InputError: see `distvi.data.load`; or data in memory are not given.
    """
    if settings.dataset == MEMORY:
        if given is None:
            raise InputError(
                "the data of this run were made in memory; give them again, from Python: data=(x, "
                "y), or the distvi.Dataset"
            )
        return dataset_of(given, settings)
    if given is not None:
        raise InputError(f"data are given, but those of this run are {settings.dataset}")
    return data.load(settings.dataset, data_dir=settings.data_dir, **reading(settings))


def reading(settings: DataSettings) -> dict[str, Any]:
    """How a table is read and split: arguments of `distvi.data.load` and `distvi.data.describe`.

    Raises:
        InputError: a list of test rows is chosen from a file of them, which is missing.
    """
    test_indices: Any = settings.test_indices
    if settings.split is not None and not isinstance(test_indices, str):
        raise InputError(
            f"split is {settings.split}, which chooses a list of a file of test rows, but no such "
            "file is given; add --test-indices FILE"
        )
    if isinstance(test_indices, str):
        test_indices = data.read_test_indices(test_indices, settings.split)
    elif test_indices is not None:
        test_indices = np.asarray(test_indices, np.int64)
    return {
        "target": settings.target,
        "task": None if settings.task is None else Task(settings.task),
        "test_fraction": settings.test_fraction,
        "split_seed": settings.split_seed,
        "test_indices": test_indices,
        "options": table_options(settings),
    }


def table_options(settings: DataSettings) -> TableOptions:
    """How the run's tables are read."""
    return TableOptions(**settings.model_dump(include=set(OF_TABLES)))


def own_config(run: Run, moved_to: Path | None) -> RunConfig:
    """A run's configuration, with the place where its data are now.

    Args:
        run: The run.
        moved_to: The table or folder, or for a data set with a name the folder of its files; None:
            where they were.

    Raises:
        InputError: they are not there.
    """
    settings = run.config.data
    is_named = settings.dataset in {entry.name for entry in data.available()}
    if moved_to is not None:
        if settings.dataset == MEMORY:
            raise InputError("the data of this run were made in memory; give them again: data=...")
        place = {"data_dir" if is_named else "dataset": str(moved_to)}
        settings = locate(settings.model_copy(update=place))
    if not (is_named or settings.dataset == MEMORY or Path(settings.dataset).exists()):
        raise InputError(
            f"{settings.dataset}, from which {run.path} learnt, is not there; if it has moved, say "
            "where to: --data PATH"
        )
    return run.config.model_copy(update={"data": settings})


def check_same_data(dataset: Dataset, run: Run) -> None:
    """Refuse data that are no longer those that a run began with.

    Raises:
        InputError: other columns, another number of rows, other values, or another order.
    """
    name = "what is given" if run.config.data.dataset == MEMORY else dataset.name
    if not run.schema.has_columns_of(dataset.schema) or len(dataset.train) != run.n_train:
        raise InputError(
            f"{name} is not the data set that {run.path} began with: other columns, or another "
            "number of rows"
        )
    if run.checksum and dataset.checksum() != run.checksum:
        raise InputError(
            f"{name} is not what it was when {run.path} began: other values, or another order of "
            "rows; which of them are held out cannot be told any more. Bring the data back, or say "
            "where they are (--data PATH); to test on all rows of a copy: distvi evaluate "
            f"{run.path} COPY"
        )


def model_of(config: RunConfig, schema: Schema, own: Any = None) -> Trainable:
    """The model of a run.

    Args:
        config: Of the run.
        schema: Of its data.
        own: The model itself, where it was given as an object.

    Raises:
        InputError: the settings do not suit the data, or a model of one's own cannot be made again.
    """
    if own is not None:
        if config.model.kind != OWN:
            raise InputError(f"a model is given, but that of this run is {config.model.kind}")
        return as_model(made(own))
    return build_model(
        config.model,
        inputs=len(schema.inputs),
        outputs=len(schema.classes) or len(schema.targets),
        task=schema.task.value,
        seed=config.training.seed,
    )


def make_predictor(
    config: RunConfig,
    model: Any,
    standardization: Standardization,
    task: Task,
    samples: int | None = None,
    programs: Programs = OWN_PROGRAMS,
) -> Predictor:
    """Predictions with so many samples, or with the run's number, drawn from the run's key."""
    key = jax.random.fold_in(run_key(config), PREDICT)
    count: int = samples or config.model.test_samples
    return Predictor(model, standardization, task, count, key, programs)


def run_key(config: RunConfig) -> Array:
    """The key that all noise of a run is drawn from."""
    # The kind whose two words `numerics.noise` takes, whatever kind JAX is told to prefer.
    return jax.random.key(config.training.seed, impl="threefry2x32")


def locate_parts(config: RunConfig) -> dict[str, Any]:
    """Tables of a configuration with paths and names that mean the same from any folder."""
    training, algorithm, model = config.training, config.algorithm, config.model
    rules = tuple(located(name) for name in algorithm.rules)
    tables: dict[str, Any] = {
        "data": locate(config.data),
        "training": training.model_copy(update={"optimizer": located(training.optimizer)}),
        "algorithm": algorithm.model_copy(
            update={"scheme": located(algorithm.scheme), "rules": rules}
        ),
    }
    if model.kind == OWN and isinstance(model.object, str):
        tables["model"] = model.model_copy(update={"object": located(model.object)})
    return tables


def locate(settings: DataSettings) -> DataSettings:
    """Paths that mean the same from any folder and shell, so that run.toml repeats the run."""
    paths = {name: getattr(settings, name) for name in ("dataset", "data_dir", "test_indices")}
    if settings.dataset == MEMORY:
        del paths["dataset"]
    known = {entry.name: entry for entry in data.available()}
    if entry := known.get(settings.dataset):
        del paths["dataset"]
        if entry.files or entry.table:
            paths["data_dir"] = str(data.data_folder(settings.data_dir))
    absolute = {n: str(Path(path).resolve()) for n, path in paths.items() if isinstance(path, str)}
    return settings.model_copy(update=absolute)
