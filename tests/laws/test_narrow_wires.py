"""Payloads in 16 and 8 bits: how far they are off, that nothing is lost for good or overflows."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distvi.algorithms.base import Wire, WorkerRule
from distvi.algorithms.cast import CastSettings, cast, power_of_two
from distvi.algorithms.combine import is_finite
from distvi.algorithms.gradient import gradient
from distvi.algorithms.int8 import Int8Settings, int8, quantized
from distvi.algorithms.narrow import narrowed, narrowed_with_feedback
from distvi.algorithms.registry import draft_of, settings_of
from distvi.algorithms.top_k import sparse, top_k
from distvi.errors import InputError
from tests import linear
from tests.laws.test_algorithms import (
    SIZE,
    contributing,
    flat,
    seeds,
    sent_of,
    shards_of,
    tree_of,
    zeros,
)

EPSILON = float(np.finfo(np.float32).eps)
DTYPES = ["bfloat16", "float16"]
HALF_STEP = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
"""The largest share by which rounding changes a number."""

some = settings(max_examples=25)
dtypes = st.sampled_from(DTYPES)
powers = st.integers(-100, 37)  # of ten: tree_of has numbers about 1, float32 ends at 3.4e38


def scaled(seed: int, power: int) -> Any:
    return jax.tree.map(lambda leaf: leaf * np.float32(10.0**power), tree_of(seed))


def through(wire: Wire, payload: Any) -> np.ndarray:
    """What is received of a payload, in float64."""
    return flat(wire.decode(wire.encode(payload), payload)).astype(np.float64)


def rule_of(name: str, payload: Any) -> WorkerRule:
    """By the name of a rule, always with error feedback."""
    rule = contributing(payload)
    match name:
        case "int8":
            return narrowed_with_feedback("int8", rule, int8(5))
        case "top-k, int8":
            return narrowed_with_feedback("int8", top_k(0.3)(rule), int8(5))
        case "top-k, cast":
            return narrowed("cast", top_k(0.3)(rule), cast("bfloat16"))
        case _:
            return narrowed_with_feedback("cast", rule, cast(name))


EVERY = [*DTYPES, "int8", "top-k, int8", "top-k, cast"]


# Cast


@some
@given(seeds, dtypes, powers)
@example(1, "float16", 37)
@example(1, "float16", -36)
def test_cast_is_off_by_half_a_step_whatever_the_scale(seed: int, name: str, power: int) -> None:
    payload = scaled(seed, power)
    given, got = flat(payload).astype(np.float64), through(cast(name), payload)
    lost = np.abs(given).max() * 2.0**-28  # below the smallest float16 that is not subnormal
    tiny = 2.0 ** (-126 + 15)  # where float32 itself runs out
    assert (np.abs(got - given) <= HALF_STEP[name] * np.abs(given) + lost + tiny).all()


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("largest", [65504.0, 65520.0, 1e6, 3e9, 3e38, 3.4028234e38])
def test_nothing_overflows(name: str, largest: float) -> None:
    """float16 ends at 65504, and no number of bfloat16 is as large as the last of float32."""
    payload = {"a": jnp.asarray([largest, -largest, 1.0, 0.0], jnp.float32)}
    message = cast(name).encode(payload)
    assert np.abs(np.asarray(message["numbers"]["a"], np.float64)).max() <= 2.0**15
    bound = float(np.float32(largest)) * (1 + HALF_STEP[name])
    if bound < float(np.finfo(np.float32).max):
        assert np.isfinite(through(cast(name), payload)).all()


@pytest.mark.parametrize("value", [1e-45, 1e-38, 0.7, 1.0, 1.5, 2.0, 65504.0, 3.4e38])
def test_the_scale_is_a_power_of_two_below_the_largest(value: float) -> None:
    scale = float(power_of_two([jnp.float32(0.0), -jnp.float32(value)]))
    assert np.frexp(scale)[0] == 0.5
    if value > 1e-33:
        assert 2.0**14 <= value / scale < 2.0**15


def test_numbers_of_few_bits_travel_as_they_are() -> None:
    payload = {"a": jnp.arange(-128, 128, dtype=jnp.float32) * 2**20}
    for name in DTYPES:
        np.testing.assert_array_equal(through(cast(name), payload), flat(payload))


def test_what_is_received_is_what_was_sent_in_one_program_too(seed: int) -> None:
    """The compiler may not take the way there and back for nothing."""
    for name in DTYPES:
        wire = cast(name)
        payload = tree_of(seed)

        @jax.jit
        def both(payload: Any, wire: Wire = wire) -> Any:
            message = wire.encode(payload)
            return message["numbers"], message["scale"], wire.decode(message, payload)

        sent, scale, got = both(payload)
        expected = flat(sent).astype(np.float32) * np.float32(scale)
        np.testing.assert_array_equal(flat(got), expected)
        assert not np.array_equal(flat(got), flat(payload))


def test_cast_has_feedback_only_when_asked(seed: int) -> None:
    draft = linear.draft({})
    plain, with_feedback = (
        draft_of({"cast": CastSettings(feedback=wanted)}, draft).worker for wanted in (False, True)
    )
    assert plain.init(tree_of(seed)) == ()
    assert len(jax.tree.leaves(with_feedback.init(tree_of(seed)))) == len(
        jax.tree.leaves(tree_of(seed))
    )


# Eight bits


@some
@given(seeds, st.sampled_from([1, 5, 16, 1024]), powers)
def test_int8_is_off_by_half_a_scale(seed: int, block: int, power: int) -> None:
    payload = scaled(seed, power)
    wire = int8(block)
    for leaf, got in zip(
        jax.tree.leaves(payload),
        jax.tree.leaves(wire.decode(wire.encode(payload), payload)),
        strict=True,
    ):
        _, scales = quantized(leaf, block)
        given, received = (np.asarray(each, np.float64).ravel() for each in (leaf, got))
        of_each = np.repeat(np.asarray(scales, np.float64), block)[: given.size]
        # A quotient of up to 127 is off by its own last digit, and so is what it is multiplied to.
        assert (np.abs(received - given) <= (0.5 + 2 * 127 * EPSILON) * of_each).all()


@some
@given(seeds, st.sampled_from([1, 5, 48, 1024]))
def test_int8_contracts(seed: int, block: int) -> None:
    payload = tree_of(seed)
    given, got = flat(payload).astype(np.float64), through(int8(block), payload)
    factor = min(block, 28) / (4 * 127**2)  # the largest tensor has 28 numbers
    assert np.square(got - given).sum() <= factor * np.square(given).sum() * (1 + 1e-4)


def test_a_large_number_costs_accuracy_in_its_own_block_alone() -> None:
    numbers = np.linspace(-1, 1, 96, dtype=np.float32)
    numbers[3] = 1e6
    got = through(int8(32), {"a": jnp.asarray(numbers)})
    assert np.abs(got[32:] - numbers[32:]).max() <= 0.5 / 127 * 1.001
    assert not got[4:32].any()


def test_zeros_and_the_smallest_numbers_are_no_trouble() -> None:
    for value in (0.0, 1e-45, 1.2e-38, 1e-36):
        got = through(int8(4), {"a": jnp.full(6, value, jnp.float32)})
        assert (np.abs(got - value) <= 1.2e-38).all()


# Both


@some
@given(seeds, st.sampled_from(EVERY), st.sampled_from([1, 3]))
def test_what_was_sent_and_what_is_kept_are_all_there_is(
    seed: int, name: str, servers: int
) -> None:
    payload = tree_of(seed)
    found = sent_of(rule_of(name, payload), ((), tree_of(seed + 1)), servers)
    corrected = flat(jax.tree.map(jnp.add, payload, tree_of(seed + 1)))
    together = flat(jax.tree.map(jnp.add, found.payload, found.memory[1]))
    np.testing.assert_allclose(together, corrected, rtol=2 * EPSILON, atol=2 * EPSILON)
    assert found.messages is not None
    assert len(found.messages) == servers


@pytest.mark.parametrize("name", EVERY)
def test_nothing_is_lost_only_late(name: str, seed: int) -> None:
    payload = jax.tree.map(lambda leaf: leaf + 1e-4, tree_of(seed))
    rule = rule_of(name, payload)
    memory, sent = rule.init(tree_of(0)), zeros()
    for _ in range(30):
        found = sent_of(rule, memory)
        memory, sent = found.memory, jax.tree.map(jnp.add, sent, found.payload)
    total = jax.tree.map(jnp.add, sent, memory[1])
    np.testing.assert_allclose(flat(total), 30 * flat(payload), rtol=1e-4, atol=1e-4)
    if "top-k" not in name:  # what is not in the last one is at most what one message loses
        assert np.abs(flat(memory[1])).max() <= 0.01 * np.abs(flat(payload)).max()


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", EVERY)
def test_a_number_that_is_not_finite_always_travels(bad: float, name: str, seed: int) -> None:
    """So that the answer is refused: the worker looks at the message, the simulator at the rest."""
    payload = tree_of(seed) | {"e": jnp.float32(bad)}
    found = sent_of(rule_of(name, payload), ((), zeros()))
    assert not np.isfinite(flat(found.payload)).all()
    assert not all(is_finite(np.asarray(leaf)) for leaf in jax.tree.leaves(found.messages))


@pytest.mark.parametrize("placement", ["ranges", "greedy"])
def test_the_bytes_that_travel(placement: str) -> None:
    shards = shards_of(3, placement)
    runs = [len(jax.tree.leaves(part)) for part in shards.messages_like(None)]
    sizes = shards.placement.sizes
    assert shards.pushed_bytes(cast("float16")) == tuple(2 * size + 4 for size in sizes)
    assert shards.pushed_bytes(int8(1024)) == tuple(
        size + 4 * count for size, count in zip(sizes, runs, strict=True)
    )
    entries = [max(1, round(0.3 * size)) for size in sizes]
    both = narrowed("cast", top_k(0.3)(contributing(zeros())), cast("bfloat16")).wire
    assert both is not None
    assert shards.pushed_bytes(both) == tuple(6 * count + 4 for count in entries)
    large = jax.eval_shape(int8(1024).encode, jax.ShapeDtypeStruct((10**6,), jnp.float32))
    nbytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(large))
    assert nbytes == 10**6 + 4 * 977


def test_the_largest_entries_in_fewer_bits(seed: int) -> None:
    payload = tree_of(seed)
    for name in ("top-k, int8", "top-k, cast"):
        wire = rule_of(name, payload).wire
        assert wire is not None
        got, chosen = through(wire, payload), through(sparse(0.3), payload)
        assert np.count_nonzero(got) <= np.count_nonzero(chosen) == round(0.3 * SIZE)
        np.testing.assert_allclose(got, chosen, atol=np.abs(chosen).max() / 127)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cast", "int8"], "rule 'int8' sends numbers in fewer bits, and so does"),
        (["int8", "cast"], "rule 'cast' sends numbers in fewer bits, and so does"),
        (["int8", "top-k"], r"'top-k' .* before .* 'cast' and 'int8'; name it first"),
        (["cast", "local-steps"], r"'local-steps' .* before .*; name it first"),
    ],
)
def test_what_cannot_be_wrapped_is_refused_in_one_line(names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        draft_of(settings_of(names), linear.draft({}))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cast", {"wire_dtype": "float8"}, "wire_dtype' is 'float8': .*'bfloat16' or 'float16'"),
        ("int8", {"block": 0}, "'block' is 0: .*greater than or equal to 1"),
        ("int8", {"block": 10**6}, "'block' is 1000000: .*less than or equal to 32768"),
    ],
)
def test_options_out_of_range(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings_of([name], options)


def test_by_name() -> None:
    options = {"wire-dtype": "float16", "feedback": "true", "block": "64"}
    found = settings_of(["cast", "int8"], options)
    assert found["cast"] == CastSettings(wire_dtype="float16", feedback=True)
    assert found["int8"] == Int8Settings(block=64)
    assert gradient(linear.loss).wire is None
