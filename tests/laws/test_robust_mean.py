"""Robust means: where a minority of arbitrary contributions can bring them, and where not."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distvi.algorithms.base import Delivery, ServerRule
from distvi.algorithms.delay_compensation import delay_compensated
from distvi.algorithms.gradient import optimize
from distvi.algorithms.registry import draft_of, settings_of
from distvi.algorithms.robust_mean import (
    clipped,
    comparisons,
    in_order,
    median,
    robust,
    trimmed,
)
from distvi.errors import InputError
from distvi.parameters import Locality, Shards, layout_of, locality_of, make_shards, place
from tests import linear

SHAPE = (5, 3)
ADAM = optimize(optax.adam(0.1), is_uniform=True)
MEANS: dict[str, Any] = {
    "median": median,
    "trimmed": trimmed(0.49),
    "clipped": clipped(None, 3),
    "clipped, one step": clipped(2.0, 1),
}
every_mean = pytest.mark.parametrize("mean", MEANS.values(), ids=list(MEANS))

some = settings(max_examples=30)
seeds, counts = st.integers(0, 2**32 - 1), st.integers(1, 12)


def drawn(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)


def mean_of(mean: Any, values: Sequence[Any] | np.ndarray) -> np.ndarray:
    return np.asarray(mean([jnp.asarray(value) for value in values]), np.float64)


# Order


@pytest.mark.parametrize("count", range(1, 9))
def test_the_network_sorts(count: int) -> None:
    """By the 0-1 principle all rows of zeros and ones will do (Knuth, volume 3, section 5.3.4)."""
    for row in product((0, 1), repeat=count):
        values = list(row)
        for low, high in comparisons(count):
            assert low < high
            values[low], values[high] = sorted((values[low], values[high]))
        assert values == sorted(values)


@pytest.mark.parametrize("count", [9, 13, 31, 100])
def test_the_network_sorts_many(count: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(count, 200)).astype(np.float32)
    np.testing.assert_array_equal(
        np.stack(in_order([jnp.asarray(value) for value in values])), np.sort(values, axis=0)
    )


@some
@given(seeds, counts)
def test_the_median_is_numpy_s(seed: int, count: int) -> None:
    values = drawn(seed, count)
    np.testing.assert_allclose(mean_of(median, values), np.median(values, axis=0), rtol=1e-6)


@some
@given(seeds, counts, st.sampled_from([0.1, 0.25, 0.49]))
def test_the_trimmed_mean_leaves_out_the_share_at_each_side(
    seed: int, count: int, share: float
) -> None:
    values = np.sort(drawn(seed, count).astype(np.float64), axis=0)
    cut = min(int(np.ceil(share * count)), (count - 1) // 2)
    expected = values[cut : count - cut].mean(axis=0)
    np.testing.assert_allclose(mean_of(trimmed(share), values), expected, rtol=1e-5, atol=1e-6)


# What all have in common


@every_mean
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_equal_contributions_are_their_mean(mean: Any, count: int, seed: int) -> None:
    (one,) = drawn(seed, 1)
    np.testing.assert_allclose(mean_of(mean, [one] * count), one, rtol=1e-6)


@every_mean
@some
@given(seed=seeds)
def test_two_contributions_are_averaged(mean: Any, seed: int) -> None:
    values = drawn(seed, 2) * np.float32(0.1)
    np.testing.assert_allclose(mean_of(mean, values), values.mean(axis=0), rtol=1e-4, atol=1e-6)


@every_mean
@some
@given(seed=seeds, count=counts)
def test_the_order_of_contributions_makes_no_difference(mean: Any, seed: int, count: int) -> None:
    values = drawn(seed, count)
    shuffled = np.random.default_rng(seed).permutation(values)
    np.testing.assert_allclose(mean_of(mean, shuffled), mean_of(mean, values), rtol=1e-5, atol=1e-6)


def with_bad(honest: np.ndarray, bad: int, size: float, seed: int) -> np.ndarray:
    """Contributions of which some are arbitrary, at random places."""
    rng = np.random.default_rng(seed)
    wild = rng.choice([-size, size, 0.0], size=(bad, *SHAPE)).astype(np.float32)
    return rng.permutation(np.concatenate([honest, wild]))


sizes = st.sampled_from([1.0, 1e3, 1e18, 1e30, 3e38])


@some
@given(seeds, st.integers(3, 12), sizes)
def test_a_minority_cannot_bring_a_median_beyond_the_honest(
    seed: int, count: int, size: float
) -> None:
    bad = (count - 1) // 2
    honest = drawn(seed, count - bad)
    values = with_bad(honest, bad, size, seed)
    for mean in (median, trimmed(0.49)):
        found = mean_of(mean, values)
        assert (found >= honest.min(axis=0) - 1e-6).all()
        assert (found <= honest.max(axis=0) + 1e-6).all()


@some
@given(seeds, st.integers(3, 12), st.sampled_from([0.1, 0.25, 0.4]), sizes)
def test_a_trimmed_mean_stands_the_share_that_it_trims(
    seed: int, count: int, share: float, size: float
) -> None:
    bad = min(int(share * count), (count - 1) // 2)
    honest = drawn(seed, count - bad)
    found = mean_of(trimmed(share), with_bad(honest, bad, size, seed))
    assert (found >= honest.min(axis=0) - 1e-6).all()
    assert (found <= honest.max(axis=0) + 1e-6).all()


@some
@given(seeds, st.integers(3, 12), sizes, st.sampled_from([0.5, 3.0]), st.integers(1, 4))
def test_one_contribution_s_influence_on_a_clipped_mean_is_bounded(
    seed: int, count: int, size: float, radius: float, iterations: int
) -> None:
    """It pulls the centre by at most radius / n a time, from a median between the honest."""
    values = drawn(seed, count)
    start = np.median(values, axis=0)
    found = mean_of(clipped(radius, iterations), values)
    assert np.linalg.norm(found - start) <= iterations * radius * (1 + 1e-5)
    honest = drawn(seed, count - 1)
    spoilt = with_bad(honest, 1, size, seed)
    moved = mean_of(clipped(radius, iterations), spoilt)
    low, high = honest.min(axis=0), honest.max(axis=0)
    beyond = np.maximum(low - moved, 0) + np.maximum(moved - high, 0)
    assert np.linalg.norm(beyond) <= iterations * radius / count * (1 + 1e-5) + 1e-5


@pytest.mark.parametrize("size", [1e3, 1e18, 1e25, 3e38])
@pytest.mark.parametrize("bad", [1, 2, 3])
def test_none_breaks_down_where_the_mean_does(size: float, bad: int, seed: int) -> None:
    """Of eight, all bad ones at the same side, as far away as float32 goes."""
    honest = drawn(seed, 8 - bad)
    values = np.concatenate([honest, np.full((bad, *SHAPE), size, np.float32)])
    centre, spread = honest.mean(axis=0), np.abs(honest).max()
    for name, mean in MEANS.items():
        assert np.abs(mean_of(mean, values) - centre).max() <= 3 * spread, name
    assert np.abs(values.astype(np.float64).mean(axis=0) - centre).max() > 10 * spread


@pytest.mark.parametrize("name", ["clipped", "trimmed"])
def test_of_honest_contributions_more_is_kept_than_by_the_median(name: str, seed: int) -> None:
    """The median of normal numbers has pi / 2 of the mean's variance; these come between."""
    values = np.random.default_rng(seed).normal(size=(9, 100, 100)).astype(np.float32)
    means = {"trimmed": trimmed(0.25), "clipped": clipped(None, 3)}
    variance = np.square(mean_of(means[name], values)).mean() * 9
    assert 0.99 < variance < 1.4 < np.square(mean_of(median, values)).mean() * 9


# In an update


def tree_of(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    shapes = {"a": (7, 4), "b": (4,), "c": (3, 5), "d": ()}
    return {n: jnp.asarray(rng.normal(size=shape), jnp.float32) for n, shape in shapes.items()}


def deliveries_of(seed: int, count: int, factor: float) -> list[Delivery]:
    return [Delivery(tree_of(seed + n), np.float32(factor)) for n in range(count)]


def combined(rule: ServerRule, deliveries: list[Delivery]) -> Any:
    return rule.combine(tree_of(0), (), deliveries)


@every_mean
def test_a_sum_is_still_a_sum(mean: Any, seed: int) -> None:
    rule = robust(mean)(ADAM)
    average = combined(rule, deliveries_of(seed, 4, 0.25))
    total = combined(rule, deliveries_of(seed, 4, 1.0))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(4 * np.asarray(a), b, rtol=1e-6), average, total
    )
    payload = tree_of(seed)
    same = combined(rule, [Delivery(payload, 1.0)] * 4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, 4 * np.asarray(b), rtol=1e-6), same, payload
    )


def shards_of(rule: ServerRule, servers: int, placement: str = "ranges") -> Shards:
    layout = layout_of(tree_of(0))
    return make_shards(layout, place(placement, layout.sizes, servers), rule)


@pytest.mark.parametrize("placement", ["ranges", "greedy", "round-robin"])
@every_mean
def test_servers_make_no_difference(mean: Any, placement: str, seed: int) -> None:
    rule = robust(mean)(optimize(optax.sgd(1.0), is_uniform=True))
    is_clipped = mean not in (median, MEANS["trimmed"])
    if is_clipped and placement == "ranges":
        with pytest.raises(InputError, match=r"needs whole tensors .* use placement 'greedy'"):
            shards_of(rule, 3)
        return
    one, several = shards_of(rule, 1), shards_of(rule, 3, placement)
    flat = one.layout.flatten(tree_of(seed))
    deliveries = [
        each._replace(payload=one.layout.flatten(each.payload))
        for each in deliveries_of(seed, 5, 0.2)
    ]
    found = []
    for shards in (one, several):
        states = shards.init(flat)
        combined = shards.combine(flat, states, deliveries)
        found.append(shards.update(flat, states, combined, np.float32(1.0))[0])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6, atol=1e-6)


def test_how_far_each_looks() -> None:
    localities = {name: locality_of(robust(m)(ADAM), tree_of(0))[0] for name, m in MEANS.items()}
    assert localities == {
        "median": Locality.ELEMENTWISE,
        "trimmed": Locality.ELEMENTWISE,
        "clipped": Locality.PER_TENSOR,
        "clipped, one step": Locality.PER_TENSOR,
    }


def test_stale_contributions_are_corrected_before_they_are_combined(seed: int) -> None:
    rule = delay_compensated(0.5)(robust(median)(ADAM))
    now = tree_of(seed)
    each = [Delivery(tree_of(seed + n), 1 / 3, tree_of(seed + 9 + n)) for n in range(3)]
    alone = [delay_compensated(0.5)(ADAM).combine(now, (), [e._replace(factor=1.0)]) for e in each]
    found = rule.combine(now, (), each)
    jax.tree.map(
        lambda leaf, *own: np.testing.assert_allclose(leaf, np.median(own, axis=0), rtol=1e-5),
        found,
        *alone,
    )


# By name


def made(options: dict[str, Any], workers: int = 4, names: Sequence[str] = ("robust-mean",)) -> Any:
    return draft_of(settings_of(names, options), linear.draft({"workers": workers})).server


@pytest.mark.parametrize(
    ("options", "mean"),
    [
        ({}, median),
        ({"mean": "median"}, median),
        ({"mean": "trimmed"}, trimmed(0.25)),
        ({"mean": "trimmed", "trim": "0.1"}, trimmed(0.1)),
        ({"mean": "clipped"}, clipped(None, 3)),
        ({"mean": "clipped", "radius": 2, "iterations": 1}, clipped(2.0, 1)),
    ],
)
def test_the_settings_choose(options: dict[str, Any], mean: Callable[..., Any], seed: int) -> None:
    each = deliveries_of(seed, 7, 1 / 7)
    jax.tree.map(
        np.testing.assert_array_equal,
        combined(made(options), each),
        combined(robust(mean)(ADAM), each),
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_two_have_no_majority(workers: int) -> None:
    with pytest.raises(InputError, match=f"at least 3 contributions, .* have {workers}: choose"):
        made({}, workers)


def test_updates_of_one_contribution_are_refused() -> None:
    draft = linear.draft({"workers": 8})._replace(requests_per_update=1 / 8)  # as in async
    with pytest.raises(InputError, match="have 1: choose more workers, or a scheme"):
        draft_of(settings_of(["robust-mean"]), draft)


def test_it_comes_before_what_corrects() -> None:
    made({}, names=["robust-mean", "delay-compensation"])
    with pytest.raises(InputError, match=r"'robust-mean' .* before .* name it first") as refused:
        made({}, names=["delay-compensation", "robust-mean"])
    assert "\n" not in str(refused.value)
