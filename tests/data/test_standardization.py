"""Scales learnt on the training part: right, exact in JSON, and undone."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from distvi.data import Examples, Standardization, Task, load
from distvi.errors import InputError


def examples(seed: int, rows: int = 500) -> Examples:
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(rows, 3)) * [1e-3, 1, 50] + [4, 0, 1e4]).astype(np.float32)
    y = (rng.normal(size=(rows, 2)) * [2, 300] + [-5, 1e3]).astype(np.float32)
    return Examples(x, y)


def test_against_scikit_learn(seed: int):
    train = examples(seed)
    scale = Standardization.learn(train, Task.REGRESSION)
    x, y = scale.standardize(train.x, train.y)
    expected = StandardScaler().fit_transform(train.x.astype(np.float64))
    # A column at 1e4 with deviation 50 keeps 24 bits of 1e4: 6e-4 / 50 in standard units.
    np.testing.assert_allclose(x, expected, atol=2e-5 * 12)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(scale.restore_y(y), train.y, rtol=1e-6, atol=1e-4)


def test_moments_do_not_depend_on_the_blocks(seed: int, monkeypatch: pytest.MonkeyPatch):
    train = examples(seed)
    whole = Standardization.learn(train, Task.REGRESSION)
    monkeypatch.setattr("distvi.data.dataset._BLOCK_BYTES", 7 * 3 * 4)
    parts = Standardization.learn(train, Task.REGRESSION)
    np.testing.assert_allclose(parts.x_shift, whole.x_shift, rtol=1e-7)
    np.testing.assert_allclose(parts.x_scale, whole.x_scale, rtol=1e-6)


def test_a_constant_column_keeps_its_scale():
    train = Examples(np.full((7, 1), 0.1, np.float32), np.full((7, 1), 3.3, np.float32))
    scale = Standardization.learn(train, Task.REGRESSION)
    np.testing.assert_array_equal(scale.x_scale, 1)
    x, y = scale.standardize(train.x, train.y)
    np.testing.assert_array_equal(x, 0)
    np.testing.assert_array_equal(y, 0)


def test_unit_scale_divides_by_the_largest():
    x = np.array([[-8, 2], [4, 1]], np.float32)
    train = Examples(x, np.zeros((2, 1), np.float32))
    scale = Standardization.learn(train, Task.REGRESSION, "unit")
    np.testing.assert_array_equal(scale.standardize_x(x), x / 8)


def test_black_images_keep_their_scale():
    train = Examples(np.zeros((2, 3), np.uint8), np.array([0, 1], np.int32))
    scale = Standardization.learn(train, Task.CLASSIFICATION, "unit")
    np.testing.assert_array_equal(scale.x_scale, 1)


def test_none_leaves_inputs_alone(seed: int):
    train = examples(seed)
    scale = Standardization.learn(train, Task.COUNT, "none")
    np.testing.assert_array_equal(scale.standardize_x(train.x), train.x)
    np.testing.assert_array_equal(scale.standardize_y(train.y), train.y)


def test_an_unknown_mode(seed: int):
    with pytest.raises(InputError, match=r"'standardise' \(did you mean 'standardize'\?\)"):
        Standardization.learn(examples(seed), Task.REGRESSION, "standardise")


def test_json_is_exact(seed: int):
    scale = Standardization.learn(examples(seed), Task.REGRESSION)
    again = Standardization.from_json(json.loads(json.dumps(scale.to_json())))
    for name in ("x_shift", "x_scale", "y_shift", "y_scale"):
        np.testing.assert_array_equal(getattr(again, name), getattr(scale, name))


def test_inside_jit():
    digits = load("digits")
    scale = Standardization.learn(digits.train, digits.task, digits.inputs_mode)
    x, y = jax.jit(scale.standardize)(digits.test.x, digits.test.y)
    assert (x.dtype, y.dtype) == (jnp.float32, jnp.int32)
    np.testing.assert_allclose(x, scale.standardize_x(digits.test.x), rtol=1e-6)


def test_another_number_of_columns_is_not_broadcast(seed: int):
    one = examples(seed)
    narrow = Standardization.learn(Examples(one.x[:, :1], one.y), Task.REGRESSION)
    with pytest.raises(InputError, match=f"have {one.x.shape[1]} columns.*learnt on 1"):
        narrow.standardize_x(one.x)


def test_examples_of_different_length():
    with pytest.raises(ValueError, match="2 rows of inputs and 3 of targets"):
        Examples(np.zeros((2, 1), np.float32), np.zeros((3, 1), np.float32))
