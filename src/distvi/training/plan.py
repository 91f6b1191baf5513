"""A run's parts, built and checked: what is trained, by which rules, in which engine."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Array

from distvi.aggregation import sync
from distvi.algorithms.base import Algorithm
from distvi.algorithms.draft import Draft
from distvi.algorithms.freeze import freeze, freezes
from distvi.algorithms.gradient import gradient, optimize
from distvi.algorithms.registry import draft_of, name_elsewhere, settings_of
from distvi.config.run import RunConfig
from distvi.data import Dataset, Examples, Schema, Standardization, batch_indices, share_indices
from distvi.data.dataset import MOST_TURNED_BYTES
from distvi.engines.base import Built, Engine, Problem, Recipe, Start
from distvi.engines.registry import ENGINES
from distvi.errors import InputError
from distvi.evaluation.predictor import Predictor
from distvi.models import Batch, Model, Trainable
from distvi.models.base import Drawn
from distvi.models.checks import (
    check_divergence,
    check_neg_elbo,
    check_params,
    checked_neg_elbo,
)
from distvi.protocol import Scheme
from distvi.runs.own import NOTHING, Own
from distvi.runs.parts import (
    INIT,
    make_predictor,
    model_of,
    run_key,
)
from distvi.system.names import OWN, CannotTravel, is_name
from distvi.system.programs import OWN_PROGRAMS, Programs, SharedPrograms, Varying
from distvi.system.settings import Settings
from distvi.training import optimizers

_COMPILED_FAST = {"xla_backend_optimization_level": 0}  # of a program that runs once


class _Traced(NamedTuple):
    """The predictions of the model as it is when they are asked for, within a program."""

    model: Callable[[], Any]

    def predict(self, params: Any, x: Array, key: Array, samples: int) -> Any:
        return self.model().predict(params, x, key, samples)


class RunValues(NamedTuple):
    """Numbers that a run's functions read though they are no arguments of theirs.

    Attributes:
        learning_rate: The schedule's peak.
        draws: What the model has drawn from the seed; None: it keeps that to itself.
    """

    learning_rate: Any
    draws: Any = None


@dataclass(frozen=True, eq=False)
class Plan:
    """A run's parts, built and checked.

    Attributes:
        config: The configuration with every default that depends on data or machine written out.
        dataset: Training and test examples.
        standardization: Learnt on the training part.
        model: What is trained.
        scheme: How workers and updates are kept in step.
        rules: By name, what workers and servers do beyond a plain gradient and its optimizer.
        updates: How many there are.
        requests_per_update: That a worker answers, in the mean.
        own: Objects that the configuration cannot hold.
        shared: What its functions and those of its siblings read; None: it has none.
        programs: Compiles what runs in this process.
    """

    config: RunConfig
    dataset: Dataset
    standardization: Standardization
    model: Trainable
    scheme: Scheme
    rules: Mapping[str, Settings]
    updates: int
    requests_per_update: float = 1.0
    own: Own = NOTHING
    shared: Varying[RunValues] | None = None
    programs: Programs = OWN_PROGRAMS

    @cached_property
    def varying(self) -> Varying[RunValues]:
        """What the run's functions read that is no argument of theirs."""
        return self.shared or Varying(RunValues(self.config.training.learning_rate))

    @property
    def batch_size(self) -> int:
        """Examples in a batch."""
        assert self.config.training.batch_size is not None
        return self.config.training.batch_size

    @cached_property
    def shapes(self) -> Any:
        """Of the parameters (``jax.ShapeDtypeStruct``)."""
        return self.programs.once(
            "shapes", lambda: jax.eval_shape(self._init, run_key(self.config))
        )

    def initial_params(self) -> Any:
        """Parameters before the first update."""
        key = jax.random.fold_in(run_key(self.config), INIT)
        return self.programs.jit("init", self._init, compiler_options=_COMPILED_FAST)(key)

    def _init(self, key: Array) -> Any:
        return self._traced_model().init(key)

    def _traced_model(self) -> Any:
        """The model with the draws that its functions are to read."""
        draws = self.varying.values.draws
        return self.model if draws is None else self.model.with_draws(draws)  # type: ignore[attr-defined]

    def schedule(self, steps: float = 1.0) -> optax.Schedule:
        """Learning rate of every update; or of ``steps`` steps for each of them, in the mean."""
        varying, shape = self.varying, self._shape(steps)
        return lambda update: varying.values.learning_rate * shape(update)

    def _shape(self, steps: float) -> optax.Schedule:
        """The same as a share of the peak."""
        training = self.config.training
        return optimizers.schedule(
            training.schedule,
            1.0,
            math.ceil(steps * self.updates),
            warmup_updates=math.floor(steps * training.warmup_updates),
            final=training.final_rate,
        )

    def optimizer(self, steps: float = 1.0) -> optax.GradientTransformation:
        """The optimizer with its schedule and freezes, over ``steps`` steps for each update.

        Raises:
            InputError: an unknown optimizer, or options that it does not take.
        """
        training, rates = self.config.training, self.schedule(steps)
        options: Mapping[str, Any] = training.optimizer_options
        if not self._has_own_optimizer:
            options = optimizers.scheduled(options, self._shape(steps))
        if training.optimizer != OWN:
            found = optimizers.build(training.optimizer, rates, options, training.seed)
        elif self.own.optimizer is not None:
            found = optimizers.made(self.own.optimizer, rates, options)
        else:
            raise InputError(
                "the optimizer of this run was an object; give it again, from Python: optimizer=..."
            )
        return freeze(
            found, jax.tree.map(lambda first: math.ceil(steps * first), self._freeze_until)
        )

    @cached_property
    def _freeze_until(self) -> Any:
        freeze_until = getattr(self.model, "freeze_until", None)
        return freeze_until(self.shapes) if freeze_until else None

    @cached_property
    def algorithm(self) -> Algorithm:
        """What workers and servers do.

        Raises:
            InputError: see `optimizer`.
        """
        return self.programs.once("algorithm", self._algorithm)

    def _algorithm(self) -> Algorithm:
        (_, standardization), n_data = self._conditioned, len(self.dataset.train)

        def loss(params: Any, x: Array, y: Array, index: Array, key: Array) -> Array:
            batch = Batch(*standardization.standardize(x, y), index)
            return checked_neg_elbo(self._traced_model(), params, batch, key, n_data)

        # Whoever wrote an optimizer may have told it which tensor is which.
        is_uniform = not (self._has_own_optimizer or freezes(self._freeze_until))
        server = optimize(self.optimizer(), is_uniform=is_uniform)
        draft = Draft(
            gradient(loss),
            server,
            self.optimizer,
            self.requests_per_update,
            self.config.engine.contributors,
            self.divergence if self.has_divergence else None,
        )
        made = draft_of(self.rules, draft)
        return Algorithm(self.scheme, made.worker, made.server)

    @cached_property
    def _conditioned(self) -> tuple[Examples, Standardization]:
        """The training examples as engines have them, and what is left to do to each batch."""
        train, standardization = self.dataset.train, self.standardization
        if standardization.x_axes is None or train.x.size * 4 > MOST_TURNED_BYTES:
            return train, standardization
        return self.programs.once("conditioned", lambda: standardization.applied(train))

    @property
    def has_divergence(self) -> bool:
        """Whether the model tells its KL apart from the rest of the loss."""
        return callable(getattr(self.model, "divergence", None))

    def divergence(self, params: Any) -> Array:
        """The KL of the posterior from the prior, in nats."""
        return self._traced_model().divergence(params)

    @property
    def _has_own_optimizer(self) -> bool:
        name = self.config.training.optimizer
        return name == OWN or is_name(name)

    @cached_property
    def problem(self) -> Problem:
        """What the engine optimizes."""
        training, n_data = self.config.training, len(self.dataset.train)
        recipe, stuck = self._recipe_or_why_not()
        block = training.shuffle_block
        assert block is not None

        def indices(position: int, count: int) -> np.ndarray:
            return batch_indices(training.seed, n_data, position, count, block)

        def shares(worker: int, workers: int, position: int, count: int) -> np.ndarray:
            return share_indices(training.seed, n_data, worker, workers, position, count, block)

        return Problem(
            shapes=self.shapes,
            examples=self._conditioned[0],
            indices=indices,
            batch_size=self.batch_size,
            key=run_key(self.config),
            updates=self.updates,
            seed=training.seed,
            shares=shares,
            recipe=recipe,
            no_recipe=stuck,
            programs=self.programs,
        )

    def _recipe_or_why_not(self) -> tuple[Recipe | None, str]:
        if self.own.stuck:
            return None, self.own.stuck
        try:
            return self.recipe, ""
        except CannotTravel as error:
            return None, str(error)

    @property
    def recipe(self) -> Recipe:
        """How another process builds the problem, given the training examples.

        Raises:
            CannotTravel: it could not find a part of it.
        """
        # Only the main process has a use for the scheme, and knows those that it registered; so
        # the others are told the one that every engine has.
        elsewhere = {"scheme": "sync", "scheme_options": {}}
        rules = tuple(map(name_elsewhere, self.config.algorithm.rules))
        algorithm = self.config.algorithm.model_copy(update={**elsewhere, "rules": rules})
        config = self.config.model_copy(update={"algorithm": algorithm})
        settings = {
            "config": config.model_dump(mode="json"),
            "schema": self.dataset.schema.to_json(),
            "standardization": self._conditioned[1].to_json(),
            "updates": self.updates,
            "requests_per_update": self.requests_per_update,
        }
        return Recipe(f"{__name__}:{rebuild.__name__}", settings)

    def engine(self, start: Start | None = None) -> Engine:
        """What trains: from the beginning, or from where it is told.

        Raises:
            InputError: a setting does not suit the problem.
        """
        settings = self.config.engine
        start = start or Start(self.initial_params)
        return ENGINES[settings.kind].build(settings, self.problem, self.algorithm, start)

    def predictor(self, samples: int | None = None) -> Predictor | None:
        """The model's predictions, by default with all samples; None: it makes none."""
        if not isinstance(self.model, Model):
            return None
        standardization, task = self.standardization, self.dataset.task
        traced = _Traced(self._traced_model) if self.programs is not OWN_PROGRAMS else self.model
        return make_predictor(self.config, traced, standardization, task, samples, self.programs)

    def sharing(self) -> "Plan":
        """The same plan, with programs that its `sibling`s share."""
        model, learning_rate = self.model, self.config.training.learning_rate
        draw = jax.jit(model.draw) if isinstance(model, Drawn) else None
        varying = Varying(_values(model, learning_rate, draw))
        programs = SharedPrograms.pool(varying)
        programs.once("draw", lambda: draw)
        return replace(self, shared=varying, programs=programs)

    def sibling(self, *, seed: int, learning_rate: float) -> "Plan":
        """A plan that differs in seed and learning rate alone, and compiles nothing of its own.

        Its functions read the `Varying` of all siblings, whichever of them is compiled first; only
        within a program has that this plan's values.

        Args:
            seed: Of every draw, the model's fixed ones included.
            learning_rate: The schedule's peak.
        """
        programs = self.programs
        assert isinstance(programs, SharedPrograms), "see sharing()"
        changed = {"seed": seed, "learning_rate": learning_rate}
        training = self.config.training.model_copy(update=changed)
        config = self.config.model_copy(update={"training": training})
        model = model_of(config, self.dataset.schema, self.own.model)
        values = _values(model, learning_rate, programs.once("draw", lambda: None))
        return replace(
            self,
            config=config,
            model=model,
            programs=programs.for_values(values),
        )

    def check_rules(self) -> None:
        """Let the rules begin, abstractly.

        Raises:
            InputError: a rule does not suit the optimizer.
        """
        if self.rules:
            jax.eval_shape(self.algorithm.server.init, self.shapes)

    def check_own_parts(self) -> None:
        """Look at the shapes of what the user has written, by tracing it once.

        Raises:
            InputError: one of them is not what it should be.
        """
        if self._has_own_optimizer:
            optimizers.try_out(self.optimizer(), self.shapes)
        if self.config.model.kind == OWN:
            examples = self.dataset.train
            check_params(self.shapes)
            row = self.standardization.standardize(*examples.take(np.zeros(1, np.int64)))
            args = self.batch_size, run_key(self.config), len(examples)
            check_neg_elbo(self.model, self.shapes, row, *args)
            if self.has_divergence:
                check_divergence(self.divergence, self.shapes)
            if (predictor := self.predictor()) is not None:
                predictor.trace(self.shapes, examples)


def rebuild(settings: dict[str, Any], x: np.ndarray, y: np.ndarray) -> Built:
    """A run's problem and rules in another process: the factory of `Plan.recipe`.

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
    model, rules = model_of(config, schema), rules_of(config)
    lengths = settings["updates"], settings["requests_per_update"]
    plan = Plan(config, dataset, standardization, model, sync(), rules, *lengths)
    return Built(plan.problem, plan.algorithm.worker, plan.algorithm.server)


def _values(model: Trainable, learning_rate: float, draw: Callable[..., Any] | None) -> RunValues:
    rate = np.float32(learning_rate)
    return RunValues(
        rate, draw(np.uint32(model.seed)) if draw and isinstance(model, Drawn) else None
    )


def rules_of(config: RunConfig) -> Mapping[str, Settings]:
    """What a run is asked for beyond gradients and an optimizer, by name."""
    return settings_of(config.algorithm.rules, config.algorithm.rule_options)
