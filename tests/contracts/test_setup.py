"""The key of a run."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from distvi.config import EngineSettings, resolve
from distvi.distributed import prepare_deployment
from distvi.numerics.noise import example_noise
from distvi.setup import run_key


@pytest.mark.parametrize("preferred", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_the_run_s_key_is_the_same_whatever_kind_jax_prefers(preferred: str) -> None:
    config = resolve("digits", settings={"seed": 3})
    index = jnp.arange(4, dtype=jnp.uint32)
    expected = example_noise(run_key(config), index, 3)
    with jax.default_prng_impl(preferred):
        assert (example_noise(run_key(config), index, 3) == expected).all()


@pytest.mark.parametrize(
    ("settings", "orders"),
    [
        ({"engine": "local", "workers": 2}, 2),
        ({"engine": "local", "workers": 1}, 1),
        ({"engine": "local", "workers": 2, "scheme_options": {"orders": 1}}, 1),
        ({"engine": "simulated", "workers": 2}, 1),
    ],
)
def test_asynchronous_processes_have_their_next_order_while_they_compute(
    settings: dict[str, Any], orders: int
) -> None:
    deployment = prepare_deployment(EngineSettings(scheme="async", **settings))
    assert deployment.scheme.pacing.orders == orders
