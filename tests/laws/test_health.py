"""A run that goes wrong is told so while it runs, and a good one is left in peace."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distvi.config.resolve import resolve
from distvi.data import Examples, Task
from distvi.training.health import Health, constant_loss
from distvi.training.plan import Plan
from distvi.training.prepare import prepare
from tests.small_run import MODEL, write_table

CONSTANT = 1.4189  # of a normal law in standard units


@pytest.fixture(params=["async", "sync"])
def plan(request: pytest.FixtureRequest, tmp_path: Path) -> Plan:
    table = write_table(tmp_path / "t.csv", columns="a,b,y")
    settings: dict[str, Any] = {"target": "y", "model": MODEL, "updates": 2000, "batch_size": 8}
    engine = {"engine": "simulated", "workers": 4, "scheme": request.param}
    return prepare(resolve(str(table), settings=settings | engine))


def complaints(plan: Plan, losses: dict[int, float]) -> list[str]:
    """What is said of a run with these losses, their KL aside, at its updates."""
    health, params = Health(plan), plan.initial_params()
    kl = float(plan.divergence(params)) / len(plan.dataset.train)
    found = (health.look(at, loss + kl, lambda: params) for at, loss in losses.items())
    return [each for each in found if each is not None]


def curve(*losses: float) -> dict[int, float]:
    return {100 * (n + 1): loss for n, loss in enumerate(losses)}


def test_a_good_run_is_left_in_peace(plan: Plan) -> None:
    assert not complaints(plan, curve(3.0, 1.2, 1.1, 0.9, 1.0, 0.9, 0.7, *[0.6] * 13))


def test_one_bad_report_is_an_accident(plan: Plan) -> None:
    assert not complaints(plan, curve(1.2, 0.5, 1.4, 0.5, 0.4, *[0.4] * 15))


def test_what_was_learnt_and_is_lost(plan: Plan) -> None:
    (complaint,) = complaints(plan, curve(1.2, 0.5, 1.4, 1.4, 1.4, 1.4))
    assert complaint.startswith("update 400: the run has lost most of what it had learnt: log ")
    assert "density -1.4 for a training example, and -1.42 with a constant prediction" in complaint


def test_a_run_that_learns_nothing(plan: Plan) -> None:
    (complaint,) = complaints(plan, curve(*[1.5] * 20))
    is_stale = plan.config.algorithm.scheme == "async"
    # Stale gradients are the likely cause, so it is told sooner.
    assert complaint.startswith(f"update {600 if is_stale else 1000}: the run has learnt nothing")
    assert ("--inputs pca" in complaint) == is_stale
    assert ("gradients are about 3 updates old" in complaint) == is_stale


def test_what_the_run_has_already_is_not_advised(plan: Plan) -> None:
    config = plan.config
    data = config.data.model_copy(update={"inputs": "pca"})
    turned = dataclasses.replace(plan, config=config.model_copy(update={"data": data}))
    (complaint,) = complaints(turned, curve(*[1.5] * 20))
    assert "--inputs" not in complaint
    assert "--optimizer" not in complaint  # which is the one for stale gradients


def test_it_goes_on_from_a_checkpoint(plan: Plan) -> None:
    health = Health(plan, update=1050)
    assert health.look(1100, 99.0, lambda: pytest.fail("not due")) is None


def test_the_loss_of_a_constant(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.zeros((1000, 1), np.float32)
    real = Examples(x, rng.normal(size=(1000, 2)).astype(np.float32))
    assert constant_loss(real, Task.REGRESSION) == pytest.approx(2 * CONSTANT, abs=1e-3)
    labels = Examples(x, np.repeat(np.arange(4, dtype=np.int32), 250))
    assert constant_loss(labels, Task.CLASSIFICATION) == pytest.approx(np.log(4))
    counts = rng.poisson(3.0, (1000, 1)).astype(np.float32)
    from scipy.stats import poisson

    expected = -poisson.logpmf(counts, counts.mean(dtype=np.float64)).mean()
    assert constant_loss(Examples(x, counts), Task.COUNT) == pytest.approx(expected, rel=1e-6)
    none = Examples(x, np.zeros((1000, 1), np.float32))
    assert constant_loss(none, Task.COUNT) == pytest.approx(0.0, abs=1e-9)


def test_what_was_said_before_is_not_said_again(plan: Plan) -> None:
    health = Health(plan, has_complained=True)
    assert all(health.look(100 * n, 99.0, plan.initial_params) is None for n in range(1, 20))
