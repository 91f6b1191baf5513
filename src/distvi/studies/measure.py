"""One cell measured: trained in this process without a run folder, tested on the way."""

import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from distvi import data
from distvi.config.data import DataSettings
from distvi.config.run import RunConfig
from distvi.data import Dataset, Examples, Task
from distvi.engines.base import Diverged, Engine, Halted, StateLost, WithProcesses
from distvi.errors import DistviError
from distvi.evaluation.predictor import Evaluation, Predictor
from distvi.runs.parts import load_dataset
from distvi.runs.records import Measured, Record, Status, Value
from distvi.studies.cells import Cell
from distvi.studies.spec import Measuring, Tests
from distvi.training.plan import Plan
from distvi.training.prepare import prepare

KEPT_PLANS = 6
"""Shapes whose programs stay at hand; the cells of one shape come one after the other."""

ERRORS = {Task.CLASSIFICATION: "error_rate", Task.REGRESSION: "rmse", Task.COUNT: "rmse"}
"""What a target error is of, by task."""


class Workbench:
    """Trains cells one after the other; loaded data and programs stay for the next.

    Args:
        measuring: How.
        interrupted: Asked now and then: whether to give up the cell.
    """

    def __init__(
        self, measuring: Measuring, interrupted: Callable[[], bool] = lambda: False
    ) -> None:
        self.measuring, self._interrupted = measuring, interrupted
        self._datasets: dict[str, Dataset] = {}
        self._plans: OrderedDict[tuple[str, bool], Plan] = OrderedDict()

    def record(self, cell: Cell) -> Record | None:
        """Train a cell, after its learning rate was chosen if it asks for that.

        A training that diverges or fails is a record, too; None: it was interrupted.
        """
        tuned: dict[str, Value] = {}
        trials: list[dict[str, Any]] = []
        training = cell.config.training
        try:
            if cell.is_tuned:
                tuned, trials = self._tune(cell)
                training = training.model_copy(update=tuned)
            plan = self.plan(cell, training.learning_rate)
            course = _Training(plan, self.measuring, self._interrupted)
            status, reason = course.go()
        except DistviError as error:
            return _record(cell, "failed", str(error), Measured(tuned=tuned, trials=trials))
        if self._interrupted():
            return None
        measured = replace(course.measured(), tuned=tuned, trials=trials)
        return _record(cell, status, reason, measured)

    def plan(self, cell: Cell, learning_rate: float, *, is_trial: bool = False) -> Plan:
        """The plan of a cell, with the programs of its shape."""
        key = cell.shape, is_trial
        if key not in self._plans:
            config = cell.config
            dataset = self._dataset(config.data)
            if is_trial:
                assert self.measuring.tuning is not None
                dataset = _validation(dataset, self.measuring.tuning.validation_fraction)
            config = _with_length(config, self.measuring, dataset, is_trial=is_trial)
            self._plans[key] = prepare(config, dataset=dataset).sharing()
            while len(self._plans) > KEPT_PLANS:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        seed = cell.config.training.seed
        return self._plans[key].sibling(seed=seed, learning_rate=learning_rate)

    def _dataset(self, settings: DataSettings) -> Dataset:
        key = settings.model_dump_json()
        if key not in self._datasets:
            self._datasets[key] = load_dataset(settings)
        return self._datasets[key]

    def _tune(self, cell: Cell) -> tuple[dict[str, Value], list[dict[str, Any]]]:
        """The value with the lowest metric on the validation part, and all that were tried.

        Raises:
            RunFailed: none of them came to an end.
        """
        tuning = self.measuring.tuning
        assert tuning is not None, "refused with the spec"
        trials, tests = [], Tests(number=1)
        for value in tuning.values:
            plan = self.plan(cell, value, is_trial=True)
            stop = self.measuring.stop.model_copy(update={"target_error": None})
            short = Measuring(stop=stop, tests=tests)
            course = _Training(plan, short, self._interrupted)
            status, _ = course.go()
            metric = tuning.metric or ERRORS[plan.dataset.task]
            score = course.test.get(metric, np.inf) if status == "done" else np.inf
            trials.append({tuning.setting: value, metric: score if score < np.inf else None})
        metric = list(trials[0])[-1]
        found = [trial for trial in trials if trial[metric] is not None]
        if not found:
            raise Diverged(f"no {tuning.setting} of {list(tuning.values)} ended well", 0)
        best = min(found, key=lambda trial: trial[metric])
        return {tuning.setting: best[tuning.setting]}, trials


def _record(cell: Cell, status: Status, reason: str, measured: Measured) -> Record:
    return Record(cell.id, cell.block, cell.settings, cell.number, status, reason, measured)


def _validation(dataset: Dataset, fraction: float) -> Dataset:
    """The training part alone, some of it held out; the test part is not looked at."""
    train = dataset.train
    held = max(1, round(fraction * len(train)))
    order = data.batch_indices(0, len(train), 0, len(train))
    parts = [np.sort(rows) for rows in (order[held:], order[:held])]
    learn, judge = (Examples(*train.take(rows)) for rows in parts)
    return replace(dataset, train=learn, test=judge)


def _with_length(
    config: RunConfig, measuring: Measuring, dataset: Dataset, *, is_trial: bool
) -> RunConfig:
    """With a number of examples as epochs; a trial may be shorter."""
    training, stop, tuning = config.training, measuring.stop, measuring.tuning
    changed: dict[str, Any] = {}
    if stop.examples is not None:
        changed["epochs"] = stop.examples / len(dataset.train)
    if is_trial and tuning is not None and tuning.examples_share < 1:
        for name in ("epochs", "updates"):
            length = changed.get(name, getattr(training, name))
            if length is not None:
                shorter = length * tuning.examples_share
                changed[name] = max(1, round(shorter)) if name == "updates" else shorter
    return config.model_copy(update={"training": training.model_copy(update=changed)})


class _Training:
    """One training from its first update to its end.

    Attributes:
        test: Metrics of the last test.
    """

    def __init__(self, plan: Plan, measuring: Measuring, interrupted: Callable[[], bool]) -> None:
        self.plan, self._stop, self._tests = plan, measuring.stop, measuring.tests
        self._is_interrupted = interrupted
        self.test: dict[str, float] = {}
        self._rows: list[dict[str, float]] = []
        self._end = "updates" if measuring.stop.examples is None else "examples"
        self._begun_s = time.perf_counter()
        self._parts_s = {"training": 0.0, "evaluation": 0.0}
        self._time_s, self._first_s = 0.0, 0.0
        self._facts: dict[str, Any] = {}

    def go(self) -> tuple[Status, str]:
        """Train and test; how it ended, and why if it did not end well."""
        engine = self.plan.engine()
        with tempfile.TemporaryDirectory() as logs:
            if isinstance(engine, WithProcesses):
                engine.attach(Path(logs), lambda text: None)
            with engine:
                self._first_s = engine.now_s()
                try:
                    self._train(engine)
                except Diverged as error:
                    return "diverged", str(error)
                except (Halted, StateLost) as error:
                    return "failed", str(error)
                finally:
                    self._facts = _facts(engine)
        return "done", ""

    def _train(self, engine: Engine) -> None:
        updates, number = self.plan.updates, self._tests.number
        marks = sorted({max(1, round(updates * n / number)) for n in range(1, number + 1)})
        predictor = self.plan.predictor()
        finals = {True: predictor}
        if predictor is not None:
            finals[False] = self.plan.predictor(min(self._tests.samples, predictor.samples))
        for mark in marks:
            before_s = time.perf_counter()
            values = engine.advance(mark, lambda: self._is_over(engine))
            self._parts_s["training"] += time.perf_counter() - before_s
            if self._is_interrupted():
                return
            is_last = mark == updates or engine.update < mark
            self._row(engine, values, finals.get(is_last))
            if not is_last and self._has_reached_target():
                self._end, is_last = "target", True
                self._row(engine, values, finals.get(True))
            if is_last:
                return

    def _is_over(self, engine: Engine) -> bool:
        stop = self._stop
        if stop.time_s is not None and engine.now_s() - self._first_s >= stop.time_s:
            self._end = "time_s"
        elif stop.wall_s is not None and time.perf_counter() - self._begun_s >= stop.wall_s:
            self._end = "wall_s"
        else:
            return self._is_interrupted()
        return True

    def _has_reached_target(self) -> bool:
        error, target = self.test.get(ERRORS[self.plan.dataset.task]), self._stop.target_error
        return error is not None and target is not None and error <= target

    def _row(self, engine: Engine, values: np.ndarray, predictor: Predictor | None) -> None:
        self._time_s = self._spent_s(engine)
        transferred = engine.statistics["bytes"]
        row = {
            "update": engine.update,
            "examples": engine.examples,
            "time_s": self._time_s,
            "wall_s": time.perf_counter() - self._begun_s,
            "bytes": sum(transferred.get(way, 0) for way in ("pushed", "pulled")),
        }
        if len(values):
            row["neg_elbo"] = float(values.mean(dtype=np.float64)) / len(self.plan.dataset.train)
        if self._rows and self._rows[-1]["update"] == row["update"]:
            self._rows.pop()
        if predictor is not None:
            before_s = time.perf_counter()
            dataset = self.plan.dataset
            found = Evaluation(predictor, engine.params, dataset.test, dataset.targets[0])
            self.test = found.metrics
            self._parts_s["evaluation"] += time.perf_counter() - before_s
            row |= {f"test_{name}": value for name, value in self.test.items()}
        self._rows.append(row)

    def _spent_s(self, engine: Engine) -> float:
        """Training time on the engine's clock; on the wall's, tests are no part of it."""
        if engine.statistics["clock"] == "wall":
            return self._parts_s["training"]
        return engine.now_s() - self._first_s

    def measured(self) -> Measured:
        """What came of it, as far as it got."""
        names = dict.fromkeys(name for row in self._rows for name in row)
        facts, time_s = self._facts, self._time_s
        idle = facts["waiting_s"] / time_s if time_s else None
        whole_s = time.perf_counter() - self._begun_s
        return Measured(
            test=dict(self.test),
            curve={name: [row.get(name) for row in self._rows] for name in names},
            updates=facts["update"],
            examples=facts["examples"],
            time_s=time_s,
            clock=facts["clock"],
            parts_s=self._parts_s | {"compile": facts["compile_time_s"], "whole": whole_s},
            staleness=facts["staleness"],
            gradients=facts["gradients"],
            bytes=facts["bytes"],
            idle_fraction=idle,
            stopped_by=self._end,
        )


def _facts(engine: Engine) -> dict[str, Any]:
    """What an engine can say at its end; it is asked before it is closed."""
    said = engine.statistics
    histogram = said.get("staleness", {}).get("histogram", {})
    ways = ("used", "refused", "cancelled")
    return {
        "update": engine.update,
        "examples": engine.examples,
        "waiting_s": engine.waiting_s,
        "compile_time_s": engine.compile_time_s,
        "clock": said["clock"],
        "staleness": {int(age): count for age, count in histogram.items()},
        "gradients": {way: said.get(f"gradients_{way}", 0) for way in ways},
        "bytes": {way: said["bytes"].get(way, 0) for way in ("pushed", "pulled")},
    }
