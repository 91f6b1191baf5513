"""The fused feature-and-moments layers against their definition, and against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distvi.numerics.features import TRIGONOMETRIC, FeatureMap, ramp, turned
from tests.numerics.differences import check_gradients

MAPS = {"trigonometric": TRIGONOMETRIC, "step": ramp(0), "ramp": ramp(1), "squared ramp": ramp(2)}
every_map = pytest.mark.parametrize("feature_map", MAPS.values(), ids=MAPS.keys())
Inputs = tuple[jax.Array, jax.Array, jax.Array]


def inputs(feature_map: FeatureMap, key: jax.Array) -> Inputs:
    keys = jax.random.split(key, 3)
    columns = feature_map.columns * 4
    return (
        jax.random.normal(keys[0], (6, 4)),
        jax.random.normal(keys[1], (columns, 3)),
        jnp.exp(jax.random.normal(keys[2], (columns, 3))),
    )


@every_map
def test_moments_are_those_of_the_weighted_features(
    feature_map: FeatureMap, key: jax.Array
) -> None:
    projection, w_mean, w_var = inputs(feature_map, key)
    phi = feature_map.features(projection)

    mean, var = jax.jit(feature_map.moments)(projection, w_mean, w_var)

    np.testing.assert_allclose(mean, phi @ w_mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(var, phi**2 @ w_var, rtol=1e-5, atol=1e-5)


@every_map
def test_gradients_agree_with_differences_in_float64(
    feature_map: FeatureMap, key: jax.Array
) -> None:
    check_gradients(feature_map.moments, *inputs(feature_map, key))


@every_map
def test_gradients_agree_with_those_of_the_definition(
    feature_map: FeatureMap, key: jax.Array
) -> None:
    def from_definition(projection: jax.Array, w_mean: jax.Array, w_var: jax.Array) -> jax.Array:
        phi = feature_map.features(projection)
        return jnp.sum(jnp.sin(phi @ w_mean) + jnp.sqrt(phi**2 @ w_var + 1.0))

    def from_moments(projection: jax.Array, w_mean: jax.Array, w_var: jax.Array) -> jax.Array:
        mean, var = feature_map.moments(projection, w_mean, w_var)
        return jnp.sum(jnp.sin(mean) + jnp.sqrt(var + 1.0))

    arguments = inputs(feature_map, key)
    expected = jax.jit(jax.grad(from_definition, argnums=(0, 1, 2)))(*arguments)
    gradients = jax.jit(jax.grad(from_moments, argnums=(0, 1, 2)))(*arguments)
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_tiny_weight_variances_never_give_a_negative_variance(key: jax.Array) -> None:
    projection = jax.random.normal(key, (50, 20))
    w_var = jnp.concatenate([jnp.full((20, 1), 1e-3), jnp.full((20, 1), 1e-3)]).at[:20].add(1e-10)
    _, var = TRIGONOMETRIC.moments(projection, jnp.zeros((40, 1)), w_var)
    assert (var > 0).all()


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ValueError, match="0, 1 or 2, got 3"):
        ramp(3)


@pytest.mark.parametrize(("rows", "frequencies"), [(8, 4), (3, 3), (2, 1), (1000, 500)])
def test_turned_weights_have_the_common_direction_first(
    rows: int, frequencies: int, key: jax.Array
) -> None:
    """An orthogonal reflection, its own inverse, that takes the first axis to the cosines' mean."""
    w = jax.random.normal(key, (rows, 3))
    np.testing.assert_allclose(turned(turned(w, frequencies), frequencies), w, atol=1e-5)
    np.testing.assert_allclose((turned(w, frequencies) ** 2).sum(0), (w**2).sum(0), rtol=1e-5)
    common = np.zeros(rows)
    common[:frequencies] = frequencies**-0.5
    first = turned(jnp.eye(rows)[:, :1], frequencies)[:, 0]
    np.testing.assert_allclose(first, common, atol=1e-6)
