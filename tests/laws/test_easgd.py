"""Elastic averaging: what springs between a centre and its workers' copies do."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distvi.algorithms.base import Batches, Delivery, Work, WorkerRule
from distvi.algorithms.draft import Draft
from distvi.algorithms.gradient import optimize
from distvi.algorithms.registry import draft_of, settings_of

BETA, STEPS, RATE = 0.9, 2, 0.1
OPTIMUM = 3.0


class Rule(NamedTuple):
    """Elastic averaging, compiled."""

    init: Callable[..., Any]
    work: Callable[..., Work]
    server: Callable[..., Any]
    apply: Callable[..., Any]


class Fleet(NamedTuple):
    """A centre, and workers with their memories."""

    rule: Rule
    centre: Any
    state: Any
    memories: list[Any]

    @property
    def copies(self) -> list[Any]:
        return [copy for _, copy in self.memories]

    def moved_to(self, copies: list[Any]) -> "Fleet":
        """With other copies."""
        inner = [inner for inner, _ in self.memories]
        return self._replace(memories=list(zip(inner, copies, strict=True)))


def quadratic(curvature: float) -> WorkerRule:
    """The gradient of ``curvature / 2 (x - OPTIMUM)^2``."""

    def work(params: Any, memory: Any, batches: Batches, key: Any) -> Work:
        slope = jax.tree.map(lambda x: curvature * (x - OPTIMUM), params)
        return Work(slope, memory, jnp.float32(0.0))

    return WorkerRule(work)


@functools.cache
def rule_of(number: int, curvature: float, beta: float, *, together: bool) -> Rule:
    """For workers whose contributions come together, or are updates by themselves."""
    sgd = optax.sgd(RATE)
    plain = Draft(
        quadratic(curvature),
        optimize(sgd),
        lambda steps: sgd,
        requests_per_update=1.0 if together else 1 / number,
        workers=number,
    )
    draft = draft_of(settings_of(["easgd"], {"steps": STEPS, "elasticity": beta}), plain)
    work, apply = jax.jit(draft.worker.work), jax.jit(draft.server.apply)
    return Rule(draft.worker.init, work, draft.server.init, apply)


def fleet(
    centre: Any, number: int, curvature: float, *, together: bool, beta: float = BETA
) -> Fleet:
    """Workers that begin."""
    rule = rule_of(number, curvature, beta, together=together)
    memories = [rule.init(centre) for _ in range(number)]
    return Fleet(rule, centre, rule.server(centre), memories)


def answered(now: Fleet, worker: int) -> tuple[Any, Any]:
    """Payload and memory of one worker's answer."""
    rows = jnp.zeros((STEPS, 1), jnp.uint32)
    batches = Batches(jnp.zeros(STEPS, jnp.uint32), rows, rows, rows)
    found = now.rule.work(now.centre, now.memories[worker], batches, jax.random.key(0))
    return found.payload, found.memory


def in_lockstep(now: Fleet) -> Fleet:
    """All contribute to one update, of their mean."""
    number = len(now.memories)
    payloads, memories = zip(*(answered(now, worker) for worker in range(number)), strict=True)
    deliveries = [Delivery(payload, 1 / number) for payload in payloads]
    centre, state = now.rule.apply(now.centre, now.state, deliveries, 1.0)
    return Fleet(now.rule, centre, state, list(memories))


def one_by_one(now: Fleet) -> Fleet:
    """Each makes an update, and the next is sent its result."""
    for worker in range(len(now.memories)):
        payload, memory = answered(now, worker)
        centre, state = now.rule.apply(now.centre, now.state, [Delivery(payload)], 1.0)
        memories = [*now.memories[:worker], memory, *now.memories[worker + 1 :]]
        now = Fleet(now.rule, centre, state, memories)
    return now


ROUNDS: dict[str, Callable[[Fleet], Fleet]] = {"together": in_lockstep, "one by one": one_by_one}
both = pytest.mark.parametrize("way", ROUNDS)


def scattered(seed: int, number: int, way: str, curvature: float) -> Fleet:
    """Centre and copies anywhere."""
    rng = np.random.default_rng(seed)

    def draw() -> dict[str, jax.Array]:
        shapes = {"a": (3, 2), "b": ()}
        return {name: jnp.asarray(rng.normal(size=s), jnp.float32) for name, s in shapes.items()}

    found = fleet(draw(), number, curvature, together=way == "together")
    return found.moved_to([draw() for _ in range(number)])


def assert_close(one: Any, other: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), one, other)


@both
def test_a_round_by_hand(seed: int, way: str) -> None:
    before = scattered(seed, 2, way, curvature=2.0)
    found = ROUNDS[way](before)
    a = BETA / 2
    for name in before.centre:
        c = np.asarray(before.centre[name], np.float64)
        sent, copies, pulls = c, [], []
        for copy in before.copies:
            x = np.asarray(copy[name], np.float64)
            for _ in range(STEPS):
                x = x - RATE * 2.0 * (x - OPTIMUM)
            pull = a * (x - sent)
            copies.append(x - pull)
            pulls.append(pull)
            if way == "one by one":
                sent = sent + pull
        np.testing.assert_allclose(found.centre[name], c + sum(pulls), rtol=1e-5, atol=1e-6)
        for own, copy in zip(found.copies, copies, strict=True):
            np.testing.assert_allclose(own[name], copy, rtol=1e-5, atol=1e-6)


def test_a_worker_begins_on_the_centre(seed: int) -> None:
    centre = scattered(seed, 1, "together", 1.0).centre
    begun = fleet(centre, 2, 1.0, together=True)
    jax.tree.map(np.testing.assert_array_equal, begun.copies, [centre, centre])


@both
@pytest.mark.parametrize("number", [1, 3])
def test_what_springs_give_to_one_end_they_take_from_the_other(
    seed: int, number: int, way: str
) -> None:
    """Where the loss is flat, the sum of centre and copies stays, while they come together."""
    before = scattered(seed, number, way, curvature=0.0)
    found = ROUNDS[way](before)
    assert_close(total(found), total(before))
    for _ in range(40 * number):
        found = ROUNDS[way](found)
    assert_close(total(found), total(before))
    for copy in found.copies:
        np.testing.assert_allclose(copy["a"], found.centre["a"], atol=1e-2)


def total(now: Fleet) -> Any:
    return jax.tree.map(lambda *leaves: sum(np.asarray(leaf, np.float64) for leaf in leaves),
                        now.centre, *now.copies)  # fmt: skip


@both
@pytest.mark.parametrize("number", [1, 4])
def test_all_end_at_the_optimum_with_slack_springs(seed: int, number: int, way: str) -> None:
    found = scattered(seed, number, way, curvature=2.0)
    for _ in range(60):
        found = ROUNDS[way](found)
    optimum = jax.tree.map(lambda leaf: jnp.full_like(leaf, OPTIMUM), found.centre)
    for each in (found.centre, *found.copies):
        assert_close(each, optimum)
    for worker in range(number):
        force, _ = answered(found, worker)
        assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(force)) < 1e-5


@both
def test_nothing_moves_at_the_optimum(way: str) -> None:
    there = fleet({"w": jnp.full(3, OPTIMUM)}, 3, 2.0, together=way == "together")
    found = ROUNDS[way](there)
    jax.tree.map(np.testing.assert_array_equal, found.centre, there.centre)
    jax.tree.map(np.testing.assert_array_equal, found.copies, there.copies)


# Stability in lockstep


def eigenvalues(number: int, beta: float, curvature: float) -> np.ndarray:
    """Magnitudes of those of a round, as a map of the distances from the optimum.

    The rule treats entries alike, so entry j is an experiment of its own, in which the centre
    (j = 0) or one copy is away from the optimum by 1.
    """
    unit = OPTIMUM + np.eye(number + 1, dtype=np.float32)
    at = [{"w": jnp.asarray(row)} for row in unit]
    now = fleet(at[0], number, curvature, together=True, beta=beta).moved_to(at[1:])
    found = in_lockstep(now)
    rows = [np.asarray(each["w"], np.float64) - OPTIMUM for each in (found.centre, *found.copies)]
    return np.sort(np.abs(np.linalg.eigvals(np.stack(rows))))


def by_theory(number: int, beta: float, left: float) -> np.ndarray:
    """Of the differences between copies, and of the centre with their mean.

    ``left`` is what the local steps leave of a distance from the optimum.
    """
    a = beta / number
    pair = np.array([[1 - beta, beta * left], [a, (1 - a) * left]])
    apart = [(1 - a) * left] * (number - 1)
    return np.sort(np.abs([*apart, *np.linalg.eigvals(pair)]))


stability = pytest.mark.parametrize(
    ("number", "beta"), [(1, 0.9), (1, 1.0), (2, 0.5), (8, 0.1), (8, 0.9), (8, 1.0)]
)


@stability
@pytest.mark.parametrize("step", [0.05, 1.0, 1.7, 1.98])
def test_it_is_stable_wherever_local_steps_are(number: int, beta: float, step: float) -> None:
    """``step`` is the rate times the curvature: plain descent is stable from 0 to 2."""
    left = (1 - step) ** STEPS
    found = eigenvalues(number, beta, step / RATE)
    np.testing.assert_allclose(found, by_theory(number, beta, left), atol=2e-3)
    assert found.max() < 1


@stability
@pytest.mark.parametrize("step", [0.0, 2.05, 2.5])
def test_it_does_not_converge_where_they_do_not(number: int, beta: float, step: float) -> None:
    left = (1 - step) ** STEPS
    found = eigenvalues(number, beta, step / RATE)
    np.testing.assert_allclose(found, by_theory(number, beta, left), atol=2e-3)
    assert found.max() > 1 - 1e-4


@pytest.mark.parametrize("beta", np.linspace(0.05, 1, 8))
@pytest.mark.parametrize("number", [1, 2, 3, 50])
def test_the_theory_for_any_step(number: int, beta: float) -> None:
    """Also for odd numbers of steps, which may leave a distance of the other sign."""
    for left in np.linspace(-0.999, 0.999, 41):
        assert by_theory(number, beta, left).max() < 1
    assert by_theory(number, beta, 1.0).max() == pytest.approx(1)
