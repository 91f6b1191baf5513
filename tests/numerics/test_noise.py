"""Noise belongs to examples: the same wherever an example is computed, and normal."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from distvi.numerics.noise import example_noise


def test_it_does_not_depend_on_who_shares_the_batch(key: jax.Array) -> None:
    index = jnp.array([5, 0, 4_000_000_000, 17, 2, 9], jnp.uint32)
    together = example_noise(key, index, 7)
    apart = jnp.concatenate([example_noise(key, index[:2], 7), example_noise(key, index[2:], 7)])
    np.testing.assert_array_equal(together, apart)


def test_it_is_standard_normal_and_uncorrelated(key: jax.Array) -> None:
    noise = np.asarray(example_noise(key, jnp.arange(20_000, dtype=jnp.uint32), 10))
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    correlations = np.corrcoef(noise.T) - np.eye(10)
    assert np.abs(correlations).max() < 5 / np.sqrt(len(noise))


def test_keys_and_examples_draw_apart(key: jax.Array) -> None:
    index = jnp.arange(4, dtype=jnp.uint32)
    first, second = jax.random.split(key)
    values = jnp.concatenate([example_noise(first, index, 6), example_noise(second, index, 6)])
    assert len(np.unique(values)) == values.size
