"""Processes against plain training: what they compute does not depend on where it is computed."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from distvi.aggregation import (
    Scheme,
    after_own_update,
    asynchronous,
    chain,
    scale_by_staleness,
    sync,
)
from tests import linear

UPDATES = linear.UPDATES

pytestmark = pytest.mark.xdist_group("equivalence of processes")  # they share compiled programs


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.fixture
def settings(seed: int) -> dict[str, Any]:
    return {"seed": seed, "batch_size": 4}


def trained(engine: Any, updates: int = UPDATES) -> tuple[np.ndarray, Any]:
    with engine:
        values = engine.advance(updates)
        return values, jax.tree.map(np.array, engine.state)


def assert_close(one: Any, other: Any, rtol: float) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


def test_synchronous_workers_are_plain_training_with_a_larger_batch(settings, cache) -> None:
    values, state = trained(linear.local(settings, sync(), workers=2, servers=2, cache=cache))
    mesh_values, mesh_state = trained(linear.mesh(settings | {"batch_size": 8}))
    assert_close(values, mesh_values, 1e-5)
    assert_close(state.params, mesh_state.params, 1e-5)


def test_one_asynchronous_worker_is_plain_training(settings, cache) -> None:
    held = settings | {"freeze_until": {"w": 0, "b": 30, "log_sd": 10}}
    values, state = trained(linear.local(held, asynchronous(), workers=1, servers=2, cache=cache))
    mesh_values, mesh_state = trained(linear.mesh(held))
    assert_close(values, mesh_values, 1e-5)
    assert jax.tree.structure(state) == jax.tree.structure(mesh_state)
    assert_close(state, mesh_state, 1e-5)


def test_sync_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(settings, cache) -> None:
    whole_engine = linear.local(settings, sync(), workers=2, cache=cache)
    _, whole = trained(whole_engine)
    first = linear.local(settings, sync(), workers=2, cache=cache)
    with first:
        first.advance(10)
        first.advance(17)
        start = linear.from_state(first)
    rest = linear.local(settings, sync(), 2, 3, placement="greedy", cache=cache, start=start)
    assert_close(trained(rest)[1], whole, 1e-6)
    assert rest.examples == whole_engine.examples == UPDATES * 8


def test_a_rate_may_be_a_number_of_numpy(settings, cache) -> None:
    halved = chain(scale_by_staleness(lambda tau: np.exp2(-1.0)))
    scheme = Scheme("halved", halved, after_own_update())
    _, state = trained(linear.local(settings, scheme, workers=1, cache=cache), updates=2)
    assert not np.array_equal(state.params["w"], linear.start()["w"])


def test_every_gradient_is_accounted_for(settings, cache) -> None:
    engine = linear.local(settings, asynchronous(), workers=3, cache=cache)
    values, _ = trained(engine)
    assert len(values) == engine.update == UPDATES
    assert np.isfinite(values).all()
    measured = engine.statistics
    assert measured["gradients_used"] == UPDATES
    assert sum(measured["staleness"]["histogram"].values()) == UPDATES
    assert {span.what for span in engine.spans} >= {"compute", "push", "apply"}
    used = engine._transport.requests.used
    assert used <= 3  # of the requests that the end of the run has overtaken


@pytest.mark.parametrize(
    "rules",
    [
        {"diloco": {"steps": 3}},
        {"easgd": {"steps": 3}},
        {"top-k": {"fraction": 0.3}},
        {"local-steps": {"steps": 2}, "top-k": {"fraction": 0.3}, "delay-compensation": {}},
        {"cast": {"wire_dtype": "bfloat16"}},
        {"top-k": {"fraction": 0.5}, "int8": {"block": 4}},
        {"robust-mean": {"mean": "trimmed"}},
    ],
    ids=" ".join,
)
def test_processes_compute_what_simulated_workers_do(settings, cache, rules) -> None:
    own = settings | {"rules": rules, "updates": 20}
    workers = 3 if "robust-mean" in rules else 2
    values, state = trained(linear.local(own, sync(), workers, servers=2, cache=cache), 20)
    theirs, their_state = trained(linear.simulated(own, sync(), workers, servers=2), 20)
    # The last bit of a number can decide its level, of 127 from zero to the block's largest.
    near = 1e-2 if "int8" in rules else 1e-5
    assert_close(values, theirs, near)
    assert jax.tree.structure(state) == jax.tree.structure(their_state)
    assert_close(state, their_state, near)


def test_processes_hold_whole_matrices_for_an_optimizer_that_needs_them(settings, cache) -> None:
    own = settings | {"optimizer": "muon", "updates": 20}
    on_two = {"workers": 2, "servers": 2, "placement": "greedy"}
    values, state = trained(linear.local(own, sync(), **on_two, cache=cache), 20)
    theirs, their_state = trained(linear.simulated(own, sync(), **on_two), 20)
    assert_close(values, theirs, 1e-5)
    assert_close(state, their_state, 1e-5)


@pytest.mark.parametrize(
    "rules",
    [{"delay-compensation": {"strength": 1e-3}}, {"step-limit": {}}, {"top-k": {"fraction": 0.3}}],
    ids=str,
)
def test_slots_of_asynchronous_processes_are_given_back(settings, cache, rules) -> None:
    engine = linear.local(
        settings | {"rules": rules}, asynchronous(in_flight=2), 2, servers=2, cache=cache
    )
    _, state = trained(engine)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    transport = engine._transport
    assert transport.requests.used <= 2 * 2
    assert transport.versions.used <= 2 * 2 + 2
