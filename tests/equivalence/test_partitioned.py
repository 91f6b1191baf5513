"""Rules that know the KL, and workers with their own share of the data, on every engine."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distvi.aggregation import asynchronous, backup_workers, sync
from distvi.algorithms.pvi import posteriors
from distvi.engines.base import read_request
from distvi.errors import InputError
from tests import linear

PVI = {"pvi": {"steps": 3}}
SERVER_DIVERGENCE = {"server-divergence": {}}
UPDATES, WORKERS = 12, 3

pytestmark = pytest.mark.xdist_group("partitioned")  # they share compiled programs


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.fixture
def settings(seed: int) -> dict[str, Any]:
    own = {"posterior": True, "workers": WORKERS, "updates": UPDATES, "rate": 1e-2}
    return {"seed": seed, "batch_size": 8, **own}


def trained(engine: Any, until: int = UPDATES) -> Any:
    with engine:
        assert np.isfinite(engine.advance(until)).all()
        return jax.tree.map(np.array, engine.state)


def assert_close(one: Any, other: Any, rtol: float) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(1e-3, np.abs(b).max()))


def simulated(settings: dict[str, Any], scheme: Any, **options: Any) -> Any:
    return linear.simulated(settings, scheme, WORKERS, **{"start": linear.POSTERIOR, **options})


def test_processes_compute_what_simulated_workers_do(settings, cache) -> None:
    own = settings | {"rules": PVI}
    local = linear.local(own, sync(), WORKERS, cache=cache, start=linear.POSTERIOR)
    played = linear.played(own, sync(), WORKERS, start=linear.POSTERIOR)
    expected = trained(simulated(own, sync()))
    assert len(expected.memories) == WORKERS
    for engine in (played, local):
        assert_close(trained(engine), expected, 1e-4)


@pytest.mark.parametrize("rules", [PVI, SERVER_DIVERGENCE, PVI | {"top-k": {"fraction": 0.5}}])
@pytest.mark.parametrize(
    "make",
    [
        partial(linear.simulated, scheme=sync(), workers=WORKERS),
        partial(linear.played, scheme=sync(), workers=WORKERS),
        linear.mesh,
    ],
    ids=["simulated", "played", "mesh"],
)
def test_they_go_on_from_a_checkpoint_bit_for_bit(
    settings, make: Callable[..., Any], rules: dict[str, Any]
) -> None:
    own = settings | {"rules": rules, "workers": 1 if make is linear.mesh else WORKERS}
    with make(own, start=linear.POSTERIOR) as whole:
        whole.advance(5)
        start = linear.from_state(whole)
        whole.advance(UPDATES)
        expected = jax.tree.map(np.array, whole.state)
    jax.tree.map(np.testing.assert_array_equal, trained(make(own, start=start)), expected)


def test_the_divergence_on_the_server_changes_nothing_without_delay(settings) -> None:
    for scheme in (sync(), backup_workers(2)):
        ours = trained(simulated(settings | {"rules": SERVER_DIVERGENCE}, scheme))
        assert_close(ours, trained(simulated(settings, scheme)), 1e-4)
    ours = trained(simulated(settings | {"rules": SERVER_DIVERGENCE}, asynchronous()))
    theirs = trained(simulated(settings, asynchronous()))
    assert not np.allclose(ours.params["w"]["mean"], theirs.params["w"]["mean"], rtol=1e-5)


@pytest.mark.parametrize("rules", [PVI, SERVER_DIVERGENCE], ids=" ".join)
def test_several_servers_are_refused(settings, rules: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"rule '{next(iter(rules))}' .* use 1 server"):
        simulated(settings | {"rules": rules}, sync(), servers=2)


def test_the_factors_are_all_of_the_posterior_but_its_prior(settings) -> None:
    """Asynchronously, too, once nothing is on its way."""
    own = settings | {"rules": PVI, "requests_per_update": 1 / WORKERS, "updates": 200}
    engine = simulated(own, asynchronous())
    with engine:
        engine.advance(200)
        params = engine.state.params
        each = [memory[-1] for memory in engine._transport.memories._now.values()]
    (factor,) = jax.tree.map(lambda *leaves: sum(map(np.float64, leaves)), *each)
    prior = np.exp(-2 * np.float64(params["log_sd"]))
    precision = np.exp(-np.float64(params["w"]["log_var"]))
    np.testing.assert_allclose(prior + factor["log_var"], precision, rtol=1e-4)
    linear_ = precision * params["w"]["mean"]
    np.testing.assert_allclose(factor["mean"], linear_, rtol=1e-4, atol=1e-4 * precision.max())


def test_every_worker_sees_its_own_share_and_all_of_it(settings) -> None:
    problem, algorithm = linear.made(settings | {"rules": PVI}, sync())
    seen = []
    for worker in range(WORKERS):
        requests = [
            read_request(problem, algorithm.worker, number, worker=worker, workers=WORKERS)
            for number in range(5)
        ]
        rows = np.stack([request.positions for request in requests])
        assert rows.shape == (5, 3, 8)
        steps = np.concatenate([request.step for request in requests])
        np.testing.assert_array_equal(steps, np.arange(15))
        np.testing.assert_array_equal(requests[2].x, problem.examples.x[rows[2]])
        seen.append(set(rows.ravel().tolist()))
    assert [rows % WORKERS for rows in map(min, seen)] == list(range(WORKERS))
    assert set.union(*seen) == set(range(linear.N))
    assert sum(map(len, seen)) == linear.N


def test_a_problem_without_shares_says_so(settings) -> None:
    problem, algorithm = linear.made(settings | {"rules": PVI}, sync())
    with pytest.raises(InputError, match="its own share of the examples, but the problem"):
        read_request(problem._replace(shares=None), algorithm.worker, 0, worker=0, workers=2)


def test_a_worker_that_died_begins_with_its_part_of_all_factors(settings) -> None:
    _, algorithm = linear.made(settings | {"rules": PVI}, sync(), WORKERS)
    params = linear.posterior() | {"log_sd": jnp.float32(0.5)}
    _, _, (factor,) = algorithm.worker.init(params)
    (q,) = posteriors(params)
    expected = (np.exp(-np.asarray(q["log_var"])) - np.exp(-1.0)) / WORKERS
    np.testing.assert_allclose(factor["log_var"], expected, rtol=1e-5)
    assert not factor["mean"].any()


def test_asynchronous_processes_give_their_slots_back(settings, cache) -> None:
    own = settings | {"rules": PVI, "requests_per_update": 1 / WORKERS}
    engine = linear.local(
        own, asynchronous(in_flight=2), WORKERS, cache=cache, start=linear.POSTERIOR
    )
    state = trained(engine)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert engine._transport.requests.used <= 2 * WORKERS
