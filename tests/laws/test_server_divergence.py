"""The divergence's gradient on the servers."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distvi.algorithms.base import Batches, Delivery, ServerRule, answer, whole
from distvi.algorithms.delay_compensation import delay_compensated
from distvi.algorithms.draft import Draft
from distvi.algorithms.gradient import gradient, optimize
from distvi.algorithms.registry import draft_of, settings_of
from distvi.algorithms.server_divergence import with_divergence, without_divergence
from distvi.errors import InputError
from distvi.parameters import Locality, layout_of, locality_of, make_shards, place
from tests import linear

SGD = optimize(optax.sgd(0.1), is_uniform=True)
PLAIN = gradient(linear.loss_with_posterior)
WORKER = without_divergence(linear.divergence)(PLAIN)
SERVER = with_divergence(linear.divergence)(SGD)


def params_of(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: leaf + jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32),
        linear.posterior(),
    )


def batches_of(seed: int) -> Batches:
    rows = linear.examples(seed)
    index = np.arange(8, dtype=np.uint32)[None]
    numbers = jnp.zeros(1, jnp.uint32)
    return Batches(numbers, *map(jnp.asarray, (rows.x[index], rows.y[index], index)))


ANSWERS = {rule: jax.jit(partial(answer, rule, whole, memory=())) for rule in (WORKER, PLAIN)}


def payload(rule: Any, params: Any, seed: int) -> Any:
    found = ANSWERS[rule](params=params, batches=batches_of(seed), key=jax.random.key(seed))
    return found.payload, float(found.neg_elbo)


def applied(server: ServerRule, params: Any, deliveries: list[Delivery], rate: float = 1.0) -> Any:
    part, _ = jax.jit(server.apply)(params, server.init(params), deliveries, rate)
    return part


def assert_close(one: Any, other: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), one, other)


@pytest.mark.parametrize("factors", [[1.0], [0.5, 0.5], [1.0, 1.0], [0.3, 0.9, 0.4]])
def test_without_delay_it_is_the_gradient_of_the_loss(seed: int, factors: list[float]) -> None:
    """Whether contributions are averaged or added up: the loss counts as often as they do."""
    params = params_of(seed)
    found = []
    for worker, server in ((WORKER, SERVER), (PLAIN, SGD)):
        each = [payload(worker, params, seed + n) for n in range(len(factors))]
        deliveries = [Delivery(p, f) for (p, _), f in zip(each, factors, strict=True)]
        found.append((applied(server, params, deliveries, 0.7), [value for _, value in each]))
    assert_close(*found)


def test_the_divergence_s_gradient_is_of_the_newest_parameters(seed: int) -> None:
    then, now = params_of(seed), params_of(seed + 1)
    sent, _ = payload(WORKER, then, seed)
    part = applied(SERVER, now, [Delivery(sent)])

    def likelihood(params: Any) -> Any:
        batches = batches_of(seed)
        args = batches.x[0], batches.y[0], batches.positions[0]
        key = jax.random.fold_in(jax.random.key(seed), 0)
        return linear.loss_with_posterior(params, *args, key) - linear.divergence(params)

    slopes = jax.tree.map(jnp.add, jax.grad(likelihood)(then), jax.grad(linear.divergence)(now))
    assert_close(part, jax.tree.map(lambda w, g: w - 0.1 * g, now, slopes))


def test_delays_are_compensated_before_or_after_it_alike(seed: int) -> None:
    then, now = params_of(seed), params_of(seed + 1)
    sent, _ = payload(WORKER, then, seed)
    compensated, divergent = delay_compensated(0.01), with_divergence(linear.divergence)
    found = [
        applied(rule, now, [Delivery(sent, 1.0, then)])
        for rule in (compensated(divergent(SGD)), divergent(compensated(SGD)))
    ]
    assert_close(*found)
    assert not np.allclose(found[0]["b"], applied(SERVER, now, [Delivery(sent)])["b"])


def test_one_server_has_all_parameters() -> None:
    layout = layout_of(linear.posterior())
    make_shards(layout, place("ranges", layout.sizes, 1), SERVER)
    assert locality_of(SERVER, linear.posterior())[0] is Locality.GLOBAL
    message = "rule 'server-divergence' needs all parameters together, .* on 2 servers; use 1"
    with pytest.raises(InputError, match=message):
        make_shards(layout, place("greedy", layout.sizes, 2), SERVER)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["server-divergence", "local-steps"], "'local-steps' cannot work on the gradient of the "),
        (["local-steps", "server-divergence"], "'server-divergence' cannot work on the distance"),
        (["top-k", "server-divergence"], "'server-divergence' changes what is sent, .* it first"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_refused(names: list[str], message: str) -> None:
    plain = Draft(PLAIN, SGD, lambda steps: optax.sgd(0.1), divergence=linear.divergence)
    with pytest.raises(InputError, match=message) as refused:
        draft_of(settings_of(names), plain)
    assert "\n" not in str(refused.value)


def test_a_model_that_does_not_tell_its_divergence_is_refused() -> None:
    plain = Draft(PLAIN, SGD, lambda steps: optax.sgd(0.1))
    with pytest.raises(InputError, match=r"'server-divergence' needs the KL apart"):
        draft_of(settings_of(["server-divergence"]), plain)
