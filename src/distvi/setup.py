"""From a configuration to what a run is made of, with every input checked before anything runs."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import Array

from distvi import data, optimizers
from distvi.config import DataSettings, EngineSettings, RunConfig, TrainingSettings
from distvi.data import Dataset, Examples, Schema, Standardization, Task, batch_indices
from distvi.distributed import Deployment, prepare_deployment
from distvi.engines import Problem, mesh
from distvi.engines.blocks import Devices
from distvi.engines.local import Recipe
from distvi.engines.simulated import CLUSTERS
from distvi.errors import InputError
from distvi.evaluation import Predictor
from distvi.models import Batch, Model, build_model
from distvi.runs.folder import Run

DEFAULT_GRADIENTS = 4000  # a minute or less on a laptop for the models one meets first
DEFAULT_BATCH_SIZE = 200

# The noise of update u has the key fold_in(run's key, u); these two lie beyond any update.
_INIT, _PREDICT = 2**32 - 1, 2**32 - 2
MOST_GRADIENTS = _PREDICT - 1

_COMPILED_FAST = {"xla_backend_optimization_level": 0}  # of a program that runs once


@dataclass(frozen=True, eq=False)
class Setup:
    """A run's parts, built and checked.

    Attributes:
        config: The configuration with every default that depends on the data written out.
        dataset: Training and test examples.
        standardization: Learnt on the training part.
        model: What is trained.
        schedule: Learning rate of every update.
        updates: How many there are.
        devices: Where they are computed.
        deployment: The parameter server, for the engines that have one.
    """

    config: RunConfig
    dataset: Dataset
    standardization: Standardization
    model: Model
    schedule: optax.Schedule
    updates: int
    devices: Devices
    deployment: Deployment | None = None

    @property
    def batch_size(self) -> int:
        """Examples per gradient."""
        assert self.config.training.batch_size is not None
        return self.config.training.batch_size

    @cached_property
    def shapes(self) -> Any:
        """Of the parameters (``jax.ShapeDtypeStruct``)."""
        return jax.eval_shape(self.model.init, run_key(self.config))

    def initial_params(self) -> Any:
        """Parameters before the first update."""
        key = jax.random.fold_in(run_key(self.config), _INIT)
        return jax.jit(self.model.init, compiler_options=_COMPILED_FAST)(key)

    def problem(self, params: Any) -> Problem:
        """What the engine is handed.

        Raises:
            InputError: an unknown optimizer, or options that it does not take.
        """
        training, train = self.config.training, self.dataset.train
        model, standardization, n_data = self.model, self.standardization, len(train)

        def loss(params: Any, x: Array, y: Array, index: Array, key: Array) -> Array:
            batch = Batch(*standardization.standardize(x, y), index)
            return model.neg_elbo(params, batch, key, n_data)

        block = training.shuffle_block
        assert block is not None

        def indices(position: int, count: int) -> np.ndarray:
            return batch_indices(training.seed, n_data, position, count, block)

        optimizer = optimizers.build(training.optimizer, self.schedule, training.optimizer_options)
        hold_until = getattr(model, "hold_until", None)
        return Problem(
            loss=loss,
            optimizer=optimizer,
            examples=train,
            indices=indices,
            batch_size=self.batch_size,
            key=run_key(self.config),
            hold_until=hold_until(params) if hold_until else None,
        )

    def recipe(self) -> Recipe:
        """How another process builds the problem, given the training examples."""
        settings = {
            "shapes": jax.tree.map(lambda leaf: list(leaf.shape), self.shapes),
            "config": self.config.model_dump(mode="json"),
            "schema": self.dataset.schema.to_json(),
            "standardization": self.standardization.to_json(),
            "updates": self.updates,
        }
        return Recipe(f"{__name__}:{rebuild.__name__}", settings)

    def predictor(self) -> Predictor:
        """The model's predictions."""
        return make_predictor(self.config, self.model, self.standardization, self.dataset.task)


def prepare(config: RunConfig, standardization: Standardization | None = None) -> Setup:
    """Read the data, build the model, check everything against everything.

    Args:
        config: From `distvi.config.resolve`.
        standardization: Of the run to go on with; None: learnt here.

    Raises:
        InputError: the data are bad, or a setting does not suit them.
    """
    # Before the data are read: the first computation of JAX settles how many devices there are.
    deployment = None if config.engine.engine == "mesh" else prepare_deployment(config.engine)
    devices = mesh.devices(1 if deployment else config.engine.workers)
    dataset = load_dataset(config.data)
    if standardization is None:
        mode = dataset.inputs_mode if config.data.inputs == "auto" else config.data.inputs
        standardization = Standardization.learn(dataset.train, dataset.task, mode)
    training, updates = _resolve_lengths(
        config.training, len(dataset.train), deployment.gradients_per_update if deployment else 1
    )
    if training.shuffle_block is None:
        block = data.default_block(dataset.train.x)
        training = training.model_copy(update={"shuffle_block": block})
    engine = config.engine.model_copy(update={"workers": len(devices)})
    if deployment:
        engine = _absolute_cluster(deployment.settings)
    located = _resolve_split(locate(config.data), dataset)
    config = config.model_copy(update={"data": located, "training": training, "engine": engine})
    setup = _assemble(config, dataset, standardization, updates, devices, deployment)
    optimizers.build(training.optimizer, setup.schedule, training.optimizer_options)
    return setup


def _assemble(
    config: RunConfig,
    dataset: Dataset,
    standardization: Standardization,
    updates: int,
    devices: Devices,
    deployment: Deployment | None,
) -> Setup:
    training = config.training
    schedule = optimizers.schedule(
        training.schedule,
        training.learning_rate,
        updates,
        warmup_updates=training.warmup_updates,
        final=training.final_rate,
    )
    model = model_of(config, dataset.schema)
    return Setup(config, dataset, standardization, model, schedule, updates, devices, deployment)


def rebuild(settings: dict[str, Any], x: np.ndarray, y: np.ndarray) -> tuple[Problem, Any]:
    """A run's problem in another process: the factory of `Setup.recipe`.

    Args:
        settings: Of the recipe.
        x: Inputs of the training examples, as stored.
        y: Their targets.
    """
    schema = Schema.from_json(settings["schema"])
    dataset = Dataset(
        name=schema.name,
        task=schema.task,
        train=Examples(x, y),
        test=Examples(x[:0], y[:0]),
        classes=schema.classes,
        inputs=schema.inputs,
        targets=schema.targets,
    )
    config = RunConfig.model_validate(settings["config"])
    standardization = Standardization.from_json(settings["standardization"])
    setup = _assemble(config, dataset, standardization, settings["updates"], [], None)
    # Initial values are not drawn here: that takes half a second, which a server has no use for.
    params = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(tuple(shape), np.float32),
        settings["shapes"],
        is_leaf=lambda node: isinstance(node, list),
    )
    return setup.problem(params), params


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
    key = jax.random.fold_in(run_key(config), _PREDICT)
    return Predictor(model, standardization, task, config.model.test_samples, key)


def run_key(config: RunConfig) -> Array:
    """The key that all noise of a run is drawn from."""
    # The kind whose two words `numerics.noise` takes, whatever kind JAX is told to prefer.
    return jax.random.key(config.training.seed, impl="threefry2x32")


def _resolve_split(settings: DataSettings, dataset: Dataset) -> DataSettings:
    """Write out how the test rows were drawn, if they were."""
    if not dataset.drawn:
        return settings
    fraction, seed = settings.test_fraction, settings.split_seed
    drawn = {
        "test_fraction": data.DEFAULT_TEST_FRACTION if fraction is None else fraction,
        "split_seed": data.DEFAULT_SPLIT_SEED if seed is None else seed,
    }
    return settings.model_copy(update=drawn)


def _resolve_lengths(
    training: TrainingSettings, n_train: int, gradients_per_update: int
) -> tuple[TrainingSettings, int]:
    """Write out what depends on the number of examples; and the number of updates."""
    batch_size = training.batch_size or min(DEFAULT_BATCH_SIZE, n_train)
    if batch_size > n_train:
        raise InputError(
            f"the batch size is {batch_size}, but there are {n_train} training examples; "
            f"choose at most {n_train}"
        )
    updates: int | float = training.updates or DEFAULT_GRADIENTS / gradients_per_update
    if training.epochs is not None:
        updates = training.epochs * n_train / (batch_size * gradients_per_update)
    if updates * gradients_per_update > MOST_GRADIENTS:
        raise InputError(
            f"the run would have {updates:.6g} updates of {gradients_per_update} gradients; a run "
            f"has at most {MOST_GRADIENTS} gradients, so choose fewer epochs or updates"
        )
    updates = max(1, round(updates))
    defaults = {
        "evaluate_every": max(1, updates // 10),
        "report_every": max(1, updates // 200),
        "checkpoint_every": max(1, updates // 10),
    }
    missing = {name: value for name, value in defaults.items() if getattr(training, name) is None}
    length = {} if training.epochs is not None else {"updates": updates}
    settled = {"batch_size": batch_size, **length, **missing}
    return training.model_copy(update=settled), updates


def _absolute_cluster(settings: EngineSettings) -> EngineSettings:
    if settings.cluster in CLUSTERS:
        return settings
    return settings.model_copy(update={"cluster": str(Path(settings.cluster).resolve())})


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
