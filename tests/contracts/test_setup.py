"""What a run is made of: its key, its order of examples, its workers' requests."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import distvi
from distvi.aggregation import asynchronous, k_sync, sync
from distvi.config.resolve import resolve
from distvi.data import batch_indices, sampling
from distvi.engines.base import read_batches, read_request
from distvi.engines.local.settings import LocalSettings
from distvi.engines.mesh.settings import MeshSettings
from distvi.engines.simulated.settings import SimulatedSettings
from distvi.errors import InputError
from distvi.numerics.noise import example_noise
from distvi.runs.parts import run_key
from distvi.training.plan import Plan
from distvi.training.prepare import STALE_ADAM, prepare


@pytest.mark.parametrize("preferred", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_the_run_s_key_is_the_same_whatever_kind_jax_prefers(preferred: str) -> None:
    config = resolve("digits", settings={"seed": 3})
    index = jnp.arange(4, dtype=jnp.uint32)
    expected = example_noise(run_key(config), index, 3)
    with jax.default_prng_impl(preferred):
        assert (example_noise(run_key(config), index, 3) == expected).all()


@pytest.mark.parametrize(
    ("settings", "in_flight"),
    [
        ({"engine": "local", "workers": 2}, 2),
        ({"engine": "local", "workers": 1}, 1),
        ({"engine": "local", "workers": 2, "scheme_options": {"in_flight": 1}}, 1),
        ({"engine": "local", "workers": 2, "rules": ("pvi",)}, 1),
        ({"engine": "simulated", "workers": 2}, 1),
    ],
    ids=str,
)
def test_asynchronous_processes_have_their_next_request_while_they_compute(
    settings: dict[str, object], in_flight: int
) -> None:
    plan = prepare(resolve("digits", settings={"scheme": "async", **settings}))
    assert plan.scheme.pacing.in_flight == in_flight


@pytest.mark.parametrize(
    ("engine", "scheme", "workers", "requests"),
    [
        (LocalSettings(workers=4), sync(), 4, 1),
        (LocalSettings(), asynchronous(), 2, 1 / 2),
        (SimulatedSettings(workers=4), k_sync(3), 4, 3 / 4),
        (MeshSettings(workers=4), sync(), 1, 1),  # devices share one batch
    ],
)
def test_what_rules_are_told_of_the_workers(engine, scheme, workers: int, requests: float) -> None:
    assert engine.contributors == workers
    assert engine.requests_per_update(scheme) == requests


@pytest.mark.parametrize(("given", "block"), [({}, 1), ({"shuffle_block": 7}, 7)])
def test_every_process_draws_the_same_blocks(given: dict[str, int], block: int) -> None:
    plan = prepare(resolve("digits", settings={"engine": "mesh", "seed": 3, **given}))
    assert plan.config.training.shuffle_block == block
    train = plan.dataset.train
    expected = batch_indices(3, len(train), 100, 3000, block)
    np.testing.assert_array_equal(plan.problem.indices(100, 3000), expected)
    rebuilt = plan.recipe.build(np.asarray(train.x), train.y)
    np.testing.assert_array_equal(rebuilt.problem.indices(100, 3000), expected)


def test_every_process_has_the_same_rules() -> None:
    options = {"rule_options": {"steps": 3, "fraction": 0.1, "strength": 0.5}}
    rules = ("local-steps", "top-k", "delay-compensation")
    settings = {"engine": "mesh", "updates": 9, "rules": rules, **options}
    plan = prepare(resolve("digits", settings=settings))
    train, own = plan.dataset.train, plan.algorithm
    rebuilt = plan.recipe.build(np.asarray(train.x), train.y)
    assert rebuilt.problem.updates == plan.problem.updates == 9
    assert rebuilt.worker.batches == own.worker.batches == 3
    params, key = plan.initial_params(), plan.problem.key
    batches = jax.tree.map(jnp.asarray, read_batches(plan.problem, 0, 3))
    results = [
        jax.jit(rule.work)(params, rule.init(params), batches, key)
        for rule in (own.worker, rebuilt.worker)
    ]
    jax.tree.map(np.testing.assert_array_equal, *results)


def test_options_of_optimizers_are_spelled_with_dashes_as_well() -> None:
    options = {"consistent-rms": "0.2", "adam-learning-rate": "0.001"}
    settings = {"engine": "mesh", "updates": 9, "optimizer": "muon", "optimizer_options": options}
    found = prepare(resolve("digits", settings=settings)).config.training.optimizer_options
    assert found == {"consistent_rms": 0.2, "adam_learning_rate": 0.001}


def test_a_batch_comes_from_a_worker_s_share() -> None:
    def prepared(**settings: object) -> Plan:
        engine = {"engine": "simulated", "rules": ("pvi",), "workers": 20}
        return prepare(resolve("digits", settings=engine | settings))

    plan = prepared()
    train = len(plan.dataset.train)
    assert plan.batch_size == train // 20
    assert plan.recipe.settings["config"]["training"]["batch_size"] == train // 20
    with pytest.raises(
        InputError, match=r"training examples, 80 for each of 20 workers .* choose at most 80"
    ):
        prepared(batch_size=81)
    with pytest.raises(InputError, match=f"there are {train}; use at most {train} workers"):
        prepared(workers=train + 1)
    for engine in ("simulated", "mesh"):
        alone = prepared(engine=engine, workers=1)
        assert alone.batch_size == prepared(rules=(), workers=1).batch_size == 200
        problem, rule = alone.problem, alone.algorithm.worker
        assert rule.partitioned
        request = read_request(problem, rule, 2, worker=0, workers=1)
        stream = read_batches(problem, 2 * rule.batches, rule.batches)
        np.testing.assert_array_equal(request.positions, stream.positions)


def test_a_model_without_posteriors_is_refused_before_anything_is_written() -> None:
    class Line:
        def init(self, key: jax.Array) -> dict[str, jax.Array]:
            return {"w": jnp.zeros(64)}

        def loss(self, params: Any, batch: Any, key: jax.Array) -> jax.Array:
            return (batch.x @ params["w"]).mean()

    class WithDivergence(Line):
        def divergence(self, params: Any) -> jax.Array:
            return params["w"].sum()

    given = {"engine": "simulated", "rules": ("pvi",)}
    for model, message in ((Line, "needs the KL apart"), (WithDivergence, "needs Gaussian post")):
        with pytest.raises(InputError, match=f"rule 'pvi' {message}"):
            distvi.train("digits", model=model(), **given)
    assert not list(Path().glob("runs/*"))


def test_rules_in_an_impossible_order_are_refused_before_anything_is_written() -> None:
    settings = {"engine": "mesh", "rules": ("top-k", "local-steps")}
    with pytest.raises(InputError, match=r"'local-steps' .* before .* 'top-k'; name it first"):
        prepare(resolve("digits", settings=settings))


@pytest.mark.parametrize(
    ("engine", "contributions"),
    [
        ({"engine": "mesh"}, 1),
        ({"engine": "local", "workers": 2}, 2),
        ({"engine": "local", "workers": 8, "scheme": "async"}, 1),
        ({"engine": "simulated", "workers": 4, "scheme": "k-async"}, 2),
    ],
)
def test_robust_means_of_fewer_than_three_are_refused_before_anything_is_written(
    engine: dict[str, Any], contributions: int
) -> None:
    with pytest.raises(InputError, match=f"at least 3 contributions, .* have {contributions}:"):
        prepare(resolve("digits", settings={"rules": ("robust-mean",), **engine}))


@pytest.mark.parametrize("scheme", ["sync", "dynamic-backup", "softsync", "k-batch-async"])
def test_robust_means_of_several_are_planned(scheme: str) -> None:
    settings = {"engine": "local", "workers": 6, "scheme": scheme, "rules": ("robust-mean",)}
    assert prepare(resolve("digits", settings=settings)).algorithm.server.combine.__module__ == (
        "distvi.algorithms.robust_mean"
    )


def test_blocks_of_large_data_are_written_to_the_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampling, "_LARGE_BYTES", 100_000)
    plan = prepare(resolve("digits", settings={"engine": "mesh"}))
    row_bytes = plan.dataset.train.x[:1].nbytes
    assert plan.config.training.shuffle_block == 2**16 // row_bytes


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"scheme": "sync", "workers": 4}, {}),
        ({"scheme": "async", "workers": 1}, {}),
        ({"scheme": "async", "workers": 4}, STALE_ADAM),
        ({"scheme": "async", "workers": 4, "optimizer": "adam"}, {}),
        (
            {"scheme": "async", "workers": 4, "optimizer_options": {"b2": 0.9, "eps": 1e-6}},
            {"b1": 0.0, "b2": 0.9, "eps": 1e-6},
        ),
        # The optimizer is the worker's own there, and its gradients are fresh.
        ({"scheme": "async", "workers": 4, "rules": "local-steps"}, {}),
    ],
    ids=str,
)
def test_the_optimizer_suits_the_staleness(
    settings: dict[str, Any], options: dict[str, float]
) -> None:
    plan = prepare(resolve("digits", settings={"engine": "simulated", **settings}))
    training = plan.config.training
    assert (training.optimizer, training.optimizer_options) == ("adam", options)


def test_turned_inputs_are_the_same_for_every_process(seed: int) -> None:
    """Turned once in this process, or in each batch where they would fill the memory."""
    settings = {"engine": "mesh", "inputs": "pca", "seed": seed % 1000, "batch_size": 20}
    plan = prepare(resolve("digits", settings=settings))
    examples = plan.problem.examples
    assert examples.x.dtype == np.float32
    rebuilt = plan.recipe.build(np.asarray(examples.x), examples.y)
    in_batches = replace(plan)
    in_batches.__dict__["_conditioned"] = plan.dataset.train, plan.standardization
    params, key = plan.initial_params(), jax.random.key(seed)
    expected, others = (
        answer(rule.work, params, read_batches(problem, 0, 1), key)
        for rule, problem in (
            (plan.algorithm.worker, plan.problem),
            (in_batches.algorithm.worker, in_batches.problem),
        )
    )
    again = answer(rebuilt.worker.work, params, read_batches(rebuilt.problem, 0, 1), key)
    jax.tree.map(np.testing.assert_array_equal, again, expected)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * scale), others, expected)


def answer(work: Any, params: Any, batches: Any, key: jax.Array) -> Any:
    return jax.jit(work)(params, (), batches, key).payload
