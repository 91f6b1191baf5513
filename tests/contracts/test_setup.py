"""What a run is made of: its key, its order of examples, its workers' requests."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import distvi
from distvi.config.resolve import resolve
from distvi.data import batch_indices, sampling
from distvi.engines.base import read_batches, read_request
from distvi.errors import InputError
from distvi.numerics.noise import example_noise
from distvi.runs.parts import run_key
from distvi.training.plan import Plan
from distvi.training.prepare import prepare


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


def test_blocks_of_large_data_are_written_to_the_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampling, "_LARGE_BYTES", 100_000)
    plan = prepare(resolve("digits", settings={"engine": "mesh"}))
    row_bytes = plan.dataset.train.x[:1].nbytes
    assert plan.config.training.shuffle_block == 2**16 // row_bytes
