"""What a run is made of: its key, its order of examples, its workers' requests."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distvi.config.resolve import resolve
from distvi.data import batch_indices, sampling
from distvi.engines.base import read_batches
from distvi.errors import InputError
from distvi.numerics.noise import example_noise
from distvi.runs.parts import run_key
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
