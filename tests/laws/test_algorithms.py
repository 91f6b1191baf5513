"""What workers make of requests and servers of contributions: laws of each rule."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distvi.aggregation import sync
from distvi.algorithms.base import (
    Batches,
    Delivery,
    Keep,
    ServerRule,
    Work,
    WorkerRule,
    answer,
    weighted_sum,
    whole,
)
from distvi.algorithms.delay_compensation import delay_compensated
from distvi.algorithms.draft import Draft
from distvi.algorithms.gradient import gradient, optimize
from distvi.algorithms.local_steps import local_steps
from distvi.algorithms.registry import RULES, draft_of, register_rule, settings_of
from distvi.algorithms.top_k import TopKSettings, sparse, top_k
from distvi.engines.base import has_memory, read_batches
from distvi.errors import InputError
from distvi.parameters import Locality, Shards, layout_of, locality_of, make_shards, place
from distvi.system.settings import Settings
from tests import linear

SHAPES = {"a": (7, 4), "b": {"c": (4,), "d": (3, 5)}, "e": ()}
SIZE = 48
ADAM = optimize(optax.adam(0.1), is_uniform=True)

seeds, fractions = st.integers(0, 2**32 - 1), st.sampled_from([0.001, 0.1, 0.37, 0.99])
some = settings(max_examples=25)


def tree_of(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32),
        SHAPES,
        is_leaf=lambda node: isinstance(node, tuple),
    )


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def shards_of(servers: int, placement: str = "ranges", rule: ServerRule = ADAM) -> Shards:
    layout = layout_of(tree_of(0))
    return make_shards(layout, place(placement, layout.sizes, servers), rule)


def contributing(payload: Any) -> WorkerRule:
    """A rule whose payload is always the same."""
    return WorkerRule(lambda params, memory, batches, key: Work(payload, memory, jnp.float32(0)))


def no_batches() -> Batches:
    zeros = jnp.zeros((1, 1), jnp.uint32)
    return Batches(jnp.zeros(1, jnp.uint32), zeros, zeros, zeros)


def sent_of(rule: WorkerRule, memory: Any, servers: int = 1) -> Any:
    transmit = whole if servers == 1 else shards_of(servers).transmit
    return answer(rule, transmit, tree_of(0), memory, no_batches(), jax.random.key(0))


# Top-k


@some
@given(seeds, fractions, st.sampled_from([1, 3]))
def test_what_was_sent_and_what_is_kept_are_all_there_is(
    seed: int, fraction: float, servers: int
) -> None:
    payload, residual = tree_of(seed), tree_of(seed + 1)
    found = sent_of(top_k(fraction)(contributing(payload)), ((), residual), servers)
    corrected = jax.tree.map(jnp.add, payload, residual)
    inner, kept = found.memory
    assert inner == ()
    together = jax.tree.map(jnp.add, found.payload, kept)
    jax.tree.map(np.testing.assert_array_equal, together, corrected)
    assert not (flat(found.payload) * flat(kept)).any()  # each entry is sent or kept
    assert found.messages is not None
    assert len(found.messages) == servers


@some
@given(seeds, fractions)
def test_the_residual_contracts(seed: int, fraction: float) -> None:
    """Stich et al. (2018), definition 2.1: ||p - top_k(p)||^2 <= (1 - k / d) ||p||^2."""
    payload = tree_of(seed)
    found = sent_of(top_k(fraction)(contributing(payload)), ((), zeros()))
    k = max(1, round(fraction * SIZE))
    lost, all_of_it = (np.square(flat(t), dtype=np.float64) for t in (found.memory[1], payload))
    assert lost.sum() <= (1 - k / SIZE) * all_of_it.sum() * (1 + 1e-12)
    assert np.count_nonzero(flat(found.payload)) == k


def zeros() -> Any:
    return jax.tree.map(jnp.zeros_like, tree_of(0))


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_always_travels(bad: float, seed: int) -> None:
    """So that the answer is refused; kept for later it would spoil all that follow."""
    payload = tree_of(seed) | {"e": jnp.float32(bad)}
    found = sent_of(top_k(0.01)(contributing(payload)), ((), zeros()))
    assert not np.isfinite(flat(found.payload)).all()


@pytest.mark.parametrize("servers", [1, 3])
def test_a_fraction_of_one_sends_everything(seed: int, servers: int) -> None:
    payload = tree_of(seed)
    found = sent_of(top_k(1.0)(contributing(payload)), ((), zeros()), servers)
    jax.tree.map(np.testing.assert_array_equal, found.payload, payload)
    assert not flat(found.memory).any()


def test_nothing_is_lost_only_late(seed: int) -> None:
    payload = jax.tree.map(lambda leaf: 1 + jnp.abs(leaf), tree_of(seed))
    rule = top_k(0.1)(contributing(payload))
    memory, sent = rule.init(tree_of(0)), zeros()
    for _ in range(30):
        found = sent_of(rule, memory)
        memory, sent = found.memory, jax.tree.map(jnp.add, sent, found.payload)
    total = jax.tree.map(jnp.add, sent, memory[1])
    np.testing.assert_allclose(flat(total), 30 * flat(payload), rtol=1e-5)
    assert (flat(sent) != 0).all()  # even the smallest has travelled


@some
@given(seeds, fractions, st.sampled_from(["ranges", "greedy", "round-robin"]))
def test_a_server_has_the_largest_entries_of_its_part(
    seed: int, fraction: float, placement: str
) -> None:
    wire, shards = sparse(fraction), shards_of(3, placement)
    vector = shards.layout.flatten(tree_of(seed))
    for shard, size in zip(shards.each, shards.placement.sizes, strict=True):
        part = shard.take(vector)
        received = wire.decode(wire.encode(part), part)
        assert jax.tree.structure(received) == jax.tree.structure(part)
        given, got = flat(part), flat(received)
        is_sent = got != 0
        np.testing.assert_array_equal(got[is_sent], given[is_sent])
        assert is_sent.sum() == max(1, round(fraction * size))
        if not is_sent.all():
            assert np.abs(given[is_sent]).min() >= np.abs(given[~is_sent]).max()


@pytest.mark.parametrize("placement", ["ranges", "greedy", "round-robin"])
def test_the_bytes_that_travel_to_each_server(placement: str) -> None:
    shards = shards_of(3, placement)
    assert shards.pushed_bytes(None) == shards.placement.bytes
    entries = [max(1, round(0.3 * size)) for size in shards.placement.sizes]
    assert shards.pushed_bytes(sparse(0.3)) == tuple(8 * count for count in entries)


# Local steps


def trained(worker: WorkerRule, server: ServerRule, updates: int, seed: int) -> tuple[Any, float]:
    """Parameters of one worker and one server, and the mean of the ELBOs."""
    problem, _ = linear.made({"seed": seed, "batch_size": 4}, sync())
    params, values = linear.start(), []
    state, memory = server.init(params), worker.init(params)

    @jax.jit
    def step(params, state, memory, batches):
        found = answer(worker, whole, params, memory, batches, problem.key)
        params, state = server.apply(params, state, [Delivery(found.payload)], 1.0)
        return params, state, found.memory, found.neg_elbo

    for update in range(updates):
        batches = read_batches(problem, update * worker.batches, worker.batches)
        batches = jax.tree.map(jnp.asarray, batches)
        params, state, memory, value = step(params, state, memory, batches)
        values.append(float(value))
    return params, float(np.mean(values))


def assert_close(one: Any, other: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, other)


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("optimizer", [optax.sgd(1e-3), optax.adam(1e-2)], ids=["sgd", "adam"])
def test_local_steps_of_one_worker_are_as_many_updates(
    optimizer: optax.GradientTransformation, steps: int, seed: int
) -> None:
    """With the mean of one on the servers; the worker's optimizer goes on where it was."""
    plain = trained(gradient(linear.loss), optimize(optimizer), 20, seed)
    rule = local_steps(steps, optimizer)(gradient(linear.loss))
    assert rule.batches == steps
    assert_close(trained(rule, optimize(optax.sgd(1.0)), 20 // steps, seed), plain)


def test_local_steps_of_local_steps(seed: int) -> None:
    """Rules wrap one another: two times three steps are six."""
    sgd = optax.sgd(1e-3)
    twice = local_steps(2, optax.sgd(1.0))(local_steps(3, sgd)(gradient(linear.loss)))
    assert twice.batches == 6
    once = local_steps(6, sgd)(gradient(linear.loss))
    outer = optimize(optax.sgd(1.0))
    assert_close(trained(twice, outer, 3, seed), trained(once, outer, 3, seed))


def test_local_steps_come_before_the_wire() -> None:
    sgd = optax.sgd(1e-3)
    sparse_steps = top_k(0.5)(local_steps(2, sgd)(gradient(linear.loss)))
    assert (sparse_steps.batches, sparse_steps.wire is None) == (2, False)
    with pytest.raises(InputError, match=r"'local-steps' .* before .* 'top-k'; name it first"):
        local_steps(2, sgd)(top_k(0.5)(gradient(linear.loss)))


@pytest.mark.parametrize("name", ["local-steps", "diloco", "easgd"])
def test_what_is_sent_is_settled_before_how(name: str) -> None:
    sgd = optax.sgd(1e-3)
    draft = Draft(gradient(linear.loss), optimize(sgd), lambda steps: sgd)
    assert draft_of(settings_of([name, "top-k"]), draft).worker.wire is not None
    with pytest.raises(InputError, match=f"'{name}' .* before .* 'top-k'; name it first"):
        draft_of(settings_of(["top-k", name]), draft)


def test_what_a_worker_remembers() -> None:
    plain = gradient(linear.loss)
    shapes = jax.eval_shape(linear.start)
    assert not has_memory(plain, shapes)
    assert has_memory(top_k(0.5)(plain), shapes)
    assert has_memory(local_steps(2, optax.adam(0.1))(plain), shapes)
    assert not has_memory(local_steps(2, optax.sgd(0.1))(plain), shapes)


# Servers


def corrected(strength: float, payload: Any, now: Any, then: Any) -> Any:
    rule = delay_compensated(strength)(ADAM)
    assert rule.keeps is Keep.BASE
    return rule.combine(now, (), [Delivery(payload, 1.0, then)])


def test_nothing_is_corrected_without_delay_or_without_strength(seed: int) -> None:
    payload, now, then = tree_of(seed), tree_of(seed + 1), tree_of(seed + 2)
    for found in (corrected(0.04, payload, now, now), corrected(0.0, payload, now, then)):
        jax.tree.map(np.testing.assert_array_equal, found, payload)


@some
@given(seeds, st.floats(0.01, 1.0))
def test_the_correction_is_first_order_with_the_gradient_s_square(seed: int, strength: float):
    """Of a quadratic loss h / 2 w^2: lambda g g is the curvature where lambda is h / g^2."""
    now, then, curvature = (
        tree_of(seed),
        tree_of(seed + 1),
        jax.tree.map(jnp.abs, tree_of(seed + 2)),
    )
    payload = jax.tree.map(jnp.multiply, curvature, then)
    found = corrected(strength, payload, now, then)

    def check(found: Any, g: Any, w: Any, w_then: Any) -> None:
        moved = np.asarray(found, np.float64) - g
        np.testing.assert_allclose(moved, strength * g * g * (w - w_then), rtol=1e-4, atol=1e-5)
        assert ((moved >= -1e-6) == (w >= w_then))[np.abs(moved) > 1e-5].all()

    jax.tree.map(check, *(jax.tree.map(np.asarray, t) for t in (found, payload, now, then)))
    one = {"w": jnp.float32(3.0)}, {"w": jnp.float32(2.0)}
    g = {"w": jnp.float32(0.5 * 2.0)}  # h = 1/2 at w_then = 2
    assert float(corrected(0.5, g, *one)["w"]) == 0.5 * 3.0


def test_several_are_corrected_each_by_its_own_delay(seed: int) -> None:
    rule, part = delay_compensated(0.1)(ADAM), tree_of(seed)
    each = [
        Delivery(tree_of(seed + n), jnp.float32(0.5 + n), tree_of(seed + 10 + n)) for n in (1, 2)
    ]
    alone = [
        jax.tree.map(
            lambda leaf, f=one.factor: leaf * f, corrected(0.1, one.payload, part, one.base)
        )
        for one in each
    ]
    found = rule.combine(part, (), each)
    assert_close(found, jax.tree.map(jnp.add, *alone))


def test_a_weighted_sum_is_in_the_order_that_is_given() -> None:
    each = [Delivery({"w": jnp.float32(value)}, 1.0) for value in (1e8, -1e8, 1.0)]
    assert float(weighted_sum((), (), each)["w"]) == 1.0
    assert float(weighted_sum((), (), [each[2], *each[:2]])["w"]) == 0.0


@pytest.mark.parametrize(
    "wrap", [lambda rule: rule, delay_compensated(0.04)], ids=["weighted sum", "delay compensation"]
)
@pytest.mark.parametrize("optimizer", [optax.adam(0.1), optax.sgd(0.1, 0.9, nesterov=True)])
def test_rules_that_work_entry_by_entry(
    wrap: Callable[[ServerRule], ServerRule], optimizer: optax.GradientTransformation
) -> None:
    rule = wrap(optimize(optimizer, is_uniform=True))
    assert locality_of(rule, tree_of(0)) == (Locality.ELEMENTWISE, "")
    assert all(shard.by_run for shard in shards_of(3, rule=rule).each)


def test_combining_may_be_what_looks_at_everything() -> None:
    def combine(part: Any, state: Any, deliveries: Any) -> Any:
        total = weighted_sum(part, state, deliveries)
        norm = optax.tree.norm(total)
        return jax.tree.map(lambda leaf: leaf / norm, total)

    rule = ADAM._replace(combine=combine)
    assert locality_of(rule, tree_of(0))[0] is Locality.GLOBAL
    with pytest.raises(InputError, match="all parameters together"):
        shards_of(2, rule=rule)


# By name


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["top_k"], {}, "rule 'top_k' is unknown .did you mean 'top-k'"),
        (["top-k", "top-k"], {}, "rule 'top-k' is named twice; a run has each once"),
        (["top-k"], {"fracton": 0.1}, r"this run \(top-k\) have no option 'fracton'.*'fraction'"),
        (["top-k"], {"steps": 3}, r"this run \(top-k\) have no option 'steps'"),
        (["top-k"], {"fraction": 2}, "rule top-k: 'fraction' is 2: .*less than or equal to 1"),
        (["local-steps"], {"steps": "many"}, "rule local-steps: 'steps' is 'many': .*integer"),
        ([], {"fraction": 0.1}, r"this run \(none\) have no options"),
    ],
)
def test_refused_in_one_line(names: list[str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        settings_of(names, options)
    assert "\n" not in str(refused.value)


def test_options_go_to_the_rules_that_have_them() -> None:
    found = settings_of(["top-k", "local-steps"], {"steps": 3, "fraction": 0.5})
    assert list(found) == ["top-k", "local-steps"]
    assert found["top-k"].model_dump() == {"fraction": 0.5}
    assert found["local-steps"].model_dump() == {"steps": 3, "outer_rate": None}


class Own(Settings):
    """Of a rule of one's own."""


def test_a_rule_of_one_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distvi.algorithms.registry.RULES", known := dict(RULES))
    register_rule("own", Own)
    register_rule("own", Own)  # again is no harm
    assert known["own"].settings_class is Own
    assert settings_of(["own"]) == {"own": Own()}
    with pytest.raises(InputError, match="rule 'own' exists already; choose another name"):
        register_rule("own", TopKSettings)
