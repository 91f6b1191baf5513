"""The cluster in virtual time: closed forms of single messages, faults, and no hang."""

import json
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distvi.aggregation import (
    Scheme,
    add,
    asynchronous,
    backup_gradients,
    backup_workers,
    drop_stale_async,
    dynamic_backup,
    k_async,
    k_batch_sync,
    k_sync,
    softsync,
    ssp,
    sync,
)
from distvi.engines.simulated.cluster import Cluster
from distvi.engines.simulated.machines import Port, Spells
from distvi.engines.simulated.settings import (
    CLUSTERS,
    ClusterSettings,
    LogNormal,
    NoJitter,
    Pareto,
    ShiftedExponential,
    SlowSpells,
    cluster_named,
    cluster_of,
)
from distvi.engines.simulated.timeline import Timeline
from distvi.engines.simulated.timing import time_rules
from distvi.engines.trace import Span, perfetto
from distvi.errors import InputError
from distvi.protocol import (
    Command,
    Event,
    GradientArrived,
    Outcome,
    Rules,
    State,
    drive,
    violations,
)

SCHEMES = [
    sync(), sync(add), asynchronous(), asynchronous(in_flight=2), backup_workers(3),
    dynamic_backup(1, 4.0), backup_gradients(3), ssp(0), ssp(2), softsync(2), k_sync(2),
    k_batch_sync(2), k_async(2), drop_stale_async(1),
]  # fmt: skip


def table(**changes: dict[str, Any]) -> dict[str, Any]:
    tables: dict[str, dict[str, Any]] = {
        "gradient": {"overhead_s": 1.0, "per_example_s": 0.5},
        "workers": {"bandwidth_bytes_per_s": math.inf},
        "servers": {"bandwidth_bytes_per_s": math.inf},
    }
    return {name: content | changes.get(name, {}) for name, content in tables.items()}


def cluster(**changes: dict[str, Any]) -> ClusterSettings:
    return cluster_of(table(**changes), "test")


def test_one_gradient_takes_the_sum_of_its_parts() -> None:
    costs = cluster(
        workers={"bandwidth_bytes_per_s": 100, "latency_s": 0.25, "speeds": 2},
        servers={"bandwidth_bytes_per_s": 50, "latency_s": 0.5, "apply_s_per_byte": 0.01},
    )
    run = Cluster(costs, 1, [100], batch_size=4)
    assert time_rules(Rules(asynchronous(), updates=1), run).failure == ""
    network_s = 0.75 + 100 / 50  # the slower interface, and both latencies
    assert run.now_s == pytest.approx(network_s + (1 + 0.5 * 4) / 2 + network_s)
    run = Cluster(costs, 1, [100], batch_size=4)
    time_rules(Rules(asynchronous(), updates=2), run)
    assert run.now_s == pytest.approx(2 * (2 * network_s + 1.5) + 0.01 * 100)


def test_messages_queue_at_both_ends() -> None:
    # Both workers push at once; the server receives one after the other, and both directions
    # are carried at the same time.
    costs = cluster(servers={"bandwidth_bytes_per_s": 50})
    run = Cluster(costs, 2, [100], batch_size=4)
    time_rules(Rules(sync(), updates=1), run)
    assert run.now_s == pytest.approx(2 * 2 + 3 + 2)  # the first is through as the second comes
    # Two servers share the work, until the worker's own interface is the narrow one.
    costs = cluster(servers={"bandwidth_bytes_per_s": 50}, workers={"bandwidth_bytes_per_s": 25})
    run = Cluster(costs, 1, [50, 50], batch_size=4)
    time_rules(Rules(sync(), updates=1), run)
    assert run.now_s == pytest.approx(100 / 25 + 3 + 100 / 25)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_every_scheme_under_crashes_keeps_every_promise(scheme: Scheme) -> None:
    costs = cluster(
        gradient={"jitter": {"kind": "pareto", "shape": 1.5}},
        workers={"crash_rate_per_s": 0.05, "rejoin_rate_per_s": 0.2, "speeds": [1, 2, 3]},
        servers={"bandwidth_bytes_per_s": 30, "latency_s": 0.1, "apply_s_per_byte": 0.001},
    )
    rules = Rules(scheme, updates=25)
    broken: list[str] = []
    times: list[float] = []

    def check(now_s: float, event: Event, state: State, commands: tuple[Command, ...]) -> None:
        broken.extend(violations(rules, state))
        times.append(now_s)

    run = Cluster(costs, 4, [8, 8], batch_size=2, seed=7)
    state = drive(rules, run, observers=(check,))
    assert state.outcome is Outcome.DONE
    assert not broken
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert 0 < run.computing_s <= run.present_s <= 4 * run.now_s


def test_it_knows_which_gradient_arrives_next() -> None:
    run = Cluster(cluster(workers={"speeds": [1, 1.1, 1.2]}), 3, [8, 8], batch_size=2)
    assert run.upcoming() is None
    expected, arrived = [], []

    def look(now_s: float, event: Event, state: State, commands: tuple[Command, ...]) -> None:
        if isinstance(event, GradientArrived):
            arrived.append(event.ticket.key)
            expected.append(run.upcoming())

    drive(Rules(asynchronous(), updates=30), run, observers=(look,))
    assert len(arrived) == 30
    assert expected[:-1] == arrived[1:]  # nobody is so fast as to overtake with a new request


def test_a_cluster_that_loses_all_workers_ends_with_the_reason() -> None:
    run = Cluster(cluster(workers={"crash_rate_per_s": 0.1}), 3, [4], batch_size=2)
    timing = time_rules(Rules(sync(), updates=10_000), run)
    assert "nothing can happen any more" in timing.failure
    assert "0 workers" in timing.failure


def test_workers_that_always_crash_are_a_stall() -> None:
    costs = cluster(workers={"crash_rate_per_s": 1e3, "rejoin_rate_per_s": 1e3})
    timing = time_rules(Rules(sync(), updates=3), Cluster(costs, 3, [4], batch_size=2))
    assert timing.failure.startswith("stalled: no update in the last")


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient": {"overhead_s": 1e308, "per_example_s": 1e308}},
        {"servers": {"bandwidth_bytes_per_s": 1e-320}},
    ],
)
def test_times_beyond_all_numbers_are_a_stall(changes: dict[str, Any]) -> None:
    made = Cluster(cluster(**changes), 2, [4], batch_size=2)
    timing = time_rules(Rules(asynchronous(), updates=3), made)
    assert timing.failure == "stalled: after 0 s nothing happens in finite time"
    assert math.isfinite(timing.time_s)


def test_the_same_seed_repeats_the_run_and_another_does_not() -> None:
    def run(seed: int) -> tuple:
        timeline = Timeline()
        costs = CLUSTERS["network-bound"]
        made = Cluster(costs, 4, [1000, 1000], batch_size=10, seed=seed, timeline=timeline)
        return time_rules(Rules(asynchronous(), updates=100), made), timeline.spans

    assert run(1) == run(1)
    assert run(1)[0].time_s != run(2)[0].time_s


@pytest.mark.parametrize(
    ("scheme", "lanes"),
    [(k_sync(2), 1), (asynchronous(in_flight=2), 2), (asynchronous(in_flight=3), 3)],
)
def test_a_timeline_has_no_overlap_on_a_track(scheme: Scheme, lanes: int) -> None:
    timeline = Timeline()
    costs = CLUSTERS["network-bound"]
    costs = costs.model_copy(
        update={"workers": costs.workers.model_copy(update={"crash_rate_per_s": 0.1})}
    )
    made = Cluster(costs, 4, [10**6], batch_size=100, timeline=timeline)
    time_rules(Rules(scheme, updates=100), made)
    assert {span.lane for span in timeline.spans} == set(range(lanes))
    tracks: dict[tuple[str, int, int], list[Span]] = {}
    for span in timeline.spans:
        tracks.setdefault((span.where, span.number, span.lane), []).append(span)
    for spans in tracks.values():
        assert all(span.start_s < span.end_s for span in spans)
        assert all(a.end_s <= b.start_s + 1e-12 for a, b in pairwise(spans))


def test_a_timeline_is_a_file_for_perfetto() -> None:
    spans = [
        Span("worker", 0, "pull", 0.0, 0.5, 3),
        Span("server", 0, "apply", 0.25, 0.75, 4),
        Span("worker", 0, "pull", 0.5, 1.0, 4, lane=1),
    ]
    events = json.loads(perfetto(spans))["traceEvents"]
    shown = [event for event in events if event["ph"] == "X"]
    assert [(event["ts"], event["dur"]) for event in shown] == [
        (0.0, 5e5), (2.5e5, 5e5), (5e5, 5e5)
    ]  # fmt: skip
    assert [event["args"]["version"] for event in shown] == [3, 4, 4]
    assert len({(event["pid"], event["tid"]) for event in shown}) == 3
    names = [event["args"].get("name") for event in events if event["ph"] == "M"]
    assert [name for name in names if name] == [
        "workers", "servers", "worker 0", "server 0", "worker 0, request 2"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "jitter",
    [
        NoJitter(),
        LogNormal(kind="lognormal", sigma=0.5),
        ShiftedExponential(kind="shifted-exponential", random_share=0.7),
        Pareto(kind="pareto", shape=3.0),
    ],
    ids=lambda jitter: jitter.kind,
)
def test_jitter_has_mean_one(jitter, seed: int) -> None:
    from random import Random

    random = Random(seed)
    draws = [jitter.draw(random) for _ in range(40_000)]
    mean = sum(draws) / len(draws)
    variance = sum((draw - mean) ** 2 for draw in draws) / len(draws)
    assert abs(mean - 1) <= 4 * math.sqrt(variance / len(draws)) + 1e-12
    assert min(draws) > 0


@settings(max_examples=50)
@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=30), st.integers(0, 1000))
def test_work_in_slow_spells_takes_no_less_and_no_more(works: list[float], seed: int) -> None:
    from random import Random

    spells = Spells(SlowSpells(rate_per_s=0.5, mean_s=1.0, slowdown=3.0), Random(seed))
    now_s = 0.0
    for work_s in works:
        end_s = spells.end_s(now_s, work_s)
        assert work_s * (1 - 1e-9) <= end_s - now_s <= 3 * work_s * (1 + 1e-9)
        now_s = end_s


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"servers": {"bandwidth_bytes_per_s": 0}},
            "servers.bandwidth_bytes_per_s.0' is 0: .*than 0",
        ),
        ({"workers": {"bandwidth_bytes_per_s": [1, -1]}}, "workers.bandwidth_bytes_per_s.1' is -1"),
        ({"workers": {"speeds": [1, math.inf]}}, "workers.speeds.1' is inf: .*finite"),
        ({"workers": {"latency": 1}}, "unknown key 'workers.latency'"),
        ({"gradient": {"overhead_s": 0, "per_example_s": 0}}, "gradients would take no time"),
        ({"gradient": {"jitter": {"kind": "pareto", "shape": 1}}}, "shape' is 1: .*greater than 1"),
        ({"gradient": {"jitter": {"kind": "gaussian"}}}, "gradient.jitter.*gaussian"),
    ],
)
def test_impossible_clusters_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cluster(**changes)


def test_clusters_by_name_and_file(tmp_path) -> None:
    assert cluster_named("network-bound") is CLUSTERS["network-bound"]
    with pytest.raises(InputError, match="did you mean 'network-bound'"):
        cluster_named("netwrk-bound")
    with pytest.raises(InputError, match="cannot read cluster"):
        cluster_named(str(tmp_path / "absent.toml"))
    (tmp_path / "bad.toml").write_text("[gradient\n")
    with pytest.raises(InputError, match="no valid TOML"):
        cluster_named(str(tmp_path / "bad.toml"))


def test_a_port_that_will_carry_later_is_not_busy_before() -> None:
    port = Port(math.inf)
    port.carry(2.0, 100)
    assert port.busy_until_s(1.0) == 0.0
    port = Port(10.0)
    port.carry(2.0, 100)
    assert [port.busy_until_s(now_s) for now_s in (1.0, 2.0, 7.0, 12.0, 20.0)] == [0, 0, 5, 10, 10]
    port.stop(7.0)
    assert (port.busy_s, port.free_s) == (5.0, 7.0)
