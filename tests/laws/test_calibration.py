"""The costs of a calibration from times that are known."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from distvi.aggregation import asynchronous, sync
from distvi.calibration import (
    Arrangement,
    Calibration,
    Interplay,
    Observation,
    check_new_file,
    fit,
    write,
)
from distvi.calibration.probes import arrangements, prepare_probes
from distvi.config.resolve import resolve
from distvi.engines.simulated.cluster import Cluster
from distvi.engines.simulated.settings import ClusterSettings, cluster_named, cluster_of
from distvi.engines.simulated.timing import time_rules
from distvi.engines.trace import Span
from distvi.errors import InputError
from distvi.protocol import Rules

SIZE = 4_000_000
COSTS = {
    "gradient": {"overhead_s": 2e-3, "per_example_s": 5e-5, "jitter": {"kind": "none"}},
    "workers": {"latency_s": 1.5e-4, "bandwidth_bytes_per_s": 1e10},
    "servers": {
        "latency_s": 1.5e-4,
        "overhead_s": 3e-4,
        "bandwidth_bytes_per_s": math.inf,
        "apply_s_per_byte": 1e-9,
        "combine_s_per_byte": 2e-10,
    },
    "machine": {"cores": 2, "crowding": 0.1},
}
ARRANGEMENTS = [
    Arrangement(2, 1, 50), Arrangement(2, 1, 200), Arrangement(2, 1, 800), Arrangement(1, 1, 200),
]  # fmt: skip


def lockstep(costs: ClusterSettings, arrangement: Arrangement, updates: int = 40) -> list[Span]:
    """Spans of the local engine in lockstep on a machine with these costs, written down by hand."""
    workers, servers, batch, *_ = arrangement
    assert costs.machine is not None
    random = np.random.default_rng(batch)
    transfer_s = SIZE / costs.workers.bandwidth_bytes_per_s[0]
    latency_s = costs.workers.latency_s + costs.servers.latency_s
    work_s = costs.gradient.mean_s(batch) * costs.machine.slowdown(workers)
    sigma = getattr(costs.gradient.jitter, "sigma", 0.0)
    per_byte_s = costs.servers.apply_s_per_byte + workers * costs.servers.combine_s_per_byte
    speed = costs.machine.server_speed(workers, 0, servers)
    spans, now_s = [Span("server", number, "apply", -0.1, 0.0, 0) for number in range(servers)], 0.0
    pushed_s = [-0.01] * workers
    for base in range(updates):
        heard_s = now_s + latency_s
        for number in range(workers):
            compute_s = work_s * math.exp(sigma * random.normal() - sigma**2 / 2)
            times_s = np.cumsum([heard_s, transfer_s, compute_s, transfer_s])
            spans.append(Span("worker", number, "wait", pushed_s[number], heard_s, base))
            for what, begin_s, end_s in zip(
                ("pull", "compute", "push"), times_s, times_s[1:], strict=False
            ):
                spans.append(Span("worker", number, what, begin_s, end_s, base))
            pushed_s[number] = float(times_s[-1])
        begin_s = max(pushed_s) + latency_s + costs.servers.overhead_s
        now_s = begin_s + per_byte_s * SIZE / servers / speed
        spans += [Span("server", n, "apply", begin_s, now_s, base + 1) for n in range(servers)]
    return spans


def observed(
    costs: ClusterSettings, arrangements: Sequence[Arrangement], updates: int = 40, turns: int = 1
) -> list[Observation]:
    found = [Observation(each) for each in arrangements]
    for each in found:
        for _ in range(turns):
            each.add(lockstep(costs, each.arrangement, updates), 0, updates)
    return found


@pytest.mark.parametrize("servers", [1, 2])
def test_costs_without_noise_come_back(servers: int) -> None:
    costs = cluster_of(COSTS, "test")
    arrangements = [each._replace(servers=servers) for each in ARRANGEMENTS]
    found = fit(observed(costs, arrangements), SIZE, cores=2)
    assert found.gradient.overhead_s == pytest.approx(2e-3)
    assert found.gradient.per_example_s == pytest.approx(5e-5)
    assert found.gradient.jitter.kind == "none"
    assert found.workers.bandwidth_bytes_per_s[0] == pytest.approx(1e10)
    assert found.workers.latency_s + found.servers.latency_s == pytest.approx(3e-4)
    assert found.servers.overhead_s == pytest.approx(3e-4)
    assert found.servers.apply_s_per_byte == pytest.approx(1e-9)
    assert found.servers.combine_s_per_byte == pytest.approx(2e-10)
    assert found.machine is not None
    assert found.machine.crowding == pytest.approx(0.1)


@pytest.mark.parametrize("crowding", [0.0, 0.7])
def test_what_servers_take_from_one_another_comes_back(crowding: float) -> None:
    machine = {"machine": {"cores": 2, "server_crowding": crowding}}
    costs = cluster_of(COSTS | machine, "test")
    more = [each._replace(servers=servers) for each in ARRANGEMENTS[:2] for servers in (2, 3)]
    found = fit(observed(costs, [*ARRANGEMENTS, *more]), SIZE, cores=2)
    assert found.machine is not None
    assert found.machine.server_crowding == pytest.approx(crowding)
    assert found.servers.apply_s_per_byte == pytest.approx(1e-9)
    assert found.servers.combine_s_per_byte == pytest.approx(2e-10)


@pytest.mark.parametrize(("optimizer", "servers"), [("adam", {1, 2}), ("muon", {1})])
def test_other_servers_are_measured_where_the_optimizer_can_have_them(
    optimizer: str, servers: set[int]
) -> None:
    settings = {"engine": "local", "optimizer": optimizer, "model": {"width": 2, "features": 4}}
    found = arrangements(prepare_probes(resolve("digits", settings=settings)))
    assert {each.servers for each in found} == servers


@pytest.mark.parametrize("workers", [1, 2])
def test_jitter_and_mean_of_random_times_come_back(workers: int) -> None:
    """Within what so many draws can tell: a few standard errors of each."""
    gradient = COSTS["gradient"] | {"jitter": {"kind": "lognormal", "sigma": 0.1}}
    costs = cluster_of(COSTS | {"gradient": gradient}, "test")
    arrangements = [each for each in ARRANGEMENTS if each.workers <= workers]
    arrangements.append(Arrangement(1, 1, 800))
    found = fit(observed(costs, arrangements, updates=1000), SIZE, cores=2)
    assert found.gradient.mean_s(200) == pytest.approx(costs.gradient.mean_s(200), rel=0.02)
    assert found.gradient.jitter.kind == "lognormal"
    assert found.gradient.jitter.sigma == pytest.approx(0.1, rel=0.1)


def test_a_turn_in_which_the_machine_did_something_else_changes_nothing() -> None:
    costs = cluster_of(COSTS, "test")
    observations = observed(costs, ARRANGEMENTS, turns=3)
    for each in observations:
        for number, own in each.gradients_s.items():
            own[1][7] += 1.0 + number
    found = fit(observations, SIZE, cores=2)
    assert found.gradient.mean_s(200) == pytest.approx(costs.gradient.mean_s(200), rel=1e-6)
    assert found.gradient.jitter.kind == "none"


def test_costs_are_never_negative() -> None:
    """Large batches that are cheaper by chance: no cost per example, rather than one below 0."""
    observations = [Observation(each) for each in ARRANGEMENTS]
    for each, gradient_s in zip(observations, (3e-3, 2e-3, 1e-3, 5e-3), strict=True):
        for number in range(each.arrangement.workers):
            each.gradients_s[number] = [[gradient_s] * 10]
        each.transfers_s.append([1e-4] * 10)
        each.messages_s.append([1e-4] * 10)
        each.updates_s.append([1e-3 / each.arrangement.workers] * 10)
    found = fit(observations, SIZE, cores=2)
    assert found.gradient.overhead_s > 0 == found.gradient.per_example_s
    assert found.servers.apply_s_per_byte > 0 == found.servers.combine_s_per_byte
    assert found.machine is not None
    assert found.machine.crowding == 0


def test_updates_of_which_a_span_is_missing_are_left_out() -> None:
    costs = cluster_of(COSTS, "test")
    observation = Observation(ARRANGEMENTS[0])
    spans = lockstep(costs, ARRANGEMENTS[0], updates=5)
    lost = Span("worker", 1, "push", 0, 0, 2)
    kept = [span for span in spans if (span[:3], span.version) != (lost[:3], lost.version)]
    observation.add(kept, 0, 5)
    assert [len(turn) for turn in observation.updates_s] == [4]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_simulated_cluster_takes_as_long_as_what_it_was_fitted_to(workers: int) -> None:
    costs = cluster_of(COSTS, "test")
    spans = lockstep(costs, Arrangement(workers, 1, 200))
    end_s = max(span.end_s for span in spans if span.where == "server")
    timing = time_rules(Rules(sync(), updates=40), Cluster(costs, workers, [SIZE], 200))
    assert timing.time_s == pytest.approx(end_s, rel=0.01)  # it ends with the last update told


def test_what_workers_lose_to_servers_comes_back() -> None:
    """Gradients that take 2 s alone, and half of the time longer for which two servers work."""
    interplay = Interplay(Arrangement(2, 2, 50, "async"))
    spans = []
    for version, overlap_s in enumerate((0.0, 0.4, 1.0, 0.6)):
        begin_s = 10.0 * version
        spans.append(Span("worker", 0, "compute", begin_s, begin_s + 2 + overlap_s / 2, version))
        for number in range(2 if overlap_s else 0):
            times_s = begin_s - 1, begin_s + overlap_s - 0.1 * number
            spans.append(Span("server", number, "apply", *times_s, version))
    interplay.add(spans, 0, 4)
    assert interplay.overlaps_s == [pytest.approx([0.0, 0.4, 1.0, 0.6])]
    costs = cluster_of(
        COSTS | {"gradient": {"overhead_s": 1.0 / 1.1, "per_example_s": 0.02 / 1.1}}, ""
    )
    observations = observed(costs, [each._replace(servers=2) for each in ARRANGEMENTS])
    found = fit(observations, SIZE, 2, [interplay])
    assert found.machine is not None
    assert found.machine.interference == pytest.approx(0.5)


def test_the_file_reads_back(tmp_path: Path) -> None:
    costs = cluster_of(COSTS, "test")
    path = tmp_path / "cluster.toml"
    observations = tuple(observed(costs, ARRANGEMENTS))
    write(path, Calibration(costs, observations, "digits"))
    assert cluster_named(str(path)) == costs
    assert path.read_text().startswith(
        "# Measured by distvi calibrate: digits with 2 workers, 1 server and batches of 50 to 800."
    )
    with pytest.raises(InputError, match="never overwritten"):
        check_new_file(path)


# The machine that they share


def seconds(machine: dict[str, float] | None, workers: int, servers: int, scheme=sync) -> float:
    """Of a gradient, on servers that take a second for an update and workers that take four."""
    table = {
        "gradient": {"overhead_s": 4.0},
        "workers": {"bandwidth_bytes_per_s": math.inf},
        "servers": {"bandwidth_bytes_per_s": math.inf, "apply_s_per_byte": 0.01},
    }
    costs = cluster_of(table | ({"machine": machine} if machine else {}), "test")
    run = Cluster(costs, workers, [100 // servers] * servers, 1)
    timing = time_rules(Rules(scheme(), updates=80), run)
    return timing.time_s / timing.gradients * workers


def test_servers_share_what_the_workers_leave() -> None:
    assert seconds(None, 1, 2) == pytest.approx(4.5, rel=0.03)
    assert seconds({"cores": 2}, 1, 2) == pytest.approx(5.0, rel=0.03)
    assert seconds({"cores": 3}, 1, 2) == pytest.approx(4.5, rel=0.03)
    assert seconds({"cores": 2}, 2, 2) == pytest.approx(4.5, rel=0.03)


def test_more_workers_than_cores_take_turns() -> None:
    assert seconds({"cores": 2}, 4, 1) == pytest.approx(9.0, rel=0.03)


def test_crowding_is_of_the_workers_that_have_a_core() -> None:
    assert seconds({"cores": 2, "crowding": 0.25}, 2, 1) == pytest.approx(6.0, rel=0.03)
    assert seconds({"cores": 2, "crowding": 0.25}, 4, 1) == pytest.approx(11.0, rel=0.03)


def test_crowding_is_of_the_servers_at_work() -> None:
    crowded = {"cores": 2, "server_crowding": 0.5}  # half a second each, and a quarter more
    assert seconds(crowded, 2, 2) == pytest.approx(4.75, rel=0.03)
    assert seconds(crowded, 2, 1) == pytest.approx(5.0, rel=0.03)


def test_interference_is_what_workers_lose_to_a_server() -> None:
    """A worker takes 4 s and its server 1 s; the other worker computes through that second."""
    alone, beside = (
        seconds({"cores": 2, "interference": share}, 2, 1, asynchronous) for share in (0.0, 0.6)
    )
    assert alone == pytest.approx(5.0, rel=0.03)
    assert beside == pytest.approx(5.6, rel=0.03)
    assert seconds({"cores": 3, "interference": 0.6}, 2, 1, asynchronous) == alone


def test_an_update_takes_its_overhead_whatever_its_bytes() -> None:
    table = {
        "gradient": {"overhead_s": 4.0},
        "workers": {"bandwidth_bytes_per_s": math.inf},
        "servers": {"bandwidth_bytes_per_s": math.inf, "overhead_s": 0.5},
    }
    for servers in (1, 2):
        run = Cluster(cluster_of(table, "test"), 1, [50] * servers, 1)
        assert time_rules(Rules(sync(), updates=11), run).time_s == pytest.approx(11 * 4.5 - 0.5)


def test_no_work_is_done_faster_than_the_cores_can() -> None:
    """Two cores, four seconds of a worker and one of servers a gradient: 2.5 s each at least."""
    for servers in (1, 2, 4):
        assert seconds({"cores": 2}, 2, servers, asynchronous) >= 5.0 * 0.97
