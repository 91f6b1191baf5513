"""The parts of a run: its data, model, key and predictor, from its configuration."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from distvi import data
from distvi.config.data import DataSettings
from distvi.config.run import RunConfig
from distvi.data import Dataset, Schema, Standardization, Task
from distvi.errors import InputError
from distvi.evaluation.predictor import Predictor
from distvi.models import Model, build_model
from distvi.runs.folder import Run

# The noise of update u has the key fold_in(run's key, u); these two lie beyond any update.
INIT, PREDICT = 2**32 - 1, 2**32 - 2


def load_dataset(settings: DataSettings) -> Dataset:
    """The data set that the settings name.

    Raises:
        InputError: see `distvi.data.load`.
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
    return data.load(
        settings.dataset,
        data_dir=settings.data_dir,
        target=settings.target,
        task=None if settings.task is None else Task(settings.task),
        test_fraction=settings.test_fraction,
        split_seed=settings.split_seed,
        test_indices=test_indices,
    )


def check_same_data(dataset: Dataset, run: Run) -> None:
    """Refuse data that are no longer those that a run began with.

    Raises:
        InputError: other columns, or another number of training examples.
    """
    if dataset.schema != run.schema or len(dataset.train) != run.n_train:
        raise InputError(
            f"{run.config.data.dataset} is not the data set that {run.path} began with: other "
            "columns, or another number of rows"
        )


def model_of(config: RunConfig, schema: Schema) -> Model:
    """The model of a run."""
    return build_model(
        config.model,
        inputs=len(schema.inputs),
        outputs=len(schema.classes) or len(schema.targets),
        task=schema.task.value,
        seed=config.training.seed,
    )


def make_predictor(
    config: RunConfig, model: Model, standardization: Standardization, task: Task
) -> Predictor:
    """Predictions with the run's number of samples, drawn from the run's key."""
    key = jax.random.fold_in(run_key(config), PREDICT)
    return Predictor(model, standardization, task, config.model.test_samples, key)


def run_key(config: RunConfig) -> Array:
    """The key that all noise of a run is drawn from."""
    # The kind whose two words `numerics.noise` takes, whatever kind JAX is told to prefer.
    return jax.random.key(config.training.seed, impl="threefry2x32")


def locate(settings: DataSettings) -> DataSettings:
    """Paths that mean the same from any folder and shell, so that run.toml repeats the run."""
    paths = {name: getattr(settings, name) for name in ("dataset", "data_dir", "test_indices")}
    known = {entry.name: entry for entry in data.available()}
    if entry := known.get(settings.dataset):
        del paths["dataset"]
        if entry.files or entry.table:
            paths["data_dir"] = str(data.data_folder(settings.data_dir))
    absolute = {n: str(Path(path).resolve()) for n, path in paths.items() if isinstance(path, str)}
    return settings.model_copy(update=absolute)
