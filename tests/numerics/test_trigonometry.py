"""sincos against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distvi.numerics.trigonometry import sincos


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0, 1e4])
def test_it_is_within_2e_7_of_float64(scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Reductions go wrong first near multiples of a quarter turn.
    quarter_turns = np.pi / 2 * np.round(rng.uniform(-scale, scale, 300_000) / (np.pi / 2))
    near = np.clip(quarter_turns + rng.normal(0.0, 1e-3, 300_000), -scale, scale)
    x = np.concatenate([rng.uniform(-scale, scale, 700_000), near]).astype(np.float32)

    sin, cos = jax.jit(sincos)(x)

    assert np.abs(np.asarray(sin) - np.sin(x.astype(np.float64))).max() < 2e-7
    assert np.abs(np.asarray(cos) - np.cos(x.astype(np.float64))).max() < 2e-7


def test_infinities_and_nan_give_nan() -> None:
    sin, cos = sincos(jnp.array([jnp.inf, -jnp.inf, jnp.nan]))
    assert jnp.isnan(sin).all()
    assert jnp.isnan(cos).all()


def test_huge_arguments_stay_bounded() -> None:
    x = jnp.array([1e5, -1e7, 1e12, 3e38, -3e38], jnp.float32)
    for values in sincos(x):
        assert (jnp.abs(values) <= 1.0 + 1e-6).all()


def test_each_is_the_others_derivative(key: jax.Array) -> None:
    x = 10.0 * jax.random.normal(key, (100,))
    sin, cos = sincos(x)
    d_sin = jax.vmap(jax.grad(lambda t: sincos(t)[0]))(x)
    d_cos = jax.vmap(jax.grad(lambda t: sincos(t)[1]))(x)
    np.testing.assert_array_equal(d_sin, cos)
    np.testing.assert_array_equal(d_cos, -sin)
