"""The tests of a run: which are made, and that beside training none is lost or half taken in."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distvi.data import Examples
from distvi.evaluation import Evaluation, Predictor
from distvi.training import run_tests
from distvi.training.run_tests import GRACE_S, RunTests

EXAMPLES = Examples(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32))


class FakePredictor(Predictor):
    """Compiles in no time; tests of it call ``act``."""

    def __init__(self, samples: int, act: Callable[[Any], None]) -> None:
        self.samples, self.act = samples, act

    def compile(self, params: Any, examples: Any) -> None:
        pass


class FakeEvaluation(Evaluation):
    """Says what it was made of."""

    def __init__(self, predictor: Any, params: Any, examples: Any, target: str) -> None:
        predictor.act(params)
        self.params = params


@pytest.fixture(autouse=True)
def _no_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_tests, "Evaluation", FakeEvaluation)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def made(
    act: Callable[[Any], None],
    share: float = 0.1,
    beside: bool = False,
    clock: Callable[[], float] = lambda: 0.0,
) -> RunTests:
    during, final = (FakePredictor(n, act) for n in (10, 50))
    return RunTests(
        during, final, EXAMPLES, "y", share=share, now_s=clock, beside=beside, clock=clock
    )


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 5)), max_size=30), st.floats(0.01, 0.9))
def test_tests_take_no_more_than_their_share(
    spans: list[tuple[float, float]], share: float
) -> None:
    """But for the grace, and for a test that takes longer than the one before it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_tests, "Evaluation", FakeEvaluation)
        clock, costs_s = Clock(), [0.0]

        def act(took_s: float) -> None:
            clock.now_s += took_s

        tests, spent_s = made(act, share, clock=clock), 0.0
        for training_s, took_s in spans:
            clock.now_s += training_s
            if tests.is_affordable():
                surprise_s = max(0.0, took_s - costs_s[-1])
                assert spent_s + took_s - surprise_s <= max(GRACE_S, share * clock.now_s) + 1e-6
                tests.begin(0, took_s)
                spent_s += took_s
                costs_s.append(took_s)


def test_all_are_made_of_a_share_of_one() -> None:
    clock = Clock()

    def act(params: Any) -> None:
        clock.now_s += 1000.0

    tests = made(act, share=1.0, clock=clock)
    for update in range(5):
        assert tests.is_affordable()
        tests.begin(update, None)
    assert [tested.update for tested in tests.ended()] == list(range(5))


def test_the_last_has_all_samples() -> None:
    tests = made(lambda params: None)
    tests.begin(1, None)
    tests.begin(2, None, is_last=True)
    assert [(tested.update, tested.samples) for tested in tests.ended()] == [(1, 10), (2, 50)]
    assert not tests.ended()


def test_beside_training_one_is_made_at_a_time_and_taken_in_when_it_has_ended() -> None:
    may_end = threading.Event()
    with made(lambda params: cast(None, may_end.wait(60)), beside=True) as tests:
        assert tests.is_affordable()
        tests.begin(10, "params")
        assert not tests.is_affordable()
        assert tests.ended() == []
        assert tests.ended(until=10) == []  # waits for those before it alone
        may_end.set()
        (tested,) = tests.ended(until=11)
        assert tested.update == 10
        assert cast(FakeEvaluation, tested.evaluation).params == "params"
        assert tests.is_affordable()


def test_beside_training_those_that_have_to_be_made_queue() -> None:
    with made(lambda params: None, share=1.0, beside=True) as tests:
        for update in range(4):
            tests.begin(update, None)
        assert [tested.update for tested in tests.ended(until=4)] == [0, 1, 2, 3]


def test_what_goes_wrong_beside_training_is_raised_where_it_is_taken_in() -> None:
    def act(params: Any) -> None:
        raise ValueError("a wrong shape")

    with made(act, beside=True) as tests:
        tests.begin(1, None)
        with pytest.raises(ValueError, match="a wrong shape"):
            tests.ended(until=2)


def test_a_run_that_goes_wrong_does_not_wait_for_its_test() -> None:
    may_end = threading.Event()
    with (
        suppress(KeyboardInterrupt),
        made(lambda _: cast(None, may_end.wait(60)), beside=True) as tests,
    ):
        tests.begin(1, None)
        tests.begin(2, None)
        raise KeyboardInterrupt
    assert tests.ended() == []
    may_end.set()
