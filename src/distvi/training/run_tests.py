"""The tests of a run: with how many samples, which of them are made, and where.

A test reads the parameters and nothing else, so neither which tests are made nor when they end
changes training. See docs/decisions/0203-tests-during-a-run.md.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from distvi.data import Examples
from distvi.engines.base import Engine, WithProcesses
from distvi.engines.coordinator.environment import cores
from distvi.evaluation import Evaluation, Predictor
from distvi.system.precision import in_float32
from distvi.training.plan import Plan

GRACE_S = 1.0
"""Of tests that a run may always make, whatever share of its time that is."""


class Tested(NamedTuple):
    """A test that was made.

    Attributes:
        update: Of whose parameters.
        samples: Monte Carlo samples of its predictions.
        evaluation: What came of it.
        took_s: On the engine's clock, the compiler's time included.
    """

    update: int
    samples: int
    evaluation: Evaluation
    took_s: float


class RunTests:
    """Makes the tests of a run, in line or beside training.

    Args:
        during: Predictions of the tests during the run.
        final: Of that of its last parameters; may be the same.
        examples: The test set.
        target: Name of the first target.
        share: Of the time since this was made, what tests during the run may take; 1: all are
            made.
        now_s: The engine's clock.
        beside: Whether to test in a thread of its own.
        clock: By which the share is measured.
    """

    def __init__(
        self,
        during: Predictor,
        final: Predictor,
        examples: Examples,
        target: str,
        *,
        share: float,
        now_s: Callable[[], float],
        beside: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._during, self._final = during, final
        self._examples, self._target = examples, target
        self._share, self._now_s, self._clock = share, now_s, clock
        self._executor = ThreadPoolExecutor(1, "distvi-test") if beside else None
        self._pending: list[tuple[int, Future[Tested]]] = []
        self._compiled: set[Predictor] = set()
        self._began_s = clock()
        self._spent_s = self._latest_s = 0.0

    def is_affordable(self) -> bool:
        """Whether the next test during the run, if it takes as long as the latest, may be made.

        What the compiler takes does not count: the one or two programs are compiled in any case.
        """
        if self._share >= 1:
            return True
        if self._executor is not None:  # that costs training nothing, but one at a time does
            return not self._pending
        allowed_s = max(GRACE_S, self._share * (self._clock() - self._began_s))
        return self._spent_s + self._latest_s <= allowed_s

    def begin(self, update: int, params: Any, *, is_last: bool = False) -> None:
        """Make a test; beside training, begin it.

        Args:
            update: Of the parameters.
            params: Beside training they have to stay as they are.
            is_last: Whether they are the run's last.
        """
        future: Future[Tested] = Future()
        if self._executor is not None:
            future = self._executor.submit(self._make, update, params, is_last)
        else:
            future.set_result(self._make(update, params, is_last))
        self._pending.append((update, future))

    @in_float32()
    def _make(self, update: int, params: Any, is_last: bool) -> Tested:
        predictor, began_s = self._final if is_last else self._during, self._now_s()
        if predictor not in self._compiled:
            predictor.compile(params, self._examples)
            self._compiled.add(predictor)
        before_s = self._clock()
        evaluation = Evaluation(predictor, params, self._examples, self._target)
        if not is_last:
            self._latest_s = self._clock() - before_s
            self._spent_s += self._latest_s
        return Tested(update, predictor.samples, evaluation, self._now_s() - began_s)

    def ended(self, *, until: int | None = None) -> list[Tested]:
        """The tests that have ended since this was last asked, in their order.

        Args:
            until: Wait for those of updates before this one; None: for none.

        Raises:
            Exception: whatever a test has raised.
        """
        found = []
        while self._pending:
            update, future = self._pending[0]
            if not future.done() and (until is None or update >= until):
                break
            del self._pending[0]
            found.append(future.result())
        return found

    def __enter__(self) -> "RunTests":
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        """Wait for the thread, unless something went wrong: then nobody wants what it finds."""
        if self._executor is not None:
            self._executor.shutdown(wait=kind is None, cancel_futures=True)


def tests_of(plan: Plan, engine: Engine) -> RunTests | None:
    """The tests of a run; None: its model makes no predictions."""
    training = plan.config.training
    final = plan.predictor()
    if final is None:
        return None
    during = final
    if training.evaluate_samples != final.samples:
        during = plan.predictor(training.evaluate_samples) or final
    assert training.evaluation_share is not None
    return RunTests(
        during,
        final,
        plan.dataset.test,
        plan.dataset.targets[0],
        share=training.evaluation_share,
        now_s=engine.now_s,
        beside=has_free_core(engine, plan.config.engine),
    )


def has_free_core(engine: Engine, settings: Any) -> bool:
    """Whether a test beside training takes a core that no process of the engine needs.

    An engine without processes of its own computes on all cores, or in virtual time.
    """
    if not isinstance(engine, WithProcesses):
        return False
    return len(cores()) > (settings.workers or 1) + (getattr(settings, "servers", None) or 0)
