"""From a configuration to what a run is made of, with every input checked before anything runs."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import Array

from distvi import data
from distvi.config.run import DataSettings, EngineSettings, RunConfig, TrainingSettings
from distvi.data import Dataset, Examples, Schema, Standardization, batch_indices
from distvi.engines import Problem
from distvi.engines.local import Recipe
from distvi.engines.mesh import engine as mesh
from distvi.engines.mesh.blocks import Devices
from distvi.engines.simulated import CLUSTERS
from distvi.errors import InputError
from distvi.evaluation.predictor import Predictor
from distvi.models import Batch, Model
from distvi.runs.parts import INIT, PREDICT, load_dataset, locate, make_predictor, model_of, run_key
from distvi.training import optimizers
from distvi.training.deployment import Deployment, prepare_deployment

DEFAULT_GRADIENTS = 4000  # a minute or less on a laptop for the models one meets first
DEFAULT_BATCH_SIZE = 200

MOST_GRADIENTS = PREDICT - 1

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
        key = jax.random.fold_in(run_key(self.config), INIT)
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
        freeze_until = getattr(model, "freeze_until", None)
        return Problem(
            loss=loss,
            optimizer=optimizer,
            examples=train,
            indices=indices,
            batch_size=self.batch_size,
            key=run_key(self.config),
            freeze_until=freeze_until(params) if freeze_until else None,
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
        config: From `distvi.config.run.resolve`.
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
