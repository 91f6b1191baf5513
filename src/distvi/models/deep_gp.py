"""Deep Gaussian processes with random feature expansions.

Layer l maps ``F(l)`` to ``F(l+1) = Phi(F(l) Omega(l)) W(l)``; the prior of ``W`` is standard
normal, the prior of ``Omega`` is the kernel's spectral density. ``q(W)`` and ``q(Omega)`` are
diagonal Gaussians. The means of W are kept in a basis of which the first axis is the direction that
features have in common, see `distvi.numerics.features.turned`.

References:
    Cutajar, Bonilla, Michiardi, Filippone (2017), Random Feature Expansions for Deep Gaussian
    Processes, ICML.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from pydantic import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from distvi.models.base import Params
from distvi.models.sampled import SampledModel, SampledSettings
from distvi.numerics.features import turned
from distvi.numerics.gaussians import kl_to_separable_normal, kl_to_standard_normal
from distvi.numerics.kernels import KERNELS, Kernel
from distvi.numerics.noise import example_noise
from distvi.numerics.spectra import normal_frequencies, orthogonal_frequencies

# Folded into the seed's key. The noise of an update folds in the update's number, which is less.
_SPECTRA = 2**32 - 3
_ONCE = {"xla_backend_optimization_level": 0}  # what runs once is not worth optimizing

KernelName = Literal["rbf", "matern12", "matern32", "matern52", "arccos0", "arccos1", "arccos2"]
OmegaTreatment = Literal["prior_fixed", "var_fixed", "var_resampled"]


class DeepGPSettings(SampledSettings):
    """A deep Gaussian process with random feature expansions."""

    kind: str = "deep_gp"

    features: PositiveInt = 500
    """Random frequencies per layer."""

    kernel: KernelName = "rbf"
    """Covariance function of every layer."""

    ard: bool = True
    """One lengthscale per input of a layer, instead of one per layer."""

    omega: OmegaTreatment = "var_fixed"
    """``prior_fixed``: frequencies follow the prior, through the lengthscales alone;
    ``var_fixed``: q(Omega) is learnt, sampled with fixed standard draws;
    ``var_resampled``: q(Omega) is learnt, sampled anew in every step and sample."""

    orthogonal: bool = False
    """Orthogonal instead of independent frequencies."""

    feed_forward: bool = False
    """Append the inputs to every hidden layer's output."""

    freeze_omega: NonNegativeInt = 0
    """Updates for which q(Omega) keeps its initial value."""

    freeze_kernel: NonNegativeInt = 0
    """Updates for which kernel parameters and the likelihood's noise keep their initial values."""

    initial_weight_var: PositiveFloat = 0.01
    """Initial variance of q(W)."""

    initial_weight_spread: NonNegativeFloat = 0.5
    """Standard deviation of the initial means of the hidden layers' q(W). With 0, as the authors
    have it, all means start at zero, where no gradient but noise's tells the hidden GPs apart."""

    initial_lengthscale: PositiveFloat = 1.0
    """Initial lengthscales, as a multiple of the typical size of the layer's inputs: the square
    root of their number, in the first layer times ``input_scale``."""

    input_scale: PositiveFloat | None = None
    """Typical size of one input. By default the root mean square of the training inputs, which is 1
    where each has unit variance, and less for images."""

    @model_validator(mode="after")
    def _orthogonal_draws_are_fixed(self) -> "DeepGPSettings":
        if self.orthogonal and self.omega == "var_resampled":
            raise ValueError(
                "orthogonal frequencies are fixed draws: use omega = 'prior_fixed' or 'var_fixed'"
            )
        return self

    def suited_to(self, inputs_rms: float) -> "DeepGPSettings":
        """See `distvi.models.base.ModelSettings`: frequencies begin where they tell rows apart."""
        if self.input_scale is not None:
            return self
        return self.model_copy(update={"input_scale": inputs_rms})


class Spectrum(NamedTuple):
    """The fixed draws behind one layer's frequencies.

    Attributes:
        z: Standard frequencies.
        scale: Scale of each frequency's normal law (see ``numerics.kernels``).
    """

    z: Float[Array, "inputs frequencies"]
    scale: Float[Array, " frequencies"]


@dataclass(frozen=True)
class DeepGP(SampledModel):
    """A deep GP: hidden layers of several GPs each, then one GP per latent of the likelihood.

    Attributes:
        settings: Layers, kernel, treatment of Omega, estimator, initial values.
        seed: Of the fixed frequencies, and of nothing else.
        draws: The fixed frequencies, where they are not those of the seed.

    Example:
        >>> from distvi.models.likelihoods import Gaussian
        >>> model = DeepGP(3, 1, Gaussian(), DeepGPSettings(hidden_layers=1, width=2, features=10))
        >>> model.layer_sizes
        ((3, 2), (2, 1))
    """

    settings: DeepGPSettings = field(default_factory=DeepGPSettings)
    seed: int = 0
    draws: tuple[Spectrum, ...] | None = field(default=None, compare=False, repr=False)

    # --- shapes -------------------------------------------------------------------------------

    @cached_property
    def _kernel(self) -> Kernel:
        return KERNELS[self.settings.kernel]

    @cached_property
    def layer_sizes(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of every layer, the last one included."""
        hidden_inputs = self.settings.width + (self.inputs if self.settings.feed_forward else 0)
        sizes_in = [self.inputs] + [hidden_inputs] * self.settings.hidden_layers
        sizes_out = [self.settings.width] * self.settings.hidden_layers + [
            self.likelihood.latents(self.outputs)
        ]
        return tuple(zip(sizes_in, sizes_out, strict=True))

    @cached_property
    def spectra(self) -> tuple[Spectrum, ...]:
        """The fixed draws of every layer, a function of the seed; never trained."""
        if self.draws is not None:
            return self.draws
        # One compiled program gives numbers also when they are first asked for inside a trace.
        seed = np.uint32(self.seed)  # an argument, so that the program serves all seeds
        return jax.jit(self.draw, compiler_options=_ONCE).lower(seed).compile()(seed)

    def with_draws(self, draws: tuple[Spectrum, ...]) -> "DeepGP":
        """The model with other fixed draws; see `distvi.models.base.Drawn`."""
        return replace(self, draws=draws)

    def draw(self, seed: Array) -> tuple[Spectrum, ...]:
        """The fixed draws of a seed; see `distvi.models.base.Drawn`."""
        key = jax.random.key(seed, impl="threefry2x32")
        rows, features = [inputs for inputs, _ in self.layer_sizes], self.settings.features
        z_key, scale_key = jax.random.split(jax.random.fold_in(key, _SPECTRA))
        if self.settings.orthogonal:
            keys = jax.random.split(z_key, len(rows))
            zs = [orthogonal_frequencies(k, n, features) for k, n in zip(keys, rows, strict=True)]
        else:  # in one draw: draws of different shapes are compiled one by one, half a second each
            together = normal_frequencies(z_key, sum(rows), features)
            zs = jnp.split(together, np.cumsum(rows)[:-1].tolist())
        scales = self._kernel.scales(scale_key, len(rows) * features).reshape(-1, features)
        return tuple(Spectrum(z, scale) for z, scale in zip(zs, scales, strict=True))

    # --- the model ----------------------------------------------------------------------------

    def init(self, key: Array) -> Params:
        """Initial parameters: q(Omega) at its prior, q(W) as the settings say."""
        settings = self.settings
        columns = self._kernel.feature_map.columns * settings.features
        shape = (settings.hidden_layers, columns, settings.width)
        hidden = settings.initial_weight_spread * jax.random.normal(key, shape)
        means = [*hidden.at[:, 0].set(0.0)]  # nothing along the common direction: centred GPs
        means.append(jnp.zeros((columns, self.layer_sizes[-1][1])))
        params: Params = {
            f"layer_{layer}": self._init_layer(layer, mean) for layer, mean in enumerate(means)
        }
        return params | {"likelihood": self.likelihood.init(self.outputs)}

    def _init_layer(self, layer: int, w_mean: Array) -> Params:
        inputs, settings = self.layer_sizes[layer][0], self.settings
        scale = settings.input_scale or 1.0 if layer == 0 else 1.0
        log_lengthscale = np.log(settings.initial_lengthscale * scale * np.sqrt(inputs))
        log_var = jnp.full(w_mean.shape, np.log(settings.initial_weight_var))
        weights = {"mean": w_mean, "log_var": log_var}
        kernel = {
            "log_variance": jnp.zeros(()),
            "log_lengthscale": jnp.full((inputs if settings.ard else 1,), log_lengthscale),
        }
        if settings.omega == "prior_fixed":
            return {"kernel": kernel, "turned_weights": weights}
        row_log_sd, column_log_sd = _prior_log_sd(kernel, self.spectra[layer])
        log_var = 2.0 * (row_log_sd[:, None] + column_log_sd[None, :])
        log_var = jnp.broadcast_to(log_var, (inputs, settings.features))
        omega = {"mean": jnp.zeros(log_var.shape), "log_var": log_var}
        return {"kernel": kernel, "omega": omega, "turned_weights": weights}

    def divergence(self, params: Params) -> Float[Array, ""]:
        """KL of q(W) and, where it is learnt, of q(Omega) from their priors, in nats."""
        total = jnp.zeros(())
        for layer, spectrum in enumerate(self.spectra):
            values = params[f"layer_{layer}"]
            weights = values["turned_weights"]
            total += kl_to_standard_normal(weights["mean"], weights["log_var"])
            if self.settings.omega != "prior_fixed":
                row_log_sd, column_log_sd = _prior_log_sd(values["kernel"], spectrum)
                mean, log_var = values["omega"]["mean"], values["omega"]["log_var"]
                total += kl_to_separable_normal(mean, log_var, row_log_sd, column_log_sd)
        return total

    def freeze_until(self, params: Params) -> Params:
        """Number of updates for which each parameter keeps its initial value."""

        def updates(path: tuple[Any, ...], _: object) -> int:
            names = {entry.key for entry in path}
            if "omega" in names:
                return self.settings.freeze_omega
            return self.settings.freeze_kernel if names & {"kernel", "likelihood"} else 0

        return jax.tree_util.tree_map_with_path(updates, params)

    # --- one forward pass ---------------------------------------------------------------------

    def _forward(
        self, params: Params, x: Array, index: Array, key: Array
    ) -> Float[Array, "points latents"]:
        omega_key, weight_key = jax.random.split(key)
        noise = self._layer_noise(weight_key, index)
        hidden: Array | None = None
        for layer in range(len(self.layer_sizes)):
            values = params[f"layer_{layer}"]
            omega = self._omega(layer, values, jax.random.fold_in(omega_key, layer))
            projection = _project(x, hidden, omega, self.settings.feed_forward)
            hidden = self._weigh(values, projection, noise[layer])
        assert hidden is not None
        return hidden

    def _omega(self, layer: int, values: Params, key: Array) -> Float[Array, "inputs frequencies"]:
        spectrum = self.spectra[layer]
        if self.settings.omega == "prior_fixed":
            inverse_lengthscale = jnp.exp(-values["kernel"]["log_lengthscale"])
            return spectrum.z * spectrum.scale[None, :] * inverse_lengthscale[:, None]
        mean, log_var = values["omega"]["mean"], values["omega"]["log_var"]
        resampled = self.settings.omega == "var_resampled"
        z = jax.random.normal(key, mean.shape) if resampled else spectrum.z
        return mean + jnp.exp(0.5 * log_var) * z

    def _layer_noise(self, key: Array, index: Array) -> list[Array]:
        """Noise per layer: of every example (local), or of the weights, shared by all examples."""
        outputs = [size for _, size in self.layer_sizes]
        if self.settings.estimator == "local":
            noise = example_noise(key, index, sum(outputs))
            return jnp.split(noise, np.cumsum(outputs)[:-1].tolist(), axis=1)
        columns = self._kernel.feature_map.columns * self.settings.features
        keys = jax.random.split(key, len(outputs))
        return [jax.random.normal(k, (columns, n)) for k, n in zip(keys, outputs, strict=True)]

    def _weigh(self, values: Params, projection: Array, noise: Array) -> Array:
        """Sample ``Phi W`` given the projection ``F Omega``."""
        weights, feature_map = values["turned_weights"], self._kernel.feature_map
        w_mean = turned(weights["mean"], self.settings.features)
        squared = (
            self._kernel.amplitude
            / self.settings.features
            * jnp.exp(values["kernel"]["log_variance"])
        )
        amplitude = jnp.sqrt(squared)
        if self.settings.estimator == "local":
            w_var = jnp.exp(weights["log_var"])
            mean, var = feature_map.moments(projection, w_mean, w_var)
            return amplitude * (mean + jnp.sqrt(var) * noise)
        w = w_mean + jnp.exp(0.5 * weights["log_var"]) * noise
        return amplitude * (feature_map.features(projection) @ w)


def _prior_log_sd(kernel: Params, spectrum: Spectrum) -> tuple[Array, Array]:
    """Log sd of Omega's (conditionally normal) prior: by rows (inputs) plus by columns."""
    return -kernel["log_lengthscale"], jnp.log(spectrum.scale)


def _project(x: Array, hidden: Array | None, omega: Array, feed_forward: bool) -> Array:
    """``F Omega``, where F is the input, the hidden values, or both side by side.

    The two parts are multiplied apart, so that ``X Omega`` is shared among samples.
    """
    if hidden is None:
        return x @ omega
    if not feed_forward:
        return hidden @ omega
    width = hidden.shape[-1]
    return hidden @ omega[:width] + x @ omega[width:]
