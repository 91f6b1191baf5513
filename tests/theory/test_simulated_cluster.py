"""The simulated cluster against what theory and publications say, in virtual time."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from distvi.parameters import place
from tests.theory.timings import BANDWIDTH, TENSORS

Runs = dict[str, SimpleNamespace]

pytestmark = pytest.mark.xdist_group("theory")  # they share simulations


@pytest.fixture(scope="session")
def runs() -> Runs:
    """The runs of ``timings.py`` by name; see there."""
    answer = subprocess.run(
        [sys.executable, "-m", "tests.theory.timings"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return {name: SimpleNamespace(**run) for name, run in json.loads(answer.stdout).items()}


@pytest.mark.parametrize("workers", [2, 8])
def test_time_of_sync_over_async_for_exponential_times(runs: Runs, workers: int) -> None:
    """P E[X_(P:P)] / E[X], Dutta et al. (2018); for exponential X that is P (1 + ... + 1 / P)."""
    sync, asynchronous = (runs[f"{name} {workers}"] for name in ("sync", "async"))
    ratio = (sync.time_s / sync.updates) / (asynchronous.time_s / asynchronous.updates)
    assert ratio == pytest.approx(workers * sum(1 / k for k in range(1, workers + 1)), rel=0.03)


@pytest.mark.parametrize("run", ["equal 4", "equal 30", "unequal 30"])
def test_staleness_of_async_is_the_number_of_other_workers(runs: Runs, run: str) -> None:
    workers = int(run.split()[1])
    assert runs[run].staleness["mean"] == pytest.approx(workers - 1, rel=0.01)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 15, 30])
def test_staleness_of_softsync_is_n(runs: Runs, n: int) -> None:
    """Zhang et al. (2016), 30 learners: n in the mean, at most 2 n.

    Each update adds one to the staleness of the gradients under way, which are those of all workers
    but the one that gave the last of its c gradients: the mean is 29 / c. It is n - n / 30 where n
    divides 30; with n = 4 an update takes 7 gradients.
    """
    staleness = runs[f"softsync {n}"].staleness
    assert staleness["mean"] == pytest.approx(29 / (30 // n), rel=0.01)
    assert staleness["max"] <= 2 * n


def test_dynamic_backup_waits_for_all_workers_of_equal_speed(runs: Runs) -> None:
    run = runs["dynamic, equal"]
    assert (run.updates, run.gradients, run.gradients_refused) == (300, 8 * 300, 0)
    assert run.time_s == pytest.approx(runs["backup 8, equal"].time_s)


def test_dynamic_backup_is_as_fast_as_the_best_fixed_number(runs: Runs) -> None:
    """One of eight is ten times slower: the first update waits for it, to know; no other does."""
    run, fixed = (
        runs["dynamic, straggler"],
        {n: runs[f"backup {n}, straggler"] for n in range(1, 9)},
    )
    assert run.gradients == 8 + 7 * 299
    rates = {n: n / (n + 8) * each.updates / each.time_s for n, each in fixed.items()}
    assert max(rates, key=lambda n: rates[n]) == 7
    assert run.time_s == pytest.approx(fixed[7].time_s, rel=0.04)
    assert run.time_s < 0.15 * fixed[8].time_s


@pytest.mark.parametrize("servers", [1, 2, 4, 8])
@pytest.mark.parametrize("placement", ["ranges", "greedy"])
def test_throughput_is_that_of_the_fullest_interface(
    runs: Runs, servers: int, placement: str
) -> None:
    """Gradients per second: bandwidth over the bytes of the fullest server's part."""
    run = runs[f"{placement} {servers}"]
    fullest = max(place(placement, TENSORS, servers).bytes)
    assert run.gradients / run.time_s == pytest.approx(BANDWIDTH / fullest, rel=0.03)
    assert max(run.server_receiving) == pytest.approx(1, rel=0.03)


def test_a_fast_network_adds_workers_up(runs: Runs) -> None:
    run = runs["no network"]
    assert run.gradients / run.time_s == pytest.approx(16, rel=0.01)
    assert run.worker_idle_fraction == pytest.approx(0, abs=1e-9)


def test_bytes_of_the_published_model_by_placement() -> None:
    """MNIST, 50 GPs, 500 features, ARD, in the creation order of the authors' code."""
    omega, weights = [784 * 500, 50 * 500], [1000 * 50, 1000 * 10]
    tensors = [2, 784, 50, *omega, *omega, *weights, *weights]
    assert sum(tensors) == 954_836
    shares = {
        name: [round(100 * place(name, tensors, s).largest_share, 1) for s in (2, 3, 4)]
        for name in ("round-robin", "greedy", "ranges")
    }
    assert shares["round-robin"] == [92.7, 48.9, 46.4]
    assert shares["greedy"] == [50.0, 41.1, 41.1]
    assert shares["ranges"] == [50.0, 33.3, 25.0]
