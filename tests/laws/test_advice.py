"""Advice on studies whose best setting is known."""

import math
from dataclasses import replace
from typing import Any

import pytest

from distvi.aggregation import sync
from distvi.engines.simulated.cluster import Cluster
from distvi.engines.simulated.settings import cluster_named
from distvi.engines.simulated.timing import time_rules
from distvi.errors import InputError
from distvi.parameters import place
from distvi.protocol import Rules
from distvi.runs.records import Record, Settings
from distvi.studies.advice import advise, machines
from tests.study_records import study

STUDY = study(scheme=["sync", "async"], workers=[1, 2, 4, 8, 16])


def test_the_fastest_to_the_target_is_the_largest_that_reaches_it() -> None:
    """Asynchronous workers are faster, and from the third on above 5 %."""
    advice = advise(STUDY, target_error=0.05)
    assert advice.best is not None
    assert advice.best.settings == {"scheme": "sync", "workers": 16}
    assert advice.runner_up is not None
    assert advice.runner_up.settings == {"scheme": "sync", "workers": 8}
    assert advice.differs
    first = advice.lines()[0]
    assert first.startswith("Best for error_rate 0.05 in the least time: scheme=sync, workers=16: ")


def test_the_least_error_within_a_budget() -> None:
    advice = advise(STUDY, budget_s=2.2)
    assert advice.best is not None
    assert advice.runner_up is not None
    assert advice.best.settings == {"scheme": "async", "workers": 16}  # the others have just begun
    assert advice.best.time_s <= 2.2
    assert all(error == pytest.approx(0.298, abs=0.02) for error in advice.best.by_seed.values())


def test_core_hours_count_servers_too() -> None:
    """Synchronous: 16 workers would be faster, and cost more for the time that they wait."""
    advice = advise(STUDY, target_error=0.08, budget_core_hours=0.031)
    assert advice.best is not None
    assert advice.best.settings == {"scheme": "sync", "workers": 8}
    assert advice.best.core_hours == pytest.approx(advice.best.time_s * 9 / 3600)
    unlimited = advise(STUDY, target_error=0.08).best
    assert unlimited is not None
    assert unlimited.core_hours > 0.031
    assert machines({"workers": 4, "engine": "mesh"}) == 4
    assert machines({"workers": 4, "servers": 2}) == 6
    assert machines({}) == 2


def test_settings_alike_do_not_differ() -> None:
    advice = advise(study(scheme=["sync", "mesh"], workers=[4]), target_error=0.05)
    assert advice.runner_up is not None
    assert not advice.differs
    assert any("do not differ beyond the noise" in line for line in advice.lines())


def test_one_seed_is_said() -> None:
    advice = advise([r for r in STUDY if r.seed == 0], target_error=0.05)
    assert advice.p_value == 1
    assert "(one seed)" in advice.lines()[0]
    assert any("uncertainty is unknown" in line for line in advice.lines())


def test_a_seed_that_misses_the_target_rules_its_setting_out() -> None:
    def missing(record: Record) -> Record:
        bad = record.settings == {"scheme": "sync", "workers": 16} and record.seed == 1
        return replace(record, status="diverged") if bad else record

    advice = advise([missing(record) for record in STUDY], target_error=0.05)
    assert advice.best is not None
    assert advice.best.settings == {"scheme": "sync", "workers": 8}


def test_a_target_that_nothing_reaches() -> None:
    advice = advise(STUDY, target_error=0.001)
    assert advice.best is None
    first, second = advice.lines()
    assert first == "With all its seeds, no setting reaches error_rate 0.001 in the least time."
    assert second.startswith("The lowest error_rate of any training is 0.0")


def test_regression_is_judged_by_rmse() -> None:
    def regression(record: Record) -> Record:
        measured = record.measured
        curve = measured.curve | {"test_rmse": measured.curve["test_error_rate"]}
        test = {"rmse": measured.test["error_rate"]}
        return replace(record, measured=replace(measured, test=test, curve=curve))

    advice = advise([regression(record) for record in STUDY], target_error=0.05)
    assert advice.metric == "rmse"
    assert advice.best is not None
    assert advice.best.settings == {"scheme": "sync", "workers": 16}


@pytest.mark.parametrize("limits", [{"target_error": 0.0}, {"budget_s": -1.0}])
def test_impossible_limits_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must be above 0"):
        advise(STUDY, **limits)
    with pytest.raises(InputError, match="run it first"):
        advise([])


def test_a_fit_extrapolates_what_it_can_express() -> None:
    """Time falls as 1/n under async: four times the workers take a quarter of the time."""
    records = [r for r in STUDY if r.settings["scheme"] == "async"]
    advice = advise(records)
    assert [each.workers for each in advice.predictions] == [32, 64]
    for each in advice.predictions:
        truth = 100 / 240 / each.workers
        assert each.update_s.low < truth < each.update_s.high
        assert each.update_s.estimate == pytest.approx(truth, rel=0.25)
    lines = advice.lines()
    assert any("a fit of a + b/n + c n extrapolates" in line for line in lines)
    assert any("is not extrapolated" in line for line in lines)


def test_two_numbers_of_workers_are_too_few_for_a_fit() -> None:
    advice = advise(study(workers=[1, 2]))
    assert advice.predictions == ()
    assert "three numbers of workers" in advice.lines()[-1]


def test_ones_own_cost_model_is_corrected_by_what_was_measured() -> None:
    """It has the right form and twice the time."""

    def twice(settings: Settings, workers: int) -> float | None:
        return 2 * 100 / 240 / workers**0.7

    advice = advise(study(workers=[1, 2, 4, 8]), predict=twice)
    for each in advice.predictions:
        assert each.by == "the cost model"
        assert each.update_s.estimate == pytest.approx(100 / 240 / each.workers**0.7, rel=0.03)
        assert each.update_s.low < each.update_s.estimate < each.update_s.high < math.inf


def _simulated(workers: int, seed: int, size: int = 50_000) -> float:
    parts = place("ranges", (size,), 1).bytes
    cluster = Cluster(cluster_named("network-bound"), workers, parts, 200, seed)
    return time_rules(Rules(sync(), updates=20), cluster).time_s / 20


def test_the_simulated_cluster_predicts_itself() -> None:
    """Records of it, twice and four times the workers: what it takes when it is run with them."""
    axes = {"workers": [1, 2], "cluster": ["network-bound"], "batch_size": [200]}
    records = []
    for record in study(scheme=["sync"], **axes):  # type: ignore[arg-type]
        workers = int(record.settings["workers"])
        gradients = {"used": 240 * workers, "refused": 0, "cancelled": 0}
        pushed = 240 * workers * 50_000 * 4
        measured = replace(
            record.measured,
            time_s=240 * _simulated(workers, record.seed),
            gradients=gradients,
            bytes={"pushed": pushed, "pulled": pushed},
        )
        records.append(replace(record, measured=measured))
    advice = advise(records)
    assert [each.by for each in advice.predictions] == ["the simulated cluster"] * 2
    for each in advice.predictions:
        assert each.update_s.low < _simulated(each.workers, 1) < each.update_s.high
        assert each.update_s.estimate == pytest.approx(_simulated(each.workers, 1), rel=0.05)
