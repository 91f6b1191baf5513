"""Deep Gaussian processes with random feature expansions.

Layer l maps ``F(l)`` to ``F(l+1) = Phi(F(l) Omega(l)) W(l)``; the prior of ``W`` is standard
normal, the prior of ``Omega`` is the kernel's spectral density. ``q(W)`` and ``q(Omega)`` are
diagonal Gaussians.

References:
    Cutajar, Bonilla, Michiardi, Filippone (2017), Random Feature Expansions for Deep Gaussian
    Processes, ICML.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from distvi.models.base import Batch, Params, neg_elbo
from distvi.models.likelihoods import Likelihood
from distvi.models.predictive import Predictive
from distvi.models.settings import DeepGPSettings
from distvi.numerics.gaussians import kl_to_separable_normal, kl_to_standard_normal
from distvi.numerics.kernels import KERNELS, Kernel
from distvi.numerics.noise import example_noise
from distvi.numerics.spectra import normal_frequencies, orthogonal_frequencies


class Spectrum(NamedTuple):
    """The fixed draws behind one layer's frequencies.

    Attributes:
        z: Standard frequencies.
        scale: Scale of each frequency's normal law (see ``numerics.kernels``).
    """

    z: Float[Array, "inputs frequencies"]
    scale: Float[Array, " frequencies"]


@dataclass(frozen=True)
class DeepGP:
    """A deep GP: hidden layers of several GPs each, then one GP per latent of the likelihood.

    Attributes:
        inputs: Number of input columns.
        outputs: Number of target columns, or of classes.
        likelihood: The observation model.
        settings: Layers, kernel, treatment of Omega, estimator, initial values.
        seed: Of the fixed frequencies, and of nothing else.

    Example:
        >>> from distvi.models.likelihoods import Gaussian
        >>> model = DeepGP(3, 1, Gaussian(), DeepGPSettings(hidden_layers=1, width=2, features=10))
        >>> model.layer_sizes
        ((3, 2), (2, 1))
    """

    inputs: int
    outputs: int
    likelihood: Likelihood
    settings: DeepGPSettings = field(default_factory=DeepGPSettings)
    seed: int = 0

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
        with jax.ensure_compile_time_eval():  # also when first asked for inside a trace
            return jax.jit(self._draw_spectra)(jax.random.key(self.seed))

    def _draw_spectra(self, key: Array) -> tuple[Spectrum, ...]:
        draw = orthogonal_frequencies if self.settings.orthogonal else normal_frequencies
        spectra = []
        for layer, (inputs, _) in enumerate(self.layer_sizes):
            z_key, scale_key = jax.random.split(jax.random.fold_in(key, layer))
            z = draw(z_key, inputs, self.settings.features)
            spectra.append(Spectrum(z, self._kernel.scales(scale_key, self.settings.features)))
        return tuple(spectra)

    # --- the model ----------------------------------------------------------------------------

    def init(self, key: Array) -> Params:
        """Initial parameters: q(Omega) at its prior, q(W) as the settings say."""
        keys = jax.random.split(key, len(self.layer_sizes))
        layers = [self._init_layer(layer, k) for layer, k in enumerate(keys)]
        params: dict[str, Any] = {f"layer_{i}": values for i, values in enumerate(layers)}
        return params | {"likelihood": self.likelihood.init(self.outputs)}

    def _init_layer(self, layer: int, key: Array) -> Params:
        inputs, outputs = self.layer_sizes[layer]
        columns = self._kernel.feature_map.columns * self.settings.features
        settings = self.settings
        hidden = layer < settings.hidden_layers
        spread = settings.initial_weight_spread if hidden else 0.0
        log_lengthscale = np.log(settings.initial_lengthscale * np.sqrt(inputs))
        weights = {
            "mean": spread * jax.random.normal(key, (columns, outputs)),
            "log_var": jnp.full((columns, outputs), np.log(settings.initial_weight_var)),
        }
        kernel = {
            "log_variance": jnp.zeros(()),
            "log_lengthscale": jnp.full((inputs if settings.ard else 1,), log_lengthscale),
        }
        if settings.omega == "prior_fixed":
            return {"kernel": kernel, "weights": weights}
        row_log_sd, column_log_sd = _prior_log_sd(kernel, self.spectra[layer])
        log_var = 2.0 * (row_log_sd[:, None] + column_log_sd)
        log_var = jnp.broadcast_to(log_var, (inputs, settings.features))
        omega = {"mean": jnp.zeros(log_var.shape), "log_var": log_var}
        return {"kernel": kernel, "omega": omega, "weights": weights}

    def neg_elbo(self, params: Params, batch: Batch, key: Array, n_data: int) -> Float[Array, ""]:
        """Monte Carlo estimate of ``KL(q || p) - sum E_q[log p(y | F)]``, in nats.

        References:
            Cutajar et al. (2017), equation 12.
        """
        f = self._sample_latents(params, batch.x, batch.index, key, self.settings.samples)
        log_p = self.likelihood.log_density(params["likelihood"], f, batch.y)
        return neg_elbo(log_p.mean(0), self.divergence(params), n_data)

    def predict(
        self, params: Params, x: Float[Array, "points inputs"], key: Array, samples: int
    ) -> Predictive:
        """Predictive distribution at ``x`` as a mixture over ``samples`` draws of the network."""
        index = jnp.arange(x.shape[0], dtype=jnp.uint32)
        f = self._sample_latents(params, x, index, key, samples)
        return Predictive(f, params["likelihood"], self.likelihood)

    def divergence(self, params: Params) -> Float[Array, ""]:
        """KL of q(W) and, where it is learnt, of q(Omega) from their priors, in nats."""
        total = jnp.zeros(())
        for layer, spectrum in enumerate(self.spectra):
            values = params[f"layer_{layer}"]
            total += kl_to_standard_normal(values["weights"]["mean"], values["weights"]["log_var"])
            if self.settings.omega != "prior_fixed":
                row_log_sd, column_log_sd = _prior_log_sd(values["kernel"], spectrum)
                mean, log_var = values["omega"]["mean"], values["omega"]["log_var"]
                total += kl_to_separable_normal(mean, log_var, row_log_sd, column_log_sd)
        return total

    def hold_until(self, params: Params) -> Params:
        """Number of updates for which each parameter keeps its initial value."""

        def updates(path: tuple[Any, ...], _: Array) -> int:
            names = {entry.key for entry in path}
            if "omega" in names:
                return self.settings.freeze_omega
            return self.settings.freeze_kernel if names & {"kernel", "likelihood"} else 0

        return jax.tree_util.tree_map_with_path(updates, params)

    # --- one forward pass ---------------------------------------------------------------------

    def _sample_latents(
        self,
        params: Params,
        x: Float[Array, "points inputs"],
        index: UInt32[Array, " points"],
        key: Array,
        samples: int,
    ) -> Float[Array, "samples points latents"]:
        """The last layer's values; what does not depend on the sample is computed once.

        ``vmap`` does that sharing: a value that no sample's key enters is not batched.
        """
        if samples == 1:  # XLA finds better layouts without a sample axis of length one
            return self._forward(params, x, index, jax.random.fold_in(key, 0))[None]
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(samples))
        return jax.vmap(lambda k: self._forward(params, x, index, k))(keys)

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
            return spectrum.z * spectrum.scale * inverse_lengthscale[:, None]
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
        weights, feature_map = values["weights"], self._kernel.feature_map
        squared = (
            self._kernel.amplitude
            / self.settings.features
            * jnp.exp(values["kernel"]["log_variance"])
        )
        amplitude = jnp.sqrt(squared)
        if self.settings.estimator == "local":
            w_var = jnp.exp(weights["log_var"])
            mean, var = feature_map.moments(projection, weights["mean"], w_var)
            return amplitude * (mean + jnp.sqrt(var) * noise)
        w = weights["mean"] + jnp.exp(0.5 * weights["log_var"]) * noise
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
