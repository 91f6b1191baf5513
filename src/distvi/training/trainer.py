"""Takes a run from an engine's state to its last update, and writes what it leaves behind."""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import jax
import numpy as np

from distvi.data import facts, sentences
from distvi.engines.base import (
    Diverged,
    Driven,
    Engine,
    Halted,
    StateLost,
    TrainState,
    WithProcesses,
)
from distvi.engines.trace import perfetto
from distvi.errors import RunFailed
from distvi.evaluation import Evaluation
from distvi.evaluation.constant import constant_metrics
from distvi.progress import Progress
from distvi.runs import checkpoints
from distvi.runs.folder import TEST_SAMPLES, Run, metrics_of_test
from distvi.runs.recording import journal_file, trace_file
from distvi.runs.summary import summarize
from distvi.runs.wall_time import WallTime
from distvi.system.signals import Interruption
from distvi.training.health import Health
from distvi.training.plan import Plan
from distvi.training.run_tests import tests_of

NEW_COUNTERS: dict[str, Any] = {
    "training_time_s": 0.0,
    "compile_time_s": 0.0,
    "evaluation_time_s": 0.0,
    "waiting_s": 0.0,
    "neg_elbo": None,
    "interval_sum": 0.0,
    "interval_count": 0,
    "engine": {},
    "wall_time_s": {},
    "warnings": (),
}
"""Of a run that begins; a checkpoint has those of its update."""


class Interrupted(KeyboardInterrupt):
    """The run was stopped by a signal; its checkpoint is written and it can be resumed.

    Attributes:
        run: The run.
        signum: The signal.
    """

    def __init__(self, run: Run, signum: int) -> None:
        super().__init__(f"interrupted; go on with: distvi resume {run.path}")
        self.run, self.signum = run, signum


class Trainer:
    """Takes one run from an engine's state to the last update."""

    def __init__(
        self,
        run: Run,
        plan: Plan,
        engine: Engine,
        progress: Progress,
        wall: WallTime,
        counters: dict[str, Any] = NEW_COUNTERS,
        rows: list[dict[str, Any]] | None = None,
    ) -> None:
        self.run, self.plan, self.engine, self.progress = run, plan, engine, progress
        self.wall, self.interruption = wall, Interruption()
        self.counters = dict(counters)
        self.before = dict(counters)
        self.rows = {row["update"]: row for row in rows or []}
        self.tests = tests_of(plan, engine)
        self._schedule = plan.schedule()
        has_complained = bool(self.counters["warnings"])
        self._health = Health(plan, engine.update, has_complained=has_complained)
        self.evaluation: Evaluation | None = None
        self.unsaved: str | None = None  # why the latest checkpoint could not be written

    def go(self) -> Run:
        """Make the remaining updates and finish the folder."""
        status = "failed"
        self.progress.described(sentences(self.plan.dataset))
        try:
            tests = self.tests or nullcontext()
            with self.interruption, self.progress, self._recording(), tests, self.engine:
                self.progress.attached(self.engine)
                self.progress.started(self.run.path, self.engine.update, self.plan.updates)
                self.wall.go_on_with("rest")
                self._train()
            if self.unsaved is None:
                status = "done" if self.engine.update == self.plan.updates else "interrupted"
        except Diverged as error:
            cure = "A lower learning rate is the usual cure"
            if error.update == 0:
                cure = "Look for an extreme value in the [model] settings"
            raise RunFailed(f"{error}; {self._kept()}. {cure}") from error
        except Halted as error:
            self._checkpoint()
            raise RunFailed(f"{error}; {self._kept()}") from error
        except StateLost as error:
            raise RunFailed(f"{error}; {self._kept()}") from error
        except KeyboardInterrupt:  # the second signal does not wait for a checkpoint
            status = "interrupted"
            raise
        finally:
            unwritten = self._attempt(lambda: self._write(status))
        if reason := self.unsaved or unwritten:
            again = f"mend that, then: distvi resume {self.run.path}"
            raise RunFailed(f"{reason}; {self._kept()}; {again}")
        if self.interruption.signum is not None and status == "interrupted":
            raise Interrupted(self.run, self.interruption.signum)
        self._attempt(self._illustrate)
        self._attempt(
            lambda: self.run.write_summary(self._summary(status))
        )  # with the time of that
        self.progress.finished(self.run.path, self.run.summary)
        return self.run

    def _kept(self) -> str:
        """Of a run in which something went wrong: from where it can go on."""
        kept = checkpoints.updates(self.run.checkpoint_folder)
        if not kept:
            return "there is no checkpoint"
        return f"the last good checkpoint is {self.run.checkpoint_folder / str(kept[-1])}"

    def _attempt(self, write: Callable[[], None]) -> str | None:
        """Write, or warn and say why not: hours of training outlast a disk that is full."""
        try:
            write()
        except OSError as error:
            where = error.filename or self.run.path
            reason = f"cannot write {where}: {error.strerror or error}"
            self.progress.warned(f"{reason}; {self._kept()}")
            return reason
        return None

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """Write the processes' logs; and the journal and the timeline, if they are asked for."""
        settings, engine, suffix = self.plan.config.engine, self.engine, ""
        if engine.update:
            suffix = f"-{engine.update}"
        if isinstance(engine, WithProcesses):
            engine.attach(self.run.path / "logs", self.progress.warned)
        with ExitStack() as stack:
            if isinstance(engine, Driven) and getattr(settings, "journal", False):
                file = journal_file(self.run.path / f"journal{suffix}.jsonl")
                engine.observers.append(stack.enter_context(file))
            if isinstance(engine, Driven) and getattr(settings, "trace", False):
                path = self.run.path / f"trace{suffix}.json"
                stack.enter_context(trace_file(path, lambda: perfetto(engine.spans)))
            yield

    def _train(self) -> None:
        training, last = self.plan.config.training, self.plan.updates
        if not self.engine.update:
            self._checkpoint()  # something good to go back to, whatever happens
        elif self._is_test_due() and not metrics_of_test(self.rows.get(self.engine.update, {})):
            self._test()  # that was on its way when the run was killed
        while self.engine.update < last and not self.interruption():
            if not self._advance():
                assert self.interruption()
                break  # nothing is new
            self._take_in_tests()
            at = functools.partial(_is_due, update=self.engine.update, last=last)
            if at(training.report_every):
                self._report()
            if self._is_test_due():
                self._test()
            if at(training.checkpoint_every):
                self._checkpoint()
        self._take_in_tests(until=last + 1)
        if self.engine.update < last:
            self._checkpoint()
        elif self.evaluation is None:  # resumed after the last update, whose figure is to be drawn
            self._test()

    def _advance(self) -> int:
        """Go to the next update at which something is to be done; how many updates were made."""
        training, update = self.plan.config.training, self.engine.update
        intervals = (training.report_every, training.evaluate_every, training.checkpoint_every)
        due = [update - update % every + every for every in intervals if every]
        before_s, before_wall_s = self.counters["training_time_s"], self.wall.spent_s("training")
        with self._timed("training_time_s"), self.wall.part("training"):
            values = self.engine.advance(min(*due, self.plan.updates), self.interruption)
        if self.engine.statistics["clock"] == "wall":  # which leaves out that processes start
            clocked_s = self.counters["training_time_s"] - before_s
            took_s = self.wall.spent_s("training") - before_wall_s
            self.wall.move("training", "setup", took_s - clocked_s)
        compiled_s = self.before["compile_time_s"] + self.engine.compile_time_s
        self.wall.move("setup", "compile", compiled_s - self.counters["compile_time_s"])
        for name in ("waiting_s", "compile_time_s"):
            self.counters[name] = self.before[name] + getattr(self.engine, name)
        self.counters["interval_sum"] += float(values.sum(dtype=np.float64))
        self.counters["interval_count"] += len(values)
        return len(values)

    def _report(self) -> None:
        count = self.counters["interval_count"]
        neg_elbo = self.counters["interval_sum"] / count / len(self.plan.dataset.train)
        self.counters |= {"neg_elbo": neg_elbo, "interval_sum": 0.0, "interval_count": 0}
        rate = float(np.asarray(self._schedule(self.engine.update - 1)))
        self._row().update(neg_elbo=neg_elbo, learning_rate=rate)
        self.progress.reported(self.engine.update, neg_elbo, self.counters["training_time_s"])
        complaint = self._health.look(self.engine.update, neg_elbo, lambda: self.engine.params)
        if complaint is not None:
            self.counters["warnings"] = [*self.counters["warnings"], complaint]
            self.progress.warned(complaint)

    def _is_test_due(self) -> bool:
        every, last = self.plan.config.training.evaluate_every, self.plan.updates
        return _is_due(every, update=self.engine.update, last=last)

    def _test(self) -> None:
        """Test the parameters, where the time allows it; those of the last update anyway."""
        update, last = self.engine.update, self.plan.updates
        if self.tests is None or not (update == last or self.tests.is_affordable()):
            return
        self._row()
        with self.wall.part("evaluation"):
            on_one = jax.device_put(self._good_params(), self.engine.devices[0])
            self.tests.begin(update, on_one, is_last=update == last)
        self._take_in_tests(until=update + 1 if update == last else None)

    def _take_in_tests(self, until: int | None = None) -> None:
        """Add what tests have found; wait for those of updates before ``until``."""
        if self.tests is None:
            return
        with self.wall.part("evaluation"):
            ended = self.tests.ended(until=until)
        for update, samples, evaluation, took_s in ended:
            metrics = evaluation.metrics
            self.rows[update] |= {f"test_{name}": value for name, value in metrics.items()}
            self.rows[update][TEST_SAMPLES] = samples
            self.counters["evaluation_time_s"] += took_s
            self.evaluation = evaluation
            self.progress.tested(update, metrics)

    def _checkpoint(self) -> None:
        # A run that is killed and resumed makes the test of the checkpoint's own update anew.
        self._take_in_tests(until=self.engine.update)
        self._good_params()
        state = self.engine.state
        with self._timed("training_time_s"), self.wall.part("checkpoints"):
            self.counters["engine"] = self.engine.counters
            self.counters["wall_time_s"] = self.wall.as_json()
            self.unsaved = self._attempt(lambda: self._save(state))

    def _save(self, state: TrainState) -> None:
        self._write("running")
        checkpoints.write(
            self.run.checkpoint_folder,
            self.engine.update,
            _trees(state),
            self.counters,
            self.plan.config.training.keep_checkpoints,
        )

    def _good_params(self) -> Any:
        """The engine's parameters, if they are finite.

        A finite ELBO can have a gradient that is not, and the next ELBO would be too late.
        """
        params = self.engine.params
        if not _all_finite(params):
            raise Diverged("the parameters were no longer finite", self.engine.update)
        return params

    def _write(self, status: str) -> None:
        self.run.write_metrics(self._table())
        self.run.write_summary(self._summary(status))

    def _summary(self, status: str) -> dict[str, Any]:
        tested = next((row for row in reversed(self._table()) if metrics_of_test(row)), {})
        return summarize(
            self.plan.config,
            status,
            updates=self.engine.update,
            counters=self.counters,
            statistics=self.engine.statistics,
            devices=self.engine.devices,
            wall_time_s=self.wall.as_json(),
            test=metrics_of_test(tested),
            test_samples=tested.get(TEST_SAMPLES),
            data=facts(self.plan.dataset),
        )

    def _illustrate(self) -> None:
        """Draw the figure, or warn: whatever goes wrong in it, the run is done."""
        try:
            self._draw()
        except OSError:
            raise  # told as of any file
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self.progress.warned(f"no {self.run.figure.name}: {reason}")

    def _draw(self) -> None:
        from distvi.report.figures import run_figure  # matplotlib is slow to import

        dataset, constant = self.plan.dataset, {}
        if self.evaluation is not None:
            constant = constant_metrics(dataset.train, dataset.test, dataset.task)
        run_figure(
            self.run.figure,
            title=f"{dataset.name}, {self.plan.config.model.kind}",
            training=self._columns("neg_elbo"),
            tests=self._columns("test_mnll"),
            predictions=None if self.evaluation is None else self.evaluation.predictions,
            constant=constant,
        )

    def _row(self) -> dict[str, Any]:
        update = self.engine.update
        if update not in self.rows:
            examples = self.engine.examples
            self.rows[update] = {
                "update": update,
                "epoch": examples / len(self.plan.dataset.train),
                "examples": examples,
                "training_time_s": self.counters["training_time_s"],
            }
        return self.rows[update]

    def _table(self) -> list[dict[str, Any]]:
        return [self.rows[update] for update in sorted(self.rows)]

    def _columns(self, having: str) -> dict[str, np.ndarray]:
        rows = [row for row in self._table() if row.get(having) is not None]
        names = [name for name, value in rows[0].items() if value is not None] if rows else []
        return {n.removeprefix("test_"): np.array([row[n] for row in rows]) for n in names}

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        before_s = self.engine.now_s()
        try:
            yield
        finally:
            self.counters[name] += self.engine.now_s() - before_s


def _trees(state: TrainState) -> dict[str, Any]:
    """What a checkpoint has files for."""
    trees = {checkpoints.PARAMS: state.params, checkpoints.OPTIMIZER: state.opt_state}
    known = {str(n): memory for n, memory in enumerate(state.memories) if memory is not None}
    return trees | ({checkpoints.MEMORIES: known} if known else {})


def _is_due(every: int | None, *, update: int, last: int) -> bool:
    return update == last or bool(every and update % every == 0)


def _all_finite(tree: Any) -> bool:
    """On the host: there is nothing to compile, and a checkpoint copies all of it there anyway."""
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(tree))
