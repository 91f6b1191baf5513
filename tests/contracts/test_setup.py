"""What a run is made of: its key, its order of examples, its workers' orders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distvi.config.algorithm import AlgorithmSettings
from distvi.config.resolve import resolve
from distvi.data import batch_indices, sampling
from distvi.engines.local import Recipe
from distvi.engines.local.settings import LocalSettings
from distvi.engines.settings import ParameterServerSettings
from distvi.engines.simulated.settings import SimulatedSettings
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
    ("settings", "options", "in_flight"),
    [
        (LocalSettings(workers=2), {}, 2),
        (LocalSettings(workers=1), {}, 1),
        (LocalSettings(workers=2), {"in_flight": 1}, 1),
        (SimulatedSettings(workers=2), {}, 1),
    ],
)
def test_asynchronous_processes_have_their_next_order_while_they_compute(
    settings: ParameterServerSettings, options: dict[str, int | str], in_flight: int
) -> None:
    algorithm = AlgorithmSettings(scheme="async", scheme_options=options)
    assert prepare_deployment(settings, algorithm).scheme.pacing.in_flight == in_flight


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
