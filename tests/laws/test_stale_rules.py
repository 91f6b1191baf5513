"""Rules of servers for stale contributions: their formulas, and what they do to stability."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distvi import api
from distvi.algorithms.base import Delivery, Keep, ServerRule, weighted_sum
from distvi.algorithms.delay_compensation import (
    DelayCompensationSettings,
    adaptively_compensated,
    compensated_by_moment,
    delay_compensated,
    wrap,
)
from distvi.algorithms.draft import Draft
from distvi.algorithms.freeze import freeze
from distvi.algorithms.gap_aware import gap_aware
from distvi.algorithms.gradient import gradient, optimize
from distvi.algorithms.local_steps import LocalStepsSettings
from distvi.algorithms.local_steps import wrap as with_local_steps
from distvi.algorithms.step_limit import step_limited
from distvi.errors import InputError
from distvi.parameters import Locality, layout_of, locality_of, make_shards, place
from distvi.parameters.store import Store
from distvi.protocol import Commit, Contribution, Ticket
from tests import linear

Wrap = Callable[[ServerRule], ServerRule]

RULES: dict[str, Wrap] = {
    "delay compensation": delay_compensated(0.04),
    "adaptive": adaptively_compensated(0.5, 0.9),
    "by moment": compensated_by_moment(0.5),
    "gap-aware": gap_aware(0.9),
    "step limit": step_limited(1.0, 0.9),
    "all": lambda rule: step_limited(1.0, 0.9)(
        gap_aware(0.9)(compensated_by_moment(0.5)(adaptively_compensated(0.5, 0.9)(rule)))
    ),
}
every_rule = pytest.mark.parametrize("name", RULES)

SHAPES = {"a": (7, 4), "b": {"c": (4,), "d": (3, 5)}, "e": ()}
HELD = {"a": 0, "b": {"c": 2, "d": 0}, "e": 1}  # so that servers are not joined into one
PRECISION = float(np.finfo(np.float32).eps)


def trees(seed: int, count: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [
        jax.tree.map(
            lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32),
            SHAPES,
            is_leaf=lambda node: isinstance(node, tuple),
        )
        for _ in range(count)
    ]


def trained(
    rule: ServerRule, payloads: Sequence[Any], delay: int, lot: int = 1, compile: Any = jax.jit
) -> list[Any]:
    """Parameters after every update of ``lot`` contributions that were ``delay`` updates late."""

    @compile
    def update(part: Any, state: Any, payloads: Any, base: Any) -> Any:
        late = [Delivery(payload, 1 / lot, base) for payload in payloads]
        return rule.apply(part, state, late, 1.0)

    start, *rest = payloads
    course, state = [start], rule.init(start)
    for first in range(0, len(rest), lot):
        base = course[max(0, len(course) - 1 - delay)]
        part, state = update(course[-1], state, rest[first : first + lot], base)
        course.append(part)
    return course


def assert_identical(one: Any, other: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


def assert_close(one: Any, other: Any) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=64 * PRECISION, atol=64 * PRECISION),
        one,
        other,
    )


# Of all of them


@every_rule
@pytest.mark.parametrize(("lot", "optimizer"), [(1, optax.adam(0.1)), (2, optax.rmsprop(0.1))])
def test_nothing_changes_without_delay(
    name: str, lot: int, optimizer: optax.GradientTransformation, seed: int
) -> None:
    """To the bit where each operation is a program; one program of all rounds less often."""
    rule, payloads = optimize(optimizer), trees(seed, 5)
    plain, other = (
        trained(each, payloads, 0, lot, compile=lambda update: update)
        for each in (rule, RULES[name](rule))
    )
    assert_identical(plain, other)


@every_rule
def test_delayed_contributions_are_changed(name: str, seed: int) -> None:
    rule, payloads = optimize(optax.adam(0.1)), trees(seed, 9)
    plain, other = (trained(each, payloads, 3)[-1] for each in (rule, RULES[name](rule)))
    assert not np.allclose(plain["a"], other["a"], rtol=1e-4)


@every_rule
def test_entries_are_had_apart(name: str, seed: int) -> None:
    rule = RULES[name](optimize(optax.adam(0.1), is_uniform=True))
    assert (rule.keeps, rule.is_uniform) == (Keep.BASE, True)
    assert locality_of(rule, trees(seed, 1)[0]) == (Locality.ELEMENTWISE, "")


@every_rule
@pytest.mark.parametrize(
    ("placement", "held"), [("ranges", None), ("ranges", HELD), ("greedy", HELD)]
)
def test_servers_make_the_updates_of_one(name: str, placement: str, held: Any, seed: int) -> None:
    rule = RULES[name](optimize(freeze(optax.adam(0.1), held), is_uniform=held is None))
    payloads, delay = trees(seed, 7), 2
    layout = layout_of(payloads[0])
    shards = make_shards(layout, place(placement, layout.sizes, 2), rule)
    store = Store(shards, layout.flatten(payloads[0]))
    bases = [store.pull()]
    for version, payload in enumerate(payloads[1:], start=1):
        base = bases[max(0, version - 1 - delay)]
        ticket = Ticket(0, 0, version, base=base.version)
        store.hold(ticket, layout.flatten(payload), base)
        store.commit(Commit(version, (Contribution(ticket),)))
        bases.append(store.pull())
    assert_close(store.params, trained(rule, payloads, delay)[-1])
    again = Store(shards, layout.flatten(store.params), store.state, store.version)
    assert_identical(again.state, store.state)


# Delay compensation


def noting(optimizer: optax.GradientTransformation, notes: list[Any]) -> ServerRule:
    """The optimizer, and what it is given to combine."""

    def combine(part: Any, state: Any, deliveries: Sequence[Delivery]) -> Any:
        notes.append([each.payload for each in deliveries])
        return weighted_sum(part, state, deliveries)

    return optimize(optimizer)._replace(combine=combine)


def corrected(wrap: Wrap, payloads: Sequence[Any], delay: int) -> tuple[list[Any], list[Any]]:
    """What an optimizer gets of late contributions, and the parameters they meet."""
    notes: list[Any] = []
    rule = wrap(noting(optax.adam(0.1, b2=0.8), notes))
    start, *rest = payloads
    course, state = [start], rule.init(start)
    notes.clear()  # of a trial
    for payload in rest:
        base = course[max(0, len(course) - 1 - delay)]
        part, state = rule.apply(course[-1], state, [Delivery(payload, 1.0, base)], 1.0)
        course.append(part)
    return [note[0] for note in notes], course


def scalars(seed: int, count: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [{"w": jnp.asarray(rng.normal(size=5), jnp.float32)} for _ in range(count)]


def test_the_adaptive_strength_falls_with_the_mean_square(seed: int) -> None:
    strength, decay, delay, payloads = 2.0, 0.9, 2, scalars(seed, 9)
    found, course = corrected(adaptively_compensated(strength, decay), payloads, delay)
    w = [np.asarray(each["w"], np.float64) for each in course]
    total, weight = np.zeros(5), 0.0
    for update, payload in enumerate(payloads[1:]):
        g = np.asarray(payload["w"], np.float64)
        total, weight = decay * total + (1 - decay) * g**2, decay * weight + 1 - decay
        rate = strength / np.sqrt(total / weight + 1e-7)
        expected = g + rate * g * g * (w[update] - w[max(0, update - delay)])
        np.testing.assert_allclose(found[update]["w"], expected, rtol=1e-4, atol=1e-5)


def test_the_second_moment_is_the_optimizer_s_without_its_bias(seed: int) -> None:
    strength, delay, payloads = 0.7, 2, scalars(seed, 9)
    found, course = corrected(compensated_by_moment(strength), payloads, delay)
    w = [np.asarray(each["w"], np.float64) for each in course]
    moment = np.zeros(5)
    for update, payload in enumerate(payloads[1:]):
        g = np.asarray(payload["w"], np.float64)
        unbiased = moment / max(1 - 0.8**update, 1e-30)
        expected = g + strength * unbiased * (w[update] - w[max(0, update - delay)])
        np.testing.assert_allclose(found[update]["w"], expected, rtol=1e-4, atol=1e-5)
        given = np.asarray(found[update]["w"], np.float64)  # which the optimizer takes the mean of
        moment = 0.8 * moment + 0.2 * given**2


def test_a_known_curvature_gives_the_gradient_of_the_present_parameters() -> None:
    """Of h / 2 w^2: after one gradient g the unbiased moment is g^2, so lambda is h / g^2."""
    h, w = jnp.float32(0.5), jnp.float32(2.0)
    rule = compensated_by_moment(0.5)(noting(optax.adam(0.25), notes := []))
    start = {"w": w}
    part, state = rule.apply(start, rule.init(start), [Delivery({"w": h * w}, 1.0, start)], 1.0)
    rule.apply(part, state, [Delivery({"w": h * w}, 1.0, start)], 1.0)
    fresh = float(h * part["w"])
    assert abs(float(notes[-1][0]["w"]) - fresh) <= 8 * PRECISION * abs(fresh)
    assert abs(fresh - float(h * w)) > 0.1


@pytest.mark.parametrize(
    ("optimizer", "share"),
    [
        (optax.adam(0.1, b2=0.9), 0.1),
        (optax.adamw(0.1, b2=0.999), 0.001),
        (optax.amsgrad(0.1, b2=0.75), 0.25),
        (optax.rmsprop(0.1, decay=0.5), 0.5),
    ],
)
def test_a_trial_tells_what_a_square_adds_to_the_second_moment(
    optimizer: optax.GradientTransformation, share: float, seed: int
) -> None:
    state = compensated_by_moment(0.04)(optimize(optimizer)).init(trees(seed, 1)[0])
    assert float(state.share) == pytest.approx(share, rel=4 * PRECISION)


@pytest.mark.parametrize("optimizer", ["sgd", "muon", "novograd", "lion"])
def test_an_optimizer_without_a_second_moment_is_refused(
    optimizer: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("runs") / "run"
    options = {"rules": "delay-compensation", "rule_options": {"curvature": "adam"}}
    with pytest.raises(InputError, match="curvature 'adam' needs an optimizer that keeps") as no:
        api.train("digits", out=out, engine="mesh", updates=2, optimizer=optimizer, **options)
    assert "\n" not in str(no.value)
    assert not out.exists()


def draft_of_sgd() -> Draft:
    return Draft(gradient(linear.loss), optimize(optax.sgd(1.0)), lambda steps: optax.sgd(1.0))


@pytest.mark.parametrize(
    ("options", "g"),
    [
        ({}, 1 + 0.04),
        ({"strength": 1.0}, 2.0),
        ({"curvature": "adaptive"}, 3.0),
        ({"curvature": "adaptive", "strength": 0.5}, 1.5),
    ],
)
def test_a_strength_that_suits_the_curvature(options: dict[str, Any], g: float) -> None:
    """One step of SGD along a gradient of one, from one step beyond its base."""
    rule = wrap(DelayCompensationSettings(**options), draft_of_sgd()).server
    now, then, one = ({"w": jnp.float32(value)} for value in (1.0, 0.0, 1.0))
    part, _ = rule.apply(now, rule.init(now), [Delivery(one, 1.0, then)], 1.0)
    assert float(1 - part["w"]) == pytest.approx(g, rel=1e-6)


def test_local_steps_come_before_rules_of_servers() -> None:
    draft = wrap(DelayCompensationSettings(), draft_of_sgd())
    with pytest.raises(InputError, match=r"'local-steps' .* 'delay-compensation'; name it first"):
        with_local_steps(LocalStepsSettings(), draft)


# Distances in steps


def test_a_gap_is_the_distance_in_steps(seed: int) -> None:
    decay, delay, rate, payloads = 0.9, 2, 0.1, scalars(seed, 9)
    course = trained(gap_aware(decay)(optimize(optax.sgd(rate))), payloads, delay)
    w = [np.asarray(payloads[0]["w"], np.float64)]
    total, weight = np.zeros(5), 0.0
    for update, payload in enumerate(payloads[1:]):
        moved = np.abs(w[-1] - w[max(0, update - delay)])
        gap = 1 + (moved * weight / total if weight else 0)
        w.append(w[-1] - rate * np.asarray(payload["w"], np.float64) / gap)
        total = decay * total + (1 - decay) * np.abs(w[-1] - w[-2])
        weight = decay * weight + 1 - decay
    for ours, expected in zip(course, w, strict=True):
        np.testing.assert_allclose(ours["w"], expected, rtol=1e-4, atol=1e-5)


def test_steps_one_way_are_as_many_as_the_delay() -> None:
    """Then the gap is ``delay + 1``; and of the optimizer's step ``limit / delay`` is made."""
    ones, delay = [{"w": jnp.ones(3)}] * 400, 4
    steps = {}
    for name, rule in (("gap", gap_aware(0.9)), ("limit", step_limited(2.0, 0.9))):
        course = trained(rule(optimize(optax.sgd(0.01))), ones, delay)
        steps[name] = float(course[-2]["w"][0] - course[-1]["w"][0])
    assert steps["gap"] == pytest.approx(0.01 / (delay + 1), rel=1e-2)
    assert steps["limit"] == pytest.approx(0.01 * 2 / delay, rel=1e-2)


def test_an_optimizer_that_divides_by_the_gradient_is_shortened_as_well() -> None:
    ones, delay = [{"w": jnp.ones(3)}] * 400, 4
    rates = []
    for rule in (gap_aware(0.9), step_limited(1.0, 0.9)):
        course = trained(rule(optimize(optax.adam(0.01, b1=0.5, b2=0.9))), ones, delay)
        rates.append(float(course[-2]["w"][0] - course[-1]["w"][0]) / 0.01)
    assert rates == pytest.approx([1.0, 1 / delay], rel=1e-2)


def distance(rule: ServerRule, curvature: float, delay: int, updates: int) -> float:
    """From the minimum of ``curvature / 2 w^2`` at 0 at most, in the last tenth of a run from 1."""

    def step(carry: tuple[Any, Any, Any], _: None) -> tuple[Any, Any]:
        history, state, _ = carry
        part, base = history[-1], history[0]
        part, state = rule.apply(part, state, [Delivery(curvature * base, 1.0, base)], 1.0)
        return (jnp.append(history[1:], part), state, part), jnp.abs(part)

    start = jnp.ones(delay + 1)
    carry = start, rule.init(start[0]), start[0]
    return float(jax.lax.scan(step, carry, None, updates)[1][-updates // 10 :].max())


@pytest.mark.parametrize("delay", [3, 7, 15])
def test_a_limit_keeps_steps_stable_that_a_delay_makes_unstable(delay: int) -> None:
    """Giladi et al. (2019): SGD is stable below 2 sin(pi / (2 (2 delay + 1)))."""
    edge, updates = 2 * np.sin(np.pi / (2 * (2 * delay + 1))), 400 * (delay + 1)
    plain = optimize(optax.sgd(1.0))
    assert distance(plain, 0.9 * edge, delay, updates) < 1e-3
    assert distance(plain, 1.2 * edge, delay, updates) > 1e3
    limited = step_limited(1.0, 0.99)(plain)
    for beyond in (0.9, 1.2, max(1.2, delay / 3)):
        assert distance(limited, beyond * edge, delay, updates) < 1e-3
