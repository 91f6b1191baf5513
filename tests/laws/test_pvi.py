"""Partitioned variational inference, on regressions whose variational optimum is known."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distvi.algorithms.base import Batches, Delivery, ServerRule, WorkerRule, answer, whole
from distvi.algorithms.draft import Draft, Sent
from distvi.algorithms.gradient import gradient, optimize
from distvi.algorithms.pvi import (
    LEAST,
    PVISettings,
    keeping_a_factor,
    multiply_factors,
    natural,
    posteriors,
    prior_of,
    with_posteriors,
    wrap,
)
from distvi.algorithms.registry import draft_of, settings_of
from distvi.errors import InputError
from distvi.models.bayesian_network import BayesianNetwork, BayesianNetworkSettings
from distvi.models.deep_gp import DeepGP, DeepGPSettings
from distvi.models.likelihoods import Gaussian
from distvi.numerics.gaussians import kl_to_normal
from distvi.parameters import layout_of, make_shards, place

WORKERS, ROWS = 3, 8  # rows of each share
PRIOR_MEAN, NOISE_VAR = (0.5, -1.0, 0.2), 0.5


class Regression(NamedTuple):
    """Bayesian linear regression of known noise, with a factorised posterior.

    Attributes:
        x: Inputs of all shares.
        y: Targets.
        loss: The exact negative ELBO but for a constant, scaled to all shares.
        divergence: The KL in it.
        start: Parameters to begin with.
    """

    x: np.ndarray
    y: np.ndarray
    loss: Callable[..., Any]
    divergence: Callable[[Any], Any]
    start: dict[str, Any]

    @property
    def optimum(self) -> dict[str, np.ndarray]:
        """The best factorised posterior, in closed form, under a prior of variance 1.

        Its mean is that of the exact posterior; its precisions are the diagonal of the exact's.
        """
        x, y = self.x.reshape(-1, 3), self.y.ravel()
        precision = np.eye(3) + x.T @ x / NOISE_VAR
        mean = np.linalg.solve(precision, np.asarray(PRIOR_MEAN) + x.T @ y / NOISE_VAR)
        return {"mean": mean, "log_var": -np.log(np.diag(precision))}


def regression(seed: int, *, learns_the_prior: bool = False) -> Regression:
    """A problem; ``learns_the_prior``: the log variance of its prior is a point parameter."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(WORKERS, ROWS, 3))
    y = x @ rng.normal(size=3) + np.sqrt(NOISE_VAR) * rng.normal(size=(WORKERS, ROWS))
    start: dict[str, Any] = {"w": {"mean": np.zeros(3), "log_var": np.full(3, -1.0)}}
    if learns_the_prior:
        start["log_prior"] = np.float64(0.3)

    def divergence(params: Any) -> Any:
        q, log_prior = params["w"], params.get("log_prior", jnp.zeros((), x.dtype))
        return kl_to_normal(q["mean"], q["log_var"], jnp.asarray(PRIOR_MEAN), log_prior)

    def loss(params: Any, x: Any, y: Any, index: Any, key: Any) -> Any:
        q = params["w"]
        squares = (y - x @ q["mean"]) ** 2 + x**2 @ jnp.exp(q["log_var"])
        return WORKERS * ROWS * squares.mean() / (2 * NOISE_VAR) + divergence(params)

    return Regression(x, y, loss, divergence, start)


SGD = optax.sgd(0.02)
FITTED = 1500  # steps of it leave less than 1e-9 of an error


def rules_of(
    known: Regression, steps: int, damping: float, workers: int = WORKERS
) -> tuple[WorkerRule, ServerRule]:
    worker = keeping_a_factor(steps, damping, SGD, known.divergence, workers)
    return worker(gradient(known.loss)), multiply_factors(known.divergence)


def _repeated(x: np.ndarray, y: np.ndarray, steps: int) -> Batches:
    """A whole share for every step."""
    numbers, zeros = jnp.arange(steps, dtype=jnp.uint32), jnp.zeros((steps, ROWS), jnp.uint32)
    x, y = (np.broadcast_to(rows, (steps, *rows.shape)) for rows in (x, y))
    return Batches(numbers, jnp.asarray(x), jnp.asarray(y), zeros)


class Fleet:
    """Workers and a server, one call after the other; in double precision."""

    def __init__(self, known: Regression, steps: int, damping: float) -> None:
        worker, self.server = rules_of(known, steps, damping)
        self.params = jax.tree.map(jnp.asarray, known.start)
        self.memories = [worker.init(self.params)] * WORKERS
        self.batches = [_repeated(x, y, steps) for x, y in zip(known.x, known.y, strict=True)]
        self._answer = jax.jit(partial(answer, worker, whole, key=jax.random.key(0)))
        self._apply = jax.jit(self.server.apply)

    def payload(self, k: int, params: Any) -> Any:
        found = self._answer(params=params, memory=self.memories[k], batches=self.batches[k])
        self.memories[k] = found.memory
        return found.payload

    def update(self, payloads: list[Any], rate: float = 1.0) -> None:
        deliveries = [Delivery(each, 1 / len(payloads)) for each in payloads]
        self.params, _ = self._apply(self.params, (), deliveries, rate)

    @property
    def factors(self) -> Any:
        """Natural parameters of all factors together."""
        each = [memory[-1] for memory in self.memories]
        return jax.tree.map(lambda *leaves: sum(leaves), *each)


def at_once(fleet: Fleet, rng: np.random.Generator) -> None:
    fleet.update([fleet.payload(k, fleet.params) for k in range(WORKERS)])


def one_by_one(fleet: Fleet, rng: np.random.Generator) -> None:
    for k in range(WORKERS):
        fleet.update([fleet.payload(k, fleet.params)])


def as_they_come(fleet: Fleet, rng: np.random.Generator) -> None:
    """Asynchronously: all on parameters that others have moved since, at odd rates."""
    for k in rng.integers(0, WORKERS, 2 * WORKERS):
        sent = vars(fleet).setdefault("sent", [fleet.params] * WORKERS)
        fleet.update([fleet.payload(int(k), sent[k])], rate=rng.uniform(0.1, 1.0))
        sent[k] = fleet.params


@pytest.fixture(autouse=True)
def _double_precision():
    with jax.enable_x64(True):
        yield


ORDERS = pytest.mark.parametrize(
    ("round_of", "damping"),
    [(at_once, 1 / WORKERS), (one_by_one, 1.0), (as_they_come, 1 / WORKERS)],
    ids=["sync", "one by one", "async"],
)


def trained(
    known: Regression, round_of: Any, damping: float, seed: int, rounds: int, steps: int = FITTED
) -> Fleet:
    fleet, rng = Fleet(known, steps, damping), np.random.default_rng(seed)
    for _ in range(rounds):
        round_of(fleet, rng)
    return fleet


def assert_close(one: Any, other: Any, rtol: float, atol: float = 0.0) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), one, other)


@ORDERS
def test_it_ends_where_variational_inference_on_all_data_does(
    round_of: Any, damping: float, seed: int
) -> None:
    """Bui et al. (2018), property 2: at a fixed point q is an optimum of the global ELBO."""
    known = regression(seed)
    fleet = trained(known, round_of, damping, seed, rounds=80)
    assert_close(fleet.params["w"], known.optimum, rtol=1e-6)


@ORDERS
def test_few_steps_at_a_time_end_there_too(round_of: Any, damping: float, seed: int) -> None:
    known = regression(seed)
    fleet = trained(known, round_of, damping, seed, rounds=500, steps=20)
    assert_close(fleet.params["w"], known.optimum, rtol=1e-6)


@ORDERS
def test_a_prior_that_points_move_is_learnt_as_well(
    round_of: Any, damping: float, seed: int
) -> None:
    known = regression(seed, learns_the_prior=True)
    fleet = trained(known, round_of, damping, seed, rounds=500, steps=50)
    x, y = (jnp.asarray(rows.reshape(-1, *rows.shape[2:])) for rows in (known.x, known.y))
    slope = jax.grad(known.loss)(fleet.params, x, y, None, None)
    for leaf in jax.tree.leaves(slope):  # of an ELBO whose curvature is about 50
        np.testing.assert_allclose(leaf, 0.0, atol=1e-5)
    assert abs(float(fleet.params["log_prior"]) - 0.3) > 0.01


@pytest.mark.parametrize("learns_the_prior", [False, True])
def test_the_posterior_is_the_prior_times_all_factors(learns_the_prior: bool, seed: int) -> None:
    known = regression(seed, learns_the_prior=learns_the_prior)
    fleet, rng = Fleet(known, 3, 0.7), np.random.default_rng(seed)
    for _ in range(30):
        as_they_come(fleet, rng)
        prior = prior_of(known.divergence, fleet.params)
        product = jax.tree.map(jnp.add, prior, fleet.factors)
        assert_close(posteriors(natural(fleet.params)), product, rtol=1e-9, atol=1e-9)


def test_one_worker_that_damps_nothing_is_plain_variational_inference(seed: int) -> None:
    known = regression(seed, learns_the_prior=True)
    worker, server = rules_of(known, 5, 1.0, workers=1)
    params = theirs = jax.tree.map(jnp.asarray, known.start)
    memory = worker.init(params)
    plain, optimizer, key = gradient(known.loss), optimize(SGD), jax.random.key(0)
    for update in range(6):
        x, y = (
            jnp.asarray(np.roll(rows, update, 0)[:5])
            for rows in (known.x.reshape(-1, 4, 3), known.y.reshape(-1, 4))
        )
        zeros = jnp.zeros((5, 4), jnp.uint32)
        batches = Batches(jnp.arange(5, dtype=jnp.uint32), x, y, zeros)
        found = answer(worker, whole, params, memory, batches, key)
        params, _ = server.apply(params, (), [Delivery(found.payload)], 1.0)
        memory, values = found.memory, []
        for step in range(5):
            own = jax.tree.map(lambda leaf, at=step: leaf[at : at + 1], batches)
            work = plain.work(theirs, (), own, key)
            theirs, _ = optimizer.apply(
                theirs, optimizer.init(theirs), [Delivery(work.payload)], 1.0
            )
            values.append(work.neg_elbo)
        np.testing.assert_allclose(found.neg_elbo, np.mean(values), rtol=1e-9)
        assert_close(params, theirs, rtol=1e-9)


# Priors


def test_the_prior_follows_from_the_divergence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mean, log_var = rng.normal(size=(2, 40)) * [[3.0], [4.0]]
    params = {"q": {"mean": jnp.asarray(rng.normal(size=40)), "log_var": jnp.ones(40)}}

    def divergence(params: Any) -> Any:
        q = params["q"]
        prior = (jnp.asarray(each, q["mean"].dtype) for each in (mean, log_var))
        return kl_to_normal(q["mean"], q["log_var"], *prior)

    with jax.enable_x64(False):
        low = prior_of(divergence, jax.tree.map(jnp.float32, params))
    for found, rtol in ((prior_of(divergence, params), 1e-9), (low, 1e-5)):
        expected = [{"mean": mean * np.exp(-log_var), "log_var": np.exp(-log_var)}]
        assert_close(found, expected, rtol=rtol)


def test_the_priors_of_the_models(key: jax.Array) -> None:
    """W of a deep GP is standard normal, Omega follows the lengthscales; a network says its own."""
    settings = DeepGPSettings(hidden_layers=1, width=2, features=5, initial_lengthscale=0.3)
    gp = DeepGP(3, 1, Gaussian(), settings)
    params = gp.init(key)
    for layer, each in enumerate(_by_name(gp, params)):
        weights = each["turned_weights"]
        assert_close(weights["log_var"], np.ones(weights["log_var"].shape), 1e-5)
        omega, initial = each["omega"], params[f"layer_{layer}"]["omega"]  # q begins as the prior
        assert_close(omega["log_var"], np.exp(-np.asarray(initial["log_var"])), rtol=1e-5)
        assert not omega["mean"].any()
        assert not weights["mean"].any()
    network = BayesianNetwork(3, 1, Gaussian(), BayesianNetworkSettings(prior_var=0.5, width=4))
    first, *_ = _by_name(network, network.init(key))
    assert_close(first["log_var"], np.full(first["log_var"].shape, 6.0), rtol=1e-5)


def _by_name(model: Any, params: Any) -> list[Any]:
    """The priors of every layer."""
    found = jax.jit(lambda params: with_posteriors(params, prior_of(model.divergence, params)))
    return [found(params)[name] for name in params if name.startswith("layer")]


# Servers


def test_a_precision_stays_positive_and_the_mean_where_it_was() -> None:
    known = regression(0)
    server = multiply_factors(known.divergence)
    q = {"mean": jnp.asarray([1.0, 2.0, 3.0]), "log_var": jnp.log(jnp.asarray([0.5, 0.5, 0.5]))}
    change = {"mean": jnp.asarray([5.0, 0.0, 1.0]), "log_var": jnp.asarray([-7.0, 0.0, -1.0])}
    part, _ = server.update({"w": q}, (), {"w": change}, 1.0)
    np.testing.assert_allclose(np.exp(-part["w"]["log_var"]), [LEAST, 2.0, 1.0], rtol=1e-9)
    np.testing.assert_allclose(part["w"]["mean"], [1.0, 2.0, 7.0], rtol=1e-9)


def test_what_does_not_change_keeps_its_very_bits(seed: int) -> None:
    known = regression(seed, learns_the_prior=True)
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=np.shape(leaf))), known.start)
    zeros = jax.tree.map(jnp.zeros_like, params)
    same, _ = multiply_factors(known.divergence).update(params, (), zeros, 1.0)
    jax.tree.map(np.testing.assert_array_equal, same, params)


def test_contributions_add_up_whatever_their_weights_and_rates(seed: int) -> None:
    known = regression(seed)
    server, rng = multiply_factors(known.divergence), np.random.default_rng(seed)
    params = jax.tree.map(jnp.asarray, known.start)
    each = [jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(size=3)), params) for _ in range(3)]
    together = jax.tree.map(lambda *leaves: sum(leaves), *each)
    expected, _ = server.apply(params, (), [Delivery(together)], 1.0)
    found, _ = server.apply(params, (), [Delivery(p, 0.1 * n) for n, p in enumerate(each)], 0.2)
    assert_close(found, expected, rtol=1e-12)


def test_several_servers_are_refused() -> None:
    known = regression(0)
    layout = layout_of(jax.tree.map(jnp.float32, known.start))
    server = multiply_factors(known.divergence)
    make_shards(layout, place("ranges", layout.sizes, 1), server)
    message = "rule 'pvi' needs all parameters together, but they are on 2 servers; use 1 server"
    with pytest.raises(InputError, match=message):
        make_shards(layout, place("ranges", layout.sizes, 2), server)


# By name


def draft(known: Regression, workers: int = 4, requests_per_update: float = 0.25) -> Draft:
    return Draft(
        gradient(known.loss),
        optimize(SGD),
        lambda steps: optax.sgd(1 / steps),
        requests_per_update,
        workers,
        known.divergence,
    )


def test_its_numbers_follow_from_the_run() -> None:
    made = wrap(PVISettings(steps=8), draft(regression(0)))
    assert (made.worker.batches, made.worker.partitioned) == (8, True)
    assert made.sent is Sent.NATURAL


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["local-steps", "pvi"], "'pvi' cannot work on the distance of a worker's own steps"),
        (["pvi", "local-steps"], "'local-steps' cannot work on changes of natural parameters"),
        (["pvi", "delay-compensation"], "'delay-compensation' cannot work on changes of natural"),
        (["pvi", "server-divergence"], "'server-divergence' cannot work on changes of natural"),
        (["server-divergence", "pvi"], "'pvi' cannot work on the gradient of the loss without"),
        (["delay-compensation", "pvi"], "'pvi' adds contributions up by itself"),
        (["top-k", "pvi"], "'pvi' changes what is sent, .* such as 'top-k'; name it first"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_refused(names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        draft_of(settings_of(names), draft(regression(0)))
    assert "\n" not in str(refused.value)


def test_what_it_needs_of_a_model() -> None:
    known = regression(0)
    with pytest.raises(InputError, match=r"'pvi' needs the KL apart .* divergence\(params\)"):
        wrap(PVISettings(), draft(known)._replace(divergence=None))
    worker = wrap(PVISettings(), draft(known)).worker
    for tree in ({"w": jnp.zeros(3)}, {"q": {"mean": jnp.zeros(3), "log_sd": jnp.zeros(3)}}):
        with pytest.raises(InputError, match="needs Gaussian posteriors among the parameters"):
            worker.init(tree)
