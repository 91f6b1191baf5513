"""Optimizers by name, schedules, and parameters that are held at first."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distvi.algorithms.freeze import freeze, freezes
from distvi.errors import InputError
from distvi.training import optimizers

PARAMS = {"held": jnp.ones(2), "free": jnp.ones(2)}

ROUNDING = 4 * float(np.finfo(np.float32).eps)  # of numbers up to 2


def run(optimizer: optax.GradientTransformation, updates: int) -> list[dict[str, jax.Array]]:
    params, state, course = PARAMS, optimizer.init(PARAMS), []
    step = jax.jit(optimizer.update)
    for _ in range(updates):
        moves, state = step(params, state, params)  # the gradient of half the squared norm
        params = optax.apply_updates(params, moves)
        course.append(params)
    return course  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize(
    "name", ["adam", "adamw", "nadam", "nadamw", "sgd", "noisy_sgd", "lamb", "muon", "lion"]
)
def test_by_name(name: str) -> None:
    course = run(optimizers.build(name, 0.1), 2)
    assert all(jnp.isfinite(p).all() for p in course[-1].values())


def test_is_the_optimizer_of_optax() -> None:
    ours = run(optimizers.build("adam", 0.1, {"b1": 0.5}), 3)[-1]
    theirs = run(optax.adam(0.1, b1=0.5), 3)[-1]
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize(
    "make",
    [
        lambda: optimizers.build("noisy_sgd", 0.1, seed=4),
        lambda: optimizers.made(optax.noisy_sgd, 0.1, {"key": 4}),
    ],
)
def test_noise_needs_no_typed_key_in_the_state(make: Callable[[], Any]) -> None:
    optimizer = make()
    leaves = jax.tree.leaves(optimizer.init(PARAMS))
    assert {leaf.dtype.name for leaf in leaves} == {"int32", "uint32"}
    jax.tree.map(
        np.testing.assert_array_equal,
        run(optimizer, 3)[-1],
        run(optax.noisy_sgd(0.1, key=4), 3)[-1],
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adm", {}, "unknown optimizer 'adm' .did you mean 'adam'"),
        ("scale_by_adam", {}, "unknown optimizer"),
        ("adam", {"b3": 1}, "no option 'b3'"),
        ("adam", {"b1": "big"}, "cannot be used with"),
        ("lbfgs", {}, "a line search or a step size, which no engine gives"),
        ("polyak_sgd", {}, "'polyak_sgd' needs values of the loss besides gradients"),
    ],
)
def test_refused(name: str, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        optimizers.build(name, 0.1, options)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_a_held_parameter_does_not_move_and_the_others_do_not_notice(name: str) -> None:
    plain = optimizers.build(name, 0.1)
    held = run(freeze(plain, {"held": 3, "free": 0}), 5)
    free = run(plain, 5)
    for update, params in enumerate(held):
        np.testing.assert_array_equal(params["free"], free[update]["free"])
        moved = bool((params["held"] != 1).all())
        assert moved == (update >= 3)


def test_adam_moves_a_freed_parameter_by_the_learning_rate() -> None:
    held = run(freeze(optax.adam(1e-3), {"held": 50, "free": 0}), 51)
    np.testing.assert_allclose(held[-1]["held"], 1 - 1e-3, rtol=1e-5)


def test_no_hold_is_no_wrapper() -> None:
    adam = optax.adam(0.1)
    assert freeze(adam, None) is adam
    assert freeze(adam, {"held": 0, "free": 0}) is adam
    assert not freezes(None)
    assert freezes({"held": 1, "free": 0})


def test_schedules() -> None:
    def rates(kind: str, **options: float) -> list[float]:
        schedule = optimizers.schedule(kind, 2.0, 8, **options)  # pyright: ignore[reportArgumentType]
        return [float(np.asarray(schedule(update))) for update in range(8)]

    assert rates("constant") == [2.0] * 8
    np.testing.assert_allclose(rates("constant", warmup_updates=4)[:5], [0.5, 1, 1.5, 2, 2])
    cosine = 2 * 0.5 * (1 + np.cos(np.pi * np.arange(8) / 8))
    np.testing.assert_allclose(rates("cosine"), cosine, atol=ROUNDING)
    after = rates("cosine", warmup_updates=4, final=0.5)[4:]
    half = 1 + 0.5 * (1 + np.cos(np.pi * np.arange(4) / 4))
    np.testing.assert_allclose(after, half, atol=ROUNDING)


def test_further_rates_follow_the_schedule() -> None:
    shape = optimizers.schedule("cosine", 1.0, 4)
    options = optimizers.scheduled({"adam_learning_rate": 0.5, "adam_b1": 0.0}, shape)
    muon = optimizers.build("muon", optimizers.schedule("cosine", 0.1, 4), options)
    params = {"matrix": jnp.ones((3, 2)), "vector": jnp.ones(2)}
    state, moves = muon.init(params), []
    for _ in range(4):
        move, state = muon.update(params, state, params)
        moves.append(jax.tree.map(lambda leaf: float(jnp.abs(leaf).max()), move))
    for update, move in enumerate(moves):
        share = 0.5 * (1 + np.cos(np.pi * update / 4))
        assert move["matrix"] / moves[0]["matrix"] == pytest.approx(share, rel=1e-5)
        assert move["vector"] / moves[0]["vector"] == pytest.approx(share, rel=1e-2)
    assert moves[0]["vector"] == pytest.approx(0.5, rel=1e-2)  # of Adam's first update
    assert options["adam_b1"] == 0.0


def test_a_warmup_must_fit() -> None:
    with pytest.raises(InputError, match="warm-up of 8 updates does not fit a run of 8"):
        optimizers.schedule("cosine", 1.0, 8, warmup_updates=8)
