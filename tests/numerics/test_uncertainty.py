"""Intervals hold what they claim to, tests err as rarely as they say."""

import math

import numpy as np
import pytest

from distvi.evaluation.uncertainty import estimated, holm

ROUNDS = 1_500


@pytest.mark.parametrize("seeds", [3, 5, 12])
@pytest.mark.parametrize("law", ["normal", "uniform"])
def test_intervals_cover_the_truth(seeds: int, law: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    covered = 0
    for _ in range(ROUNDS):
        drawn = random.normal(size=seeds) if law == "normal" else random.uniform(-1, 1, seeds)
        found = estimated(drawn)
        covered += found.low <= 0 <= found.high
    # The bootstrap of a dozen numbers misses a little more often than it says.
    allowed = 0.02 + 3 * math.sqrt(0.95 * 0.05 / ROUNDS)
    assert abs(covered / ROUNDS - 0.95) < allowed


@pytest.mark.parametrize("seeds", [3, 12])
def test_tests_err_as_rarely_as_they_say(seeds: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = [estimated(random.normal(size=seeds)).p_above for _ in range(ROUNDS)]
    share = float(np.mean(np.array(values) < 0.05))
    assert share < 0.05 + 0.015 + 3 * math.sqrt(0.05 * 0.95 / ROUNDS)


def test_a_shift_is_found() -> None:
    found = estimated([5.0, 5.1, 4.9], bound=4.0)
    assert found.p_above < 0.01 < 0.99 < found.p_below
    assert found.low < 5.0 < found.high


def test_equal_values_leave_no_doubt_and_one_leaves_all() -> None:
    assert estimated([2.0, 2.0], bound=1.0)[1:5] == (2.0, 2.0, 0.0, 1.0)
    assert estimated([2.0])[1:5] == (-math.inf, math.inf, 0.5, 0.5)
    with pytest.raises(ValueError, match="no value"):
        estimated([])


def test_holm_is_monotone_and_bounded() -> None:
    assert holm([]) == []
    assert holm([0.5]) == [0.5]
    assert holm([0.01, 0.02, 0.9]) == [0.03, 0.04, 0.9]
    assert holm([0.6, 0.7]) == [1.0, 1.0]
