"""What a run is made of: its key, its order of examples, its workers' orders."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distvi.config.run import EngineSettings, resolve
from distvi.data import batch_indices, sampling
from distvi.engines.local import Recipe
from distvi.numerics.noise import example_noise
from distvi.runs.parts import run_key
from distvi.training.deployment import prepare_deployment
from distvi.training.plan import prepare


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
)
def test_asynchronous_processes_have_their_next_order_while_they_compute(
    settings: dict[str, Any], orders: int
) -> None:
    deployment = prepare_deployment(EngineSettings(scheme="async", **settings))
    assert deployment.scheme.pacing.in_flight == orders


@pytest.mark.parametrize(("given", "block"), [({}, 1), ({"shuffle_block": 7}, 7)])
def test_every_process_draws_the_same_blocks(given: dict[str, int], block: int) -> None:
    setup = prepare(resolve("digits", settings={"engine": "mesh", "seed": 3, **given}))
    assert setup.config.training.shuffle_block == block
    train = setup.dataset.train
    expected = batch_indices(3, len(train), 100, 3000, block)
    params = setup.shapes
    np.testing.assert_array_equal(setup.problem(params).indices(100, 3000), expected)
    recipe = setup.recipe()
    rebuilt, _ = Recipe(recipe.factory, recipe.settings).build(np.asarray(train.x), train.y)
    np.testing.assert_array_equal(rebuilt.indices(100, 3000), expected)


def test_blocks_of_large_data_are_written_to_the_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampling, "_LARGE_BYTES", 100_000)
    setup = prepare(resolve("digits", settings={"engine": "mesh"}))
    row_bytes = setup.dataset.train.x[:1].nbytes
    assert setup.config.training.shuffle_block == 2**16 // row_bytes
