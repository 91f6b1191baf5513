"""Random features against the kernels that they approximate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF, Matern

from distvi.numerics.kernels import KERNELS, Kernel
from distvi.numerics.spectra import Sampler, normal_frequencies, orthogonal_frequencies

every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())


def frequencies_of(
    kernel: Kernel, inputs: int, key: jax.Array, frequencies: int, draw: Sampler
) -> jax.Array:
    """One draw."""
    z_key, scale_key = jax.random.split(key)
    return draw(z_key, inputs, frequencies) * kernel.scales(scale_key, frequencies)[None, :]


def approximation(kernel: Kernel, x: jax.Array, omega: jax.Array) -> jax.Array:
    """The kernel matrix that the random features of some frequencies give."""
    phi = kernel.feature_map.features(x @ omega)
    return kernel.amplitude / omega.shape[1] * phi @ phi.T


@every_kernel
def test_the_error_falls_as_one_over_the_square_root_of_the_features(
    kernel: Kernel, key: jax.Array
) -> None:
    x = jax.random.normal(key, (8, 3))
    counts = np.array([16, 64, 256])
    exact = kernel.exact(x, x)

    @jax.jit
    @jax.vmap
    def squared_errors(key: jax.Array) -> jax.Array:
        # Columns are independent, so the first of many are as good as a draw of few.
        omega = frequencies_of(kernel, 3, key, 256, normal_frequencies)
        errors = [approximation(kernel, x, omega[:, :n]) - exact for n in counts]
        return jnp.stack([jnp.mean(error**2) for error in errors])

    errors = squared_errors(jax.random.split(key, 400)).mean(0)
    slope = np.polyfit(np.log(counts), 0.5 * np.log(errors), 1)[0]

    # A root mean square of 400 draws is known to about 5 %, so the fitted slope to about 0.03.
    assert slope == pytest.approx(-0.5, abs=0.1)


@pytest.mark.parametrize("kernel", [KERNELS["rbf"], KERNELS["arccos1"]], ids=lambda k: k.name)
def test_orthogonal_features_are_unbiased_and_vary_less(kernel: Kernel, key: jax.Array) -> None:
    x = 0.3 * jax.random.normal(key, (6, 16))
    exact = kernel.exact(x, x)

    def draws_of(draw: Sampler) -> jax.Array:
        @jax.jit
        @jax.vmap
        def drawn(key: jax.Array) -> jax.Array:
            return approximation(kernel, x, frequencies_of(kernel, 16, key, 16, draw))

        return drawn(jax.random.split(key, 2000))

    orthogonal, plain = draws_of(orthogonal_frequencies), draws_of(normal_frequencies)
    standard_error = orthogonal.std(0) / jnp.sqrt(len(orthogonal))
    assert (jnp.abs(orthogonal.mean(0) - exact) < 5 * standard_error + 1e-6).all()
    assert jnp.mean((orthogonal - exact[None]) ** 2) < 0.8 * jnp.mean((plain - exact[None]) ** 2)


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
