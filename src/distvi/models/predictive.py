"""Predictive distributions: mixtures of a likelihood over Monte Carlo samples."""

from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Shaped

from distvi.models.likelihoods import Classifier, Likelihood, Ordered, Params

_BISECTIONS = 40  # halves any float32 bracket down to neighbouring numbers


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Predictive:
    """The equal mixture over samples s of ``p(y | f_s)``, for a set of points.

    Attributes:
        f: Sampled values of the last layer.
        params: Parameters of the likelihood.
        likelihood: The observation model.
    """

    f: Float[Array, "samples points latents"]
    params: Params
    likelihood: Likelihood = field(metadata={"static": True})

    def mean(self) -> Float[Array, "points outputs"]:
        """E[y]; for a classifier, of the classes' indicators."""
        return self.likelihood.mean(self.params, self.f).mean(0)

    def variance(self) -> Float[Array, "points outputs"]:
        """Var[y], noise included: mean of the variances plus variance of the means."""
        noise = self.likelihood.variance(self.params, self.f).mean(0)
        return noise + self.likelihood.mean(self.params, self.f).var(0)

    def log_density(self, y: Shaped[Array, "points ..."]) -> Float[Array, " points"]:
        """``log mean_s p(y | f_s)`` per point, in nats; its negative mean is the MNLL."""
        log_p = self.likelihood.log_density(self.params, self.f, y)
        return logsumexp(log_p, axis=0) - jnp.log(log_p.shape[0])

    def probabilities(self) -> Float[Array, "points classes"]:
        """Class probabilities.

        Raises:
            TypeError: the targets are not classes.
        """
        if not isinstance(self.likelihood, Classifier):
            raise TypeError(f"{type(self.likelihood).__name__} has no classes; use mean()")
        return self.likelihood.probabilities(self.params, self.f).mean(0)

    def quantile(self, q: Float[Array, " quantiles"]) -> Float[Array, "quantiles points outputs"]:
        """Quantiles of the mixture, by bisection of its distribution function.

        For counts, the smallest whole number whose distribution function reaches ``q``.

        Args:
            q: Levels in (0, 1).

        Raises:
            TypeError: the targets are classes.
        """
        if not isinstance(self.likelihood, Ordered):
            raise TypeError(f"{type(self.likelihood).__name__} has no quantiles; see probabilities")
        return jax.vmap(partial(self._bisect, self.likelihood))(jnp.asarray(q, self.f.dtype))

    def _bisect(
        self, likelihood: Ordered, level: Float[Array, ""]
    ) -> Float[Array, "points outputs"]:
        means = likelihood.mean(self.params, self.f)
        # By Cantelli's inequality no component's quantile lies further from its mean than
        # sqrt(odds) standard deviations, so neither does the mixture's from their extremes.
        odds = jnp.maximum(level / (1.0 - level), (1.0 - level) / level)
        reach = jnp.sqrt(odds * likelihood.variance(self.params, self.f))
        low, high = (means - reach).min(0), (means + reach).max(0)
        if likelihood.discrete:
            low, high = jnp.floor(low) - 1.0, jnp.ceil(high)

        def halve(_: int | Array, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bracket
            middle = 0.5 * (low + high)
            if likelihood.discrete:
                middle = jnp.floor(middle)
            below = likelihood.cdf(self.params, self.f, middle).mean(0) < level
            return jnp.where(below, middle, low), jnp.where(below, high, middle)

        return jax.lax.fori_loop(0, _BISECTIONS, halve, (low, high))[1]
