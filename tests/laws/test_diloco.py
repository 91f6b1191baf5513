"""DiLoCo's servers: momentum that is refreshed once for all workers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distvi.algorithms.base import ServerRule
from distvi.algorithms.diloco import delayed_nesterov
from distvi.algorithms.draft import Draft
from distvi.algorithms.gradient import gradient, optimize
from distvi.algorithms.registry import draft_of, settings_of
from distvi.parameters import Locality, locality_of
from tests import linear

RATE, BETA = 0.7, 0.9
SHAPES = {"a": (3, 2), "b": ()}


def trees(seed: int, number: int) -> list[dict[str, jax.Array]]:
    rng = np.random.default_rng(seed)
    return [
        {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in SHAPES.items()}
        for _ in range(number)
    ]


def path(rule: ServerRule, payloads: list[Any]) -> list[Any]:
    """The parameters after each contribution, from nought on."""
    part = jax.tree.map(jnp.zeros_like, payloads[0])
    state, update, found = rule.init(part), jax.jit(rule.update), []
    for payload in payloads:
        part, state = update(part, state, payload, 1.0)
        found.append(part)
    return found


def as_published(payloads: list[np.ndarray], rate: float, beta: float, n: int) -> list[np.ndarray]:
    """Liu et al. (2024), algorithm 3 with c = 0, line by line."""
    theta, m, total, found = 0.0, 0.0, 0.0, []
    for t, g in enumerate(payloads):
        total = total + g
        if (t + 1) % n == 0:
            m = beta * m + total / n
            theta = theta - rate * (beta * m + g / n)
            total = 0.0
        else:
            theta = theta - rate * g / n
        found.append(np.asarray(theta))
    return found


@pytest.mark.parametrize(("n", "beta"), [(1, BETA), (2, 0.5), (3, BETA), (5, 0.0)])
def test_is_the_published_algorithm(seed: int, n: int, beta: float) -> None:
    payloads = trees(seed, 3 * n + 1)
    found = path(optimize(delayed_nesterov(RATE, beta, n)), payloads)
    for name in SHAPES:
        own = [np.asarray(payload[name], np.float64) for payload in payloads]
        for one, other in zip(found, as_published(own, RATE, beta, n), strict=True):
            np.testing.assert_allclose(one[name], other, rtol=1e-5, atol=1e-5)


def test_of_one_contribution_it_is_nesterov_s_momentum_bit_for_bit(seed: int) -> None:
    payloads = trees(seed, 10)
    found = path(optimize(delayed_nesterov(RATE, BETA, 1)), payloads)
    theirs = path(optimize(optax.sgd(RATE, BETA, nesterov=True)), payloads)
    jax.tree.map(np.testing.assert_array_equal, found, theirs)


@pytest.mark.parametrize("n", [2, 5])
def test_equal_contributions_are_one_step_in_pieces(seed: int, n: int) -> None:
    """The momentum moves the parameters once in n contributions, and decays once."""
    steps = trees(seed, 3)
    pieces = path(
        optimize(delayed_nesterov(RATE, BETA, n)), [payload for payload in steps for _ in range(n)]
    )
    whole = path(optimize(optax.sgd(RATE, BETA, nesterov=True)), steps)
    before = jax.tree.map(jnp.zeros_like, steps[0])
    for number, payload in enumerate(steps):
        own = pieces[n * number : n * (number + 1)]
        for count, found in enumerate(own[:-1], 1):
            plain = jax.tree.map(lambda w, d, i=count: w - RATE * i / n * d, before, payload)
            assert_close(found, plain)
        assert_close(own[-1], whole[number])
        before = own[-1]


def assert_close(one: Any, other: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), one, other)


def radius(n: int, rate: float) -> float:
    """Spectral radius of a round in which n workers contribute in turn; their steps go all the way.

    The rule treats entries alike, so entry j is an experiment of its own, in which one number of
    the state is 1: where a worker was begun, the parameters, or the momentum.
    """
    rule = optimize(delayed_nesterov(rate, BETA, n))
    *begun, now, momentum = jnp.eye(n + 2)
    first, trace, last = rule.init(now)
    state, update = (first, trace._replace(momentum=momentum), last), jax.jit(rule.update)
    for worker in range(n):
        now, state = update(now, state, begun[worker], 1.0)
        begun[worker] = now
    rows = np.stack([*begun, now, state[1].momentum])
    return np.abs(np.linalg.eigvals(rows.astype(np.float64))).max()


@pytest.mark.parametrize(("n", "limit"), [(1, 3.8 / 2.8), (4, 0.76), (8, 0.57)])
def test_momentum_that_is_late_bears_shorter_steps(n: int, limit: float) -> None:
    """Nesterov's own limit is (2 + 2 beta) / (1 + 2 beta)."""
    assert radius(n, 0.98 * limit) < 1 < radius(n, 1.02 * limit)


@pytest.mark.parametrize("n", [1, 4])
def test_any_placement_gives_the_same_parameters(n: int) -> None:
    rule = optimize(delayed_nesterov(RATE, BETA, n), is_uniform=True)
    assert locality_of(rule, trees(0, 1)[0]) == (Locality.ELEMENTWISE, "")


# By name


def draft(requests_per_update: float) -> Draft:
    sgd = optax.sgd(1e-3)
    return Draft(gradient(linear.loss), optimize(sgd), lambda steps: sgd, requests_per_update)


def first_move(rules: list[str], requests_per_update: float, **options: Any) -> float:
    """How far servers go along the first contribution, of 1."""
    server = draft_of(settings_of(rules, options), draft(requests_per_update)).server
    return -float(path(server, [{"w": jnp.float32(1.0)}])[0]["w"])


@pytest.mark.parametrize(("requests", "n"), [(1.0, 1), (1 / 4, 4), (3 / 10, 3), (2.0, 1)])
def test_momentum_waits_for_every_worker(requests: float, n: int) -> None:
    expected = RATE / n if n > 1 else RATE * (1 + BETA)
    assert first_move(["diloco"], requests) == pytest.approx(expected)


@pytest.mark.parametrize(("requests", "rate"), [(1.0, 1.0), (1 / 4, 1 / 4), (2.0, 1.0)])
def test_local_steps_are_averaged_whoever_makes_the_update(requests: float, rate: float) -> None:
    assert first_move(["local-steps"], requests) == pytest.approx(rate)
    assert first_move(["local-steps"], requests, outer_rate=0.5) == 0.5
