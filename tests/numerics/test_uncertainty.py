"""Intervals and p-values over a few seeds, against SciPy and against their own promises."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from distvi.evaluation.uncertainty import (
    Student,
    bootstrap,
    combine,
    difference,
    holm,
    mean,
    ratio,
    student,
)

STUDIES = 800


def noise_of(coverage: float) -> float:
    """Five standard errors of a coverage that is counted over the studies."""
    return 5 * math.sqrt(coverage * (1 - coverage) / STUDIES)


def by_seed(values: np.ndarray, start: int = 0) -> dict[int, float]:
    return {start + i: float(value) for i, value in enumerate(values)}


def test_mean_agrees_with_scipy(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=5)
    expected: Any = stats.ttest_1samp(values, 0.3, alternative="greater")
    assert student(values.tolist()).p_above(0.3) == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)[0], mean(values.tolist()).high
    assert mean(values.tolist(), level=0.9).low == pytest.approx(low)
    assert high == pytest.approx(stats.ttest_1samp(values, 0).confidence_interval().high)


def test_paired_difference_agrees_with_scipy(seed: int) -> None:
    one, two = np.random.default_rng(seed).normal(size=(2, 4))
    expected: Any = stats.ttest_rel(one, two, alternative="less")
    assert difference(by_seed(one), by_seed(two)).p_below() == pytest.approx(expected.pvalue)


def test_unpaired_difference_agrees_with_scipy(seed: int) -> None:
    random = np.random.default_rng(seed)
    one, two = random.normal(size=3), random.normal(scale=4, size=5)
    found = difference(by_seed(one), by_seed(two))
    expected: Any = stats.ttest_ind(one, two, equal_var=False)
    assert found.freedom == pytest.approx(expected.df)
    assert 2 * min(found.p_above(), found.p_below()) == pytest.approx(expected.pvalue)


def test_combined_estimates_of_equal_error_add_their_degrees_of_freedom() -> None:
    found = combine([(0.5, Student(2.0, 1.0, 3.0)), (0.5, Student(4.0, 1.0, 3.0))])
    assert tuple(found) == pytest.approx((3.0, math.sqrt(0.5), 6.0))


SAMPLERS: dict[str, Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]] = {
    "alike": lambda random, n: tuple(random.normal(size=(2, n))),  # type: ignore[return-value]
    "unlike": lambda random, n: (random.normal(size=n), random.normal(scale=5, size=n)),
    "skewed": lambda random, n: tuple(random.exponential(size=(2, n))),  # type: ignore[return-value]
}


@pytest.mark.parametrize("n", [3, 4, 5])
@pytest.mark.parametrize("start", [0, 100], ids=["paired", "unpaired"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_intervals_of_differences_cover(seed: int, n: int, start: int, sampler: str) -> None:
    """At least what they promise; unequal variances may cost Welch's interval a little."""
    random, covered = np.random.default_rng(seed), 0
    for _ in range(STUDIES):
        one, two = SAMPLERS[sampler](random, n)
        truth = 0.0
        interval = difference(by_seed(one), by_seed(two, start)).interval()
        covered += interval.low <= truth <= interval.high
    least = 0.95 if sampler != "unlike" or not start else 0.93
    assert covered / STUDIES >= least - noise_of(0.95)
    if sampler == "alike" and not start:
        assert covered / STUDIES <= 0.95 + noise_of(0.95)


@pytest.mark.parametrize("n", [3, 5])
def test_intervals_of_ratios_cover(seed: int, n: int) -> None:
    random, covered = np.random.default_rng(seed), 0
    for _ in range(STUDIES):
        one, two = np.exp(random.normal(scale=0.2, size=(2, n)))
        interval = ratio(by_seed(7 * one), by_seed(two))
        covered += interval.low <= 7 <= interval.high
    assert covered / STUDIES == pytest.approx(0.95, abs=noise_of(0.95))


@pytest.mark.parametrize("n", [3, 4])
def test_bootstrap_of_a_mean_is_the_t_interval(seed: int, n: int) -> None:
    """All resamples are looked at, so that it is exact."""
    values = np.random.default_rng(seed).normal(size=n).tolist()
    assert bootstrap(lambda seen: float(np.mean(seen)), values) == pytest.approx(mean(values))


def test_bootstrap_of_a_ratio_of_means_covers(seed: int) -> None:
    random, covered, studies = np.random.default_rng(seed), 0, 100
    for _ in range(studies):
        pairs = [tuple(pair) for pair in random.normal([6.0, 2.0], 0.3, size=(3, 2)).tolist()]
        interval = bootstrap(lambda seen: float(np.divide(*np.mean(seen, axis=0))), pairs)
        covered += interval.low <= 3 <= interval.high
    assert covered / studies >= 0.95 - 5 * math.sqrt(0.95 * 0.05 / studies)


def test_bootstrap_depends_on_the_content_alone(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=12).tolist()
    first, second = (bootstrap(lambda seen: float(np.median(seen)), values) for _ in range(2))
    assert first == second
    assert first.low < first.estimate < first.high


def test_one_seed_says_nothing() -> None:
    assert mean([1.0]) == (1.0, -math.inf, math.inf)
    assert bootstrap(lambda seen: sum(seen), [1.0]).high == math.inf
    assert student([1.0]).p_above(0.0) == student([1.0]).p_below(0.0) == 1.0
    assert difference({0: 1.0}, {1: 2.0, 2: 3.0}).interval().high == math.inf


def test_no_spread_is_certain() -> None:
    found = student([0.1, 0.1, 0.1])
    assert (found.error, found.p_above(0.05), found.p_above(0.1)) == (0.0, 0.0, 1.0)
    assert found.interval() == (0.1, 0.1, 0.1)


def test_ratios_refuse_what_is_not_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        ratio({0: 0.0, 1: 1.0}, {0: 1.0, 1: 1.0})
    with pytest.raises(ValueError, match="no value"):
        mean([])


def test_holm_keeps_the_probability_of_any_wrong_rejection(seed: int) -> None:
    random = np.random.default_rng(seed)
    wrong = sum(min(holm(random.uniform(size=8).tolist())) <= 0.05 for _ in range(STUDIES))
    assert wrong / STUDIES <= 0.05 + noise_of(0.05)
    assert holm([]) == ()
    assert holm([0.5, 0.001]) == (0.5, 0.002)
