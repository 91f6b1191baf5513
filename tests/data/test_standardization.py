"""Scales learnt on the training part: right, exact in JSON, and undone."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA
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
    np.testing.assert_allclose(x, scale.standardize_x(digits.test.x), rtol=1e-5, atol=1e-5)


def test_the_size_of_inputs_is_one_where_each_has_unit_variance(seed: int):
    table = examples(seed)
    for mode, expected in (("standardize", 1.0), ("none", np.sqrt(np.mean(table.x**2)))):
        scale = Standardization.learn(table, Task.REGRESSION, mode)
        assert scale.inputs_rms(table) == pytest.approx(expected, rel=5e-3)
    constant = Examples(np.ones((5, 2), np.float32), np.zeros((5, 1), np.float32))
    assert Standardization.learn(constant, Task.REGRESSION).inputs_rms(constant) == 1.0


def test_another_number_of_columns_is_not_broadcast(seed: int):
    one = examples(seed)
    narrow = Standardization.learn(Examples(one.x[:, :1], one.y), Task.REGRESSION)
    with pytest.raises(InputError, match=f"have {one.x.shape[1]} columns.*learnt on 1"):
        narrow.standardize_x(one.x)


def test_examples_of_different_length():
    with pytest.raises(ValueError, match="2 rows of inputs and 3 of targets"):
        Examples(np.zeros((2, 1), np.float32), np.zeros((3, 1), np.float32))


# Inputs that are turned


def correlated(seed: int, rows: int = 400) -> Examples:
    """A table of three columns with units of their own, two of them much alike."""
    rng = np.random.default_rng(seed)
    a, b, c = rng.normal(size=(3, rows))
    x = np.stack([100 * a + 3, a + 0.1 * b, c - 5], axis=1).astype(np.float32)
    return Examples(x, rng.normal(size=(rows, 1)).astype(np.float32))


def images(seed: int, rows: int = 300) -> Examples:
    rng = np.random.default_rng(seed)
    faint = rng.integers(0, 40, (rows, 1)) * np.array([1, 2, 3, 4, 5, 0])
    x = (faint + rng.integers(0, 50, (rows, 6)) * np.array([1, 1, 1, 1, 1, 0])).astype(np.uint8)
    x[0, 0] = 255
    return Examples(x, np.arange(rows, dtype=np.int32) % 3)


def test_centred_images_keep_one_scale(seed: int):
    train = images(seed)
    scale = Standardization.learn(train, Task.CLASSIFICATION, "center")
    x = scale.standardize_x(train.x)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-6)
    plain = Standardization.learn(train, Task.CLASSIFICATION, "unit").standardize_x(train.x)
    np.testing.assert_allclose(x - x[:1], plain - plain[:1], atol=1e-6)


@pytest.mark.parametrize("make", [correlated, images])
def test_turned_inputs_are_the_principal_components(make, seed: int):
    train = make(seed)
    scale = Standardization.learn(train, Task.CLASSIFICATION, "pca")
    assert scale.x_axes is not None
    plain = (train.x.astype(np.float64) - scale.x_shift) / scale.x_scale
    expected = PCA().fit(plain)
    x = scale.standardize_x(train.x)
    np.testing.assert_allclose(x.var(axis=0), expected.explained_variance_ * (1 - 1 / len(x)),
                               rtol=1e-4, atol=1e-6)  # fmt: skip
    covariance = np.cov(x.T)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-5)
    # Nothing is stretched, so that an isotropic kernel sees the same inputs.
    np.testing.assert_allclose(
        np.linalg.norm(x[:, None] - x, axis=-1),
        np.linalg.norm(plain[:, None] - plain, axis=-1),
        atol=2e-3,  # of a root of a difference of squares near zero
    )
    np.testing.assert_allclose(scale.x_axes.T @ scale.x_axes, np.eye(x.shape[1]), atol=1e-5)


def test_whitened_inputs_have_one_variance_but_for_the_damping(seed: int):
    train = correlated(seed)
    turned = Standardization.learn(train, Task.REGRESSION, "pca").standardize_x(train.x)
    white = Standardization.learn(train, Task.REGRESSION, "whiten").standardize_x(train.x)
    variances = turned.var(axis=0)
    expected = variances / (variances + 0.1 * variances.mean())
    np.testing.assert_allclose(white.var(axis=0), expected, rtol=1e-4)


def test_axes_do_not_depend_on_the_blocks(seed: int, monkeypatch: pytest.MonkeyPatch):
    train = correlated(seed)
    whole = Standardization.learn(train, Task.REGRESSION, "pca")
    monkeypatch.setattr("distvi.data.standardization._ROWS_AT_ONCE", 7)
    parts = Standardization.learn(train, Task.REGRESSION, "pca")
    assert parts.x_axes is not None
    assert whole.x_axes is not None
    np.testing.assert_allclose(parts.x_axes, whole.x_axes, atol=1e-5)


def test_axes_in_json_are_exact(seed: int):
    scale = Standardization.learn(correlated(seed), Task.REGRESSION, "pca")
    again = Standardization.from_json(json.loads(json.dumps(scale.to_json())))
    np.testing.assert_array_equal(again.x_axes, scale.x_axes)


@pytest.mark.parametrize("mode", ["pca", "standardize"])
def test_what_is_done_once_need_not_be_done_in_batches(mode: str, seed: int):
    train = correlated(seed)
    scale = Standardization.learn(train, Task.REGRESSION, mode)
    done, left = scale.applied(train)
    np.testing.assert_array_equal(left.standardize_x(done.x), done.x)
    np.testing.assert_allclose(done.x, scale.standardize_x(train.x), atol=1e-6)
    np.testing.assert_array_equal(left.standardize_y(train.y), scale.standardize_y(train.y))


def test_too_many_columns_to_turn():
    train = Examples(np.zeros((2, 5000), np.uint8), np.array([0, 1], np.int32))
    with pytest.raises(InputError, match=r"5000 input columns, and 'pca' turns at most 4096"):
        Standardization.learn(train, Task.CLASSIFICATION, "pca")
