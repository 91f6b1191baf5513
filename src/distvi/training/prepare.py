"""From a configuration to a plan: every input read and checked before anything runs."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import Array

from distvi import data
from distvi.aggregation import scheme_named
from distvi.aggregation.registry import SCHEMES, register, typed_options
from distvi.algorithms.base import WorkerRule
from distvi.algorithms.draft import Draft
from distvi.algorithms.gradient import gradient, optimize
from distvi.algorithms.registry import draft_of, given_options
from distvi.config.data import DataSettings
from distvi.config.run import RunConfig
from distvi.config.training import TrainingSettings
from distvi.data import Dataset, Standardization
from distvi.errors import InputError
from distvi.protocol import Scheme
from distvi.runs.own import NOTHING, Own
from distvi.runs.parts import (
    PREDICT,
    load_dataset,
    locate_parts,
    model_of,
)
from distvi.system.names import OWN, find, is_name
from distvi.system.settings import Settings
from distvi.training.plan import Plan, rules_of

DEFAULT_GRADIENTS = 4000  # a minute or less on a laptop for the models one meets first
DEFAULT_BATCH_SIZE = 200
MOST_GRADIENTS = PREDICT - 1
AUTO = "auto"
STALE_ADAM = {"b1": 0.0, "b2": 0.95}  # docs/asynchrony.md has the measurements
MANY_REQUESTS = 100.0
SAMPLES_DURING = 10  # of tests but the last
SHARE = 0.1  # of wall-clock time, for those


def prepare(
    config: RunConfig,
    standardization: Standardization | None = None,
    own: Own = NOTHING,
    *,
    dataset: Dataset | None = None,
) -> Plan:
    """Read the data, build the model, check everything against everything.

    Args:
        config: From `distvi.config.resolve.resolve`.
        standardization: Of the run to go on with; None: learnt here.
        own: Objects that the configuration cannot hold.
        dataset: That the configuration names, where it is at hand already.

    Raises:
        InputError: the data are bad, or a setting does not suit them.
    """
    # Before the data are read: the first computation of JAX settles how many devices there are.
    _check_devices()
    engine = config.engine.written_out()
    algorithm = config.algorithm
    if algorithm.scheme != OWN:
        _find_scheme(algorithm.scheme)
        typed = typed_options(algorithm.scheme, algorithm.scheme_options)
        algorithm = algorithm.model_copy(update={"scheme_options": typed})
    config = config.model_copy(update={"algorithm": algorithm, "engine": engine})
    rules = rules_of(config)
    # The scheme, and so the requests, are not known yet: more than any rule could miss.
    worker = _untraced(rules, MANY_REQUESTS, engine.contributors)
    scheme = _scheme(config, own, worker)
    typed = given_options(rules, algorithm.rule_options)
    algorithm = algorithm.model_copy(update={"rule_options": typed})
    config = config.model_copy(update={"algorithm": algorithm})
    if dataset is None:
        dataset = load_dataset(config.data, own.data)
    if standardization is None:
        if config.data.inputs == AUTO:
            inputs = config.data.model_copy(update={"inputs": dataset.inputs_mode})
            config = config.model_copy(update={"data": inputs})
        standardization = Standardization.learn(dataset.train, dataset.task, config.data.inputs)
        _check_units(standardization, dataset)
        suited = config.model.suited_to(standardization.inputs_rms(dataset.train))
        config = config.model_copy(update={"model": suited})
    requests = engine.requests_per_update(scheme)
    worker = _untraced(rules, requests, engine.contributors)
    gradients = engine.contributions_per_update(scheme) * worker.batches
    shares = engine.contributors if worker.partitioned else 1
    training, updates = _resolve_lengths(config.training, len(dataset.train), gradients, shares)
    if training.optimizer == AUTO:
        is_stale = worker.batches == 1 and engine.mean_staleness(scheme) >= 1
        training = _resolve_optimizer(training, is_stale=is_stale)
    if training.evaluate_samples is None:
        fewer = min(SAMPLES_DURING, config.model.test_samples)
        training = training.model_copy(update={"evaluate_samples": fewer})
    if training.shuffle_block is None:
        block = data.default_block(dataset.train.x)
        training = training.model_copy(update={"shuffle_block": block})
    tables = locate_parts(config.model_copy(update={"training": training}))
    if not isinstance(own.data, Dataset):
        tables["data"] = _resolve_split(tables["data"], dataset)
    config = config.model_copy(update=tables)
    model = model_of(config, dataset.schema, own.model)
    plan = Plan(
        config,
        dataset,
        standardization,
        model,
        scheme,
        rules,
        updates,
        requests,
        own,
    )
    _ = plan.algorithm  # an unknown optimizer is told before anything is written
    plan.check_rules()
    plan.check_own_parts()
    return plan


def _check_devices() -> None:
    """Let JAX find its devices.

    Raises:
        InputError: it finds none of the kind that it was told to use.
    """
    try:
        jax.devices()
    except RuntimeError as error:
        told = os.environ.get("JAX_PLATFORMS")
        cure = f"JAX_PLATFORMS is {told!r}; leave it out" if told else "look at its installation"
        raise InputError(f"JAX finds no device to compute on: {error}. {cure}") from error


def _check_units(standardization: Standardization, dataset: Dataset) -> None:
    """Refuse columns of numbers so small that processors take them for zero."""
    scales = (standardization.x_scale, standardization.y_scale)
    for names, scale in zip((dataset.inputs, dataset.targets), scales, strict=True):
        for column in np.flatnonzero(scale < np.finfo(np.float32).tiny):
            name = repr(names[column]) if column < len(names) else str(column + 1)
            raise InputError(
                f"{dataset.name}: column {name} varies by only {scale[column]:.3g}, and 32-bit "
                f"numbers below {np.finfo(np.float32).tiny:.2g} are taken for zero; multiply it "
                "by a constant first, such as 1e40"
            )


def _find_scheme(name: str) -> None:
    """Register the scheme that a function makes which is given by its name, ``module:function``."""
    if is_name(name) and name not in SCHEMES:
        register(name, find(name))


def _scheme(config: RunConfig, own: Own, worker: WorkerRule) -> Scheme:
    algorithm, engine = config.algorithm, config.engine
    if algorithm.scheme == OWN:
        if own.scheme is None:
            raise InputError(
                "the scheme of this run was an object; give it again, from Python: scheme=..."
            )
        return own.scheme
    # What engines prefer is that nobody waits for its own update.
    preferred = {} if worker.follows_itself else engine.scheme_defaults(algorithm.scheme)
    options = {**preferred, **algorithm.scheme_options}
    return scheme_named(algorithm.scheme, engine.workers or 1, options)


def _resolve_optimizer(training: TrainingSettings, *, is_stale: bool) -> TrainingSettings:
    """Write out the optimizer that serves; options that were given stay.

    Momentum adds the moves of the past to gradients that lag behind them already: with a delay of
    tau updates the highest stable rate falls 3.5-fold for beta1 = 0.9 (Giladi et al. 2019). And
    stale gradients do not line up with a scale that was learnt on long-gone parameters.
    """
    options = {**(STALE_ADAM if is_stale else {}), **training.optimizer_options}
    return training.model_copy(update={"optimizer": "adam", "optimizer_options": options})


def _untraced(
    rules: Mapping[str, Settings], requests_per_update: float, workers: int
) -> WorkerRule:
    """What the rules make of a request, to see what it consumes: that needs no model."""
    plain = optax.sgd(1.0)

    def no_loss(params: Any, x: Array, y: Array, index: Array, key: Array) -> Array:
        raise AssertionError("never traced")

    def no_divergence(params: Any) -> Array:
        raise AssertionError("never traced")

    server = optimize(plain)
    draft = Draft(
        gradient(no_loss),
        server,
        lambda steps: plain,
        requests_per_update,
        workers,
        divergence=no_divergence,
    )
    return draft_of(rules, draft).worker


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
    training: TrainingSettings, n_train: int, gradients_per_update: int, shares: int
) -> tuple[TrainingSettings, int]:
    """Write out what depends on the number of examples; and the number of updates."""
    share = n_train // shares  # of which a batch is drawn
    if not share:
        raise InputError(
            f"each of {shares} workers has its own share of the training examples under these "
            f"rules, but there are {n_train}; use at most {n_train} workers"
        )
    batch_size = training.batch_size or min(DEFAULT_BATCH_SIZE, share)
    if batch_size > share:
        there = f"there are {n_train} training examples"
        if shares > 1:
            there += f", {share} for each of {shares} workers under these rules"
        raise InputError(f"the batch size is {batch_size}, but {there}; choose at most {share}")
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
        "evaluation_share": SHARE if training.evaluate_every is None else 1.0,
        "report_every": max(1, updates // 200),
        "checkpoint_every": max(1, updates // 10),
    }
    missing = {name: value for name, value in defaults.items() if getattr(training, name) is None}
    length = {} if training.epochs is not None else {"updates": updates}
    settled = {"batch_size": batch_size, **length, **missing}
    return training.model_copy(update=settled), updates
