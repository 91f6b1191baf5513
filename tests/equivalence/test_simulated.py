"""The parameter server against plain training: where theory says the same, the same comes out."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from distvi.aggregation import (
    add,
    asynchronous,
    backup_workers,
    dynamic_backup,
    k_sync,
    ssp,
    sync,
)
from distvi.engines.base import Halted
from distvi.engines.simulated.settings import CLUSTERS, cluster_of
from distvi.parameters import PLACEMENTS
from distvi.protocol import Left, TicketId
from tests import linear

UPDATES = linear.UPDATES
HELD = {"w": 0, "b": 30, "log_sd": 10}  # so that servers are not joined into one
SLOW = cluster_of(
    {
        "gradient": {"overhead_s": 0.1, "jitter": {"kind": "pareto", "shape": 1.5}},
        "workers": {"bandwidth_bytes_per_s": 1e3, "speeds": [1, 3, 2]},
        "servers": {"bandwidth_bytes_per_s": 1e3, "apply_s_per_byte": 1e-3},
    },
    "slow",
)


simulated = partial(linear.simulated, costs=SLOW)


@pytest.fixture
def problem(seed: int) -> Callable[..., dict[str, Any]]:
    def make(batch_size: int, **changes: Any) -> dict[str, Any]:
        return {"seed": seed, "batch_size": batch_size} | changes

    return make


def trained(engine: Any, updates: int = UPDATES) -> tuple[np.ndarray, Any]:
    with engine:
        values = engine.advance(updates)
        return values, jax.tree.map(np.array, engine.state)


def mesh(settings: dict[str, Any]) -> tuple[np.ndarray, Any]:
    return trained(linear.mesh(settings))


def assert_close(one: Any, other: Any, rtol: float) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


def test_synchronous_workers_are_one_worker_with_a_larger_batch(problem) -> None:
    values, state = trained(simulated(problem(4), sync(), workers=3))
    one_values, one_state = trained(simulated(problem(12), sync(), workers=1))
    assert_close(values, one_values, 1e-5)
    assert_close(state.params, one_state.params, 1e-5)
    assert_close(state.params, mesh(problem(12))[1].params, 1e-5)


def test_one_asynchronous_worker_is_plain_training(problem) -> None:
    held = problem(8, freeze_until=HELD)
    values, state = trained(simulated(held, asynchronous(), workers=1, servers=2))
    mesh_values, mesh_state = mesh(held)
    assert_close(values, mesh_values, 1e-6)
    assert jax.tree.structure(state) == jax.tree.structure(mesh_state)
    assert_close(state, mesh_state, 1e-6)


def test_servers_and_placement_change_time_but_no_parameter(problem) -> None:
    # Without a network all runs request their events alike, whatever the servers.
    costs = CLUSTERS["compute-bound"].model_copy(
        update={
            "workers": SLOW.workers.model_copy(update={"bandwidth_bytes_per_s": (math.inf,)}),
            "servers": SLOW.servers.model_copy(
                update={"bandwidth_bytes_per_s": (math.inf,), "apply_s_per_byte": 0.0}
            ),
        }
    )
    scheme = asynchronous()
    for made in (
        problem(4),
        problem(4, freeze_until=HELD),
    ):  # from joined servers, and from several
        _, one = trained(simulated(made, scheme, workers=3, costs=costs))
        for placement, servers in zip(PLACEMENTS, (2, 3, 2), strict=True):
            engine = simulated(made, scheme, 3, servers=servers, placement=placement, costs=costs)
            assert_close(trained(engine)[1], one, 1e-6)


def test_gradients_of_cancelled_requests_are_never_computed(problem, monkeypatch) -> None:
    engine = simulated(problem(4), k_sync(2), workers=4)
    transport: Any = engine._transport
    computed: list[Any] = []
    answer = transport._answer

    def counted(*inputs: Any) -> Any:
        computed.append(inputs)
        return answer(*inputs)

    monkeypatch.setattr(transport, "_answer", counted)
    trained(engine)
    assert len(computed) == engine.counters["pushed"] == 2 * UPDATES < engine.counters["pulled"]


def test_backup_without_backups_is_sync(problem) -> None:
    _, one = trained(simulated(problem(4), backup_workers(3), workers=3))
    _, other = trained(simulated(problem(4), sync(), workers=3))
    assert_close(one, other, 0)


def test_ssp_with_bound_zero_is_lockstep(problem) -> None:
    """All gradients of a round are of one version; with SGD they add up, whatever their order."""
    sgd = problem(4, optimizer="sgd", rate=1e-4)
    _, one = trained(simulated(sgd, ssp(0), workers=3), 45)
    _, other = trained(simulated(sgd, sync(add), workers=3), 15)
    assert_close(one.params, other.params, 1e-5)


def test_the_course_does_not_depend_on_how_it_is_cut(problem) -> None:
    whole = simulated(problem(4), asynchronous(), workers=3)
    parts = simulated(problem(4), asynchronous(), workers=3)
    values, state = trained(whole)
    pieces = [parts.advance(until) for until in (1, 2, 17, UPDATES)]
    np.testing.assert_array_equal(np.concatenate(pieces), values)
    assert_close(parts.state, state, 0)
    assert parts.now_s() == whole.now_s()
    assert parts.statistics == whole.statistics


@pytest.mark.parametrize("freeze_until", [None, HELD])
def test_sync_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(problem, freeze_until) -> None:
    made = problem(4, freeze_until=freeze_until)
    _, whole = trained(simulated(made, sync(), workers=3, servers=2))
    first = simulated(made, sync(), workers=3, servers=2)
    first.advance(17)
    start = linear.from_state(first)
    rest = simulated(made, sync(), 3, servers=3, placement="greedy", start=start)
    assert_close(trained(rest)[1], whole, 1e-6)
    assert rest.examples == UPDATES * 12


def test_gradients_that_are_not_finite_are_refused(problem) -> None:
    engine = simulated(problem(4, poison=7), asynchronous(), workers=3)
    values, state = trained(engine)
    assert np.isfinite(values).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    assert engine.statistics["gradients_refused"] > 0


@pytest.mark.parametrize("rules", [{}, {"robust-mean": {}}], ids=["mean", "median"])
@pytest.mark.parametrize("scheme", [sync(), backup_workers(3), dynamic_backup(1, 4.0)])
def test_a_worker_whose_gradients_are_never_finite_holds_nobody_up(
    problem, monkeypatch, scheme, rules
) -> None:
    engine = simulated(problem(4, rules=rules), scheme, workers=4, nonfinite_limit=80)
    transport: Any = engine._transport
    begin = transport._begin

    def broken(key: TicketId) -> Any:
        found = begin(key)
        return found._replace(total=np.nan, neg_elbo=np.nan) if key[0] == 2 else found

    monkeypatch.setattr(transport, "_begin", broken)
    values, state = trained(engine)
    assert np.isfinite(values).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    used = engine.statistics["gradients_used"]
    assert used <= 3 * UPDATES
    assert used == 3 * UPDATES or "dynamic" in scheme.name
    assert engine.statistics["gradients_refused"] > 0


def test_a_median_s_course_does_not_depend_on_one_bad_worker(problem, monkeypatch) -> None:
    """It sends huge numbers, which are finite; the mean is lost with the first."""

    def trained_with(rules: dict[str, Any]) -> float:
        sgd = problem(8, rules=rules, optimizer="sgd", rate=1e-4)
        engine = simulated(sgd, sync(), workers=5)
        transport: Any = engine._transport
        begin = transport._begin

        def bad(key: TicketId) -> Any:
            found = begin(key)
            return found._replace(payload=1e6 * found.payload) if key[0] == 2 else found

        monkeypatch.setattr(transport, "_begin", bad)
        return float(trained(engine)[0][-5:].mean())

    honest, _ = trained(simulated(problem(8, optimizer="sgd", rate=1e-4), sync(), workers=5))
    for mean in ("median", "trimmed", "clipped"):
        found = trained_with({"robust-mean": {"mean": mean}})
        assert found == pytest.approx(float(honest[-5:].mean()), rel=0.1), mean
    with pytest.raises(Halted, match="unusable gradients in a row"):
        trained_with({})


def test_a_run_in_which_nothing_is_finite_halts_with_a_good_state(problem) -> None:
    engine = simulated(problem(4, poison=1), asynchronous(), workers=3)
    with engine, pytest.raises(Halted, match="20 unusable gradients in a row"):
        engine.advance(UPDATES)
    assert engine.update == 0
    assert_close(engine.state.params, linear.start(), 0)


def test_a_cluster_without_workers_halts_with_a_good_state(problem) -> None:
    costs = SLOW.model_copy(
        update={"workers": SLOW.workers.model_copy(update={"crash_rate_per_s": 1.0})}
    )
    engine = simulated(problem(4), sync(), workers=3, costs=costs)
    with engine, pytest.raises(Halted, match="0 workers"):
        engine.advance(UPDATES)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(engine.state.params))


@pytest.mark.parametrize("scheme", [sync(), asynchronous()], ids=lambda scheme: scheme.name)
def test_one_local_step_of_plain_descent_is_a_gradient(problem, scheme) -> None:
    """Where nobody waits the servers' rate is 1 of n, which is plain descent at such a rate."""
    workers, rate = 3, 1e-3
    rules = {"local-steps": {"steps": 1}}
    local = problem(4, optimizer="sgd", rate=rate, rules=rules)
    plain = problem(4, optimizer="sgd", rate=rate if scheme.is_lockstep else rate / workers)
    values, one = trained(simulated(local, scheme, workers=workers))
    expected, other = trained(simulated(plain, scheme, workers=workers))
    assert_close(values, expected, 1e-4)
    assert_close(one.params, other.params, 1e-4)


LOCAL = [{"local-steps": {"steps": 2}}, {"diloco": {"steps": 2}}, {"easgd": {"steps": 2}}]


@pytest.mark.parametrize("rules", LOCAL, ids=" ".join)
def test_one_worker_is_in_lockstep_with_itself(problem, rules) -> None:
    own = problem(4, rules=rules)
    values, one = trained(simulated(own, asynchronous(), workers=1))
    expected, other = trained(simulated(own, sync(), workers=1))
    np.testing.assert_array_equal(values, expected)
    assert_close(one, other, 0)


@pytest.mark.parametrize("rules", LOCAL, ids=" ".join)
def test_asynchronous_workers_with_local_steps_learn(problem, seed, rules) -> None:
    """The line has no noise, so nothing but the error of the parameters is left."""
    own, rows = problem(4, rules=rules, optimizer="sgd", rate=1e-3), linear.examples(seed)
    _, state = trained(simulated(own, asynchronous(), workers=3))
    error = rows.y - rows.x @ state.params["w"] - state.params["b"]
    assert np.square(error).mean() < np.square(rows.y).mean() / 10


@pytest.mark.parametrize("placement", ["greedy", "round-robin"])
def test_an_optimizer_of_whole_matrices_on_several_servers(problem, placement: str) -> None:
    muon = problem(4, optimizer="muon")
    values, one = trained(simulated(muon, sync(), workers=2))
    theirs, several = trained(simulated(muon, sync(), workers=2, servers=2, placement=placement))
    assert_close(theirs, values, 1e-5)
    assert_close(several, one, 1e-5)


@pytest.mark.parametrize(
    "rules",
    [
        {"top-k": {"fraction": 0.3}},
        {"int8": {"block": 4}},
        {"local-steps": {"steps": 2}},
        {"easgd": {"steps": 2}},
    ],
    ids=" ".join,
)
def test_what_a_worker_remembers_is_used_once(problem, rules) -> None:
    """By its next answer, even where the first byte of that is here before the last is complete."""
    narrow = SLOW.servers.model_copy(update={"bandwidth_bytes_per_s": (40.0,)})
    costs = SLOW.model_copy(update={"servers": narrow})
    engine = simulated(problem(4, rules=rules), asynchronous(in_flight=3), workers=2, costs=costs)
    transport: Any = engine._transport
    used: list[Any] = []
    answer = transport._answer

    def kept(flat: Any, memory: Any, *inputs: Any) -> Any:
        used.append(memory)
        return answer(flat, memory, *inputs)

    transport._answer = kept
    trained(engine)
    assert len(used) >= UPDATES
    assert len({id(memory) for memory in used}) == len(used)


def test_a_worker_that_crashes_begins_its_memory_anew(problem) -> None:
    workers = SLOW.workers.model_copy(
        update={"crash_rate_per_s": 0.02, "rejoin_rate_per_s": 1.0, "speeds": (1.0,)}
    )
    costs = SLOW.model_copy(update={"workers": workers})
    rules = {"local-steps": {"steps": 2}, "top-k": {"fraction": 0.3}}
    engine = simulated(problem(4, rules=rules), asynchronous(), workers=3, costs=costs)
    journal: list[Any] = []
    engine.observers.append(lambda now_s, event, state, commands: journal.append(event))
    _, state = trained(engine)
    lost = engine.statistics["memories_lost"]
    assert 0 < lost == engine.counters["memories_lost"] <= sum(isinstance(e, Left) for e in journal)
    assert len(state.memories) == 3
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    start = linear.from_state(engine)
    again = simulated(problem(4, rules=rules), asynchronous(), workers=3, start=start)
    assert again.counters["memories_lost"] == lost  # it goes on counting


@pytest.mark.parametrize(
    "rules",
    [
        {"delay-compensation": {"strength": 1e-3}},
        {"delay-compensation": {"strength": 1e-2, "curvature": "adaptive"}},
        {"gap-aware": {}},
    ],
    ids=str,
)
def test_rules_for_stale_gradients_change_those_alone(problem, rules) -> None:
    for workers, is_same in ((1, True), (3, False)):
        _, one = trained(simulated(problem(4), asynchronous(), workers=workers))
        _, other = trained(simulated(problem(4, rules=rules), asynchronous(), workers=workers))
        if is_same:
            assert_close(other.params, one.params, 0)
        else:
            assert not np.allclose(other.params["w"], one.params["w"], rtol=1e-6)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(other))
