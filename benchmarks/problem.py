"""The model and the data that every contender trains: NumPy alone, for every environment.

The poster's MNIST model: deep GP of three layers (two hidden ones of 50 GPs), 500 random
frequencies a layer, RBF kernel with ARD, q(Omega) learnt with fixed draws, local
reparameterization, one Monte Carlo sample, categorical likelihood, Adam at 0.001.
"""

import numpy as np

INPUTS, CLASSES = 784, 10
HIDDEN_LAYERS, WIDTH, FEATURES = 2, 50, 500
LAYERS = ((INPUTS, WIDTH), *((WIDTH, WIDTH),) * (HIDDEN_LAYERS - 1), (WIDTH, CLASSES))
"""(inputs, outputs) of each layer."""

EXAMPLES = 60_000
LEARNING_RATE = 0.001


def synthetic_images() -> tuple[np.ndarray, np.ndarray]:
    """Random images and labels in MNIST's shapes: uint8 (60000, 784) and int32 (60000,)."""
    random = np.random.default_rng(0)
    x = random.integers(0, 256, size=(EXAMPLES, INPUTS), dtype=np.uint8)
    return x, random.integers(0, CLASSES, size=EXAMPLES, dtype=np.int32)


def unit_interval(x: np.ndarray) -> np.ndarray:
    """Images as float32 in [0, 1]."""
    return x.astype(np.float32) / np.float32(255)


def random_case(batch: int) -> dict[str, np.ndarray]:
    """Parameters, fixed draws, noise and a mini-batch, for comparing the contenders' losses.

    Layer l's arrays are named ``layer_l/NAME`` and its noise ``noise_l``.
    """
    random = np.random.default_rng(1)

    def normal(scale: float, *shape: int) -> np.ndarray:
        return (scale * random.standard_normal(shape)).astype(np.float32)

    case = {
        "x": unit_interval(random.integers(0, 256, size=(batch, INPUTS))),
        "y": random.integers(0, CLASSES, size=batch, dtype=np.int32),
    }
    for number, (inputs, outputs) in enumerate(LAYERS):
        log_lengthscale = np.float32(0.5 * np.log(inputs))
        case |= {
            f"layer_{number}/log_variance": normal(0.3)[()],
            f"layer_{number}/log_lengthscale": log_lengthscale + normal(0.1, inputs),
            f"layer_{number}/omega_mean": normal(0.02, inputs, FEATURES),
            f"layer_{number}/omega_log_var": normal(0.3, inputs, FEATURES) - 2 * log_lengthscale,
            f"layer_{number}/weights_mean": normal(0.5, 2 * FEATURES, outputs),
            f"layer_{number}/weights_log_var": normal(0.5, 2 * FEATURES, outputs) - 1,
            f"layer_{number}/z": normal(1.0, inputs, FEATURES),
            f"noise_{number}": normal(1.0, batch, outputs),
        }
    return case
