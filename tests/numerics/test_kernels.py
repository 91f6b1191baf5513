"""Random features against the kernels that they approximate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF, Matern

from distvi.numerics.kernels import KERNELS, Kernel
from distvi.numerics.spectra import Sampler, normal_frequencies, orthogonal_frequencies

every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())


def approximation(
    kernel: Kernel, x: jax.Array, key: jax.Array, frequencies: int, draw: Sampler
) -> jax.Array:
    """The kernel matrix that one draw of random features gives."""
    z_key, scale_key = jax.random.split(key)
    omega = draw(z_key, x.shape[1], frequencies) * kernel.scales(scale_key, frequencies)
    phi = kernel.feature_map.features(x @ omega)
    return kernel.amplitude / frequencies * phi @ phi.T


def mean_square_error(
    kernel: Kernel, x: jax.Array, key: jax.Array, frequencies: int, draw: Sampler
) -> float:
    exact = kernel.exact(x, x)

    def error(k: jax.Array) -> jax.Array:
        return jnp.mean((approximation(kernel, x, k, frequencies, draw) - exact) ** 2)

    return float(jax.jit(jax.vmap(error))(jax.random.split(key, 400)).mean())


@every_kernel
def test_the_error_falls_as_one_over_the_square_root_of_the_features(
    kernel: Kernel, key: jax.Array
) -> None:
    x = jax.random.normal(key, (8, 3))
    counts = np.array([16, 64, 256])
    errors = [mean_square_error(kernel, x, key, int(n), normal_frequencies) for n in counts]

    slope = np.polyfit(np.log(counts), 0.5 * np.log(errors), 1)[0]

    # A root mean square of 400 draws is known to about 5 %, so the fitted slope to about 0.03.
    assert slope == pytest.approx(-0.5, abs=0.1)


@pytest.mark.parametrize("kernel", [KERNELS["rbf"], KERNELS["arccos1"]], ids=lambda k: k.name)
def test_orthogonal_features_are_unbiased_and_vary_less(kernel: Kernel, key: jax.Array) -> None:
    x = 0.3 * jax.random.normal(key, (6, 16))
    keys = jax.random.split(key, 2000)

    @jax.jit
    def draws_of(keys: jax.Array) -> jax.Array:
        return jax.vmap(lambda k: approximation(kernel, x, k, 16, orthogonal_frequencies))(keys)

    draws = draws_of(keys)
    standard_error = draws.std(0) / jnp.sqrt(len(keys))
    assert (jnp.abs(draws.mean(0) - kernel.exact(x, x)) < 5 * standard_error + 1e-6).all()
    plain = mean_square_error(kernel, x, key, 16, normal_frequencies)
    orthogonal = mean_square_error(kernel, x, key, 16, orthogonal_frequencies)
    assert orthogonal < 0.8 * plain


def test_orthogonal_columns_are_orthogonal(key: jax.Array) -> None:
    z = orthogonal_frequencies(key, 5, 12)
    for block in (z[:, :5], z[:, 5:10], z[:, 10:]):
        gram = block.T @ block
        np.testing.assert_allclose(gram, jnp.diag(jnp.diagonal(gram)), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("rbf", RBF()),
        ("matern12", Matern(nu=0.5)),
        ("matern32", Matern(nu=1.5)),
        ("matern52", Matern(nu=2.5)),
    ],
)
def test_exact_kernels_agree_with_scikit_learn(name: str, oracle: RBF, key: jax.Array) -> None:
    x = jax.random.normal(key, (20, 4))
    np.testing.assert_allclose(
        KERNELS[name].exact(x, x), np.asarray(oracle(np.asarray(x))), atol=2e-6
    )


@pytest.mark.parametrize("order", [0, 1, 2])
def test_exact_arc_cosine_kernels_agree_with_their_integral(order: int) -> None:
    """Cho and Saul (2009), equation 1, by quadrature over the plane that x and y span."""
    x, y = np.array([1.0, 0.0]), np.array([0.6, 1.1])
    grid = np.linspace(-9, 9, 2401)
    w = np.stack(np.meshgrid(grid, grid), axis=-1)
    density = np.exp(-0.5 * (w**2).sum(-1)) / (2 * np.pi) * (grid[1] - grid[0]) ** 2
    ramps = [(w @ v > 0) * (w @ v) ** order for v in (x, y)]
    integral = 2 * (density * ramps[0] * ramps[1]).sum()

    exact = KERNELS[f"arccos{order}"].exact(jnp.asarray(x[None]), jnp.asarray(y[None]))

    assert float(exact[0, 0]) == pytest.approx(integral, rel=5e-3)  # of the grid at the kink
