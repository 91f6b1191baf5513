"""What every engine promises, on a linear-Gaussian problem that needs no model of the package."""

import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distvi.data import Examples, batch_indices
from distvi.engines import Diverged, Engine, Problem, TrainState
from distvi.engines.mesh import blocks
from distvi.engines.mesh import engine as mesh
from distvi.engines.mesh.blocks import UPDATES_PER_BLOCK
from distvi.engines.mesh.engine import MeshEngine, devices, make_step
from distvi.errors import InputError

N, BATCH, LAST = 50, 8, 2 * UPDATES_PER_BLOCK + 7
BATCH_BYTES = BATCH * 4 * (3 + 1)

MakeEngine = Callable[..., Engine]


@pytest.fixture(params=["streamed", "resident", "short blocks, slow pace"])
def make_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MakeEngine:
    if request.param not in ("streamed", "resident"):
        monkeypatch.setattr(blocks, "BLOCK_BYTES", 7 * BATCH_BYTES)
        monkeypatch.setattr(mesh, "CALL_S", 0.0)

    def make(problem: Problem, **options: Any) -> Engine:
        settings = {"params": start(), "last": LAST, "resident": request.param == "resident"}
        return MeshEngine(problem, on=devices(None)[:1], **(settings | options))

    return make


def start() -> dict[str, jax.Array]:
    return {"w": jnp.zeros(3), "log_sd": jnp.zeros(())}


def noisy_loss(params, x, y, index, key):
    noise = jax.random.uniform(key, index.shape) - 0.5
    f = x @ params["w"] + jnp.exp(params["log_sd"]) * noise
    return N * ((y[:, 0] - f) ** 2).mean() - params["log_sd"]


@pytest.fixture
def problem(seed: int) -> Problem:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, 3)).astype(np.float32)
    y = (x @ np.array([1.0, -2.0, 0.5], np.float32))[:, None]
    return Problem(
        loss=noisy_loss,
        optimizer=optax.sgd(1e-3, momentum=0.9),
        examples=Examples(x, y),
        indices=lambda position, count: batch_indices(3, N, position, count),
        batch_size=BATCH,
        key=jax.random.key(seed),
    )


def params_of(engine: Engine) -> dict[str, np.ndarray]:
    return jax.tree.map(np.array, engine.state.params)


def test_state_is_a_function_of_the_update_alone(make_engine: MakeEngine, problem: Problem) -> None:
    with make_engine(problem) as whole, make_engine(problem) as parts:
        values = whole.advance(LAST)
        pieces = [parts.advance(until) for until in (1, 2, 9, UPDATES_PER_BLOCK + 9, LAST)]
        np.testing.assert_array_equal(np.concatenate(pieces), values)
        jax.tree.map(np.testing.assert_array_equal, params_of(parts), params_of(whole))
    assert whole.update == parts.update == LAST == len(values)


def test_the_length_of_blocks_and_calls_makes_no_difference(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for updates, call_s in ((64, 9.0), (64, 0.0), (7, 9.0), (1, 0.0)):
        monkeypatch.setattr(blocks, "BLOCK_BYTES", updates * BATCH_BYTES)
        monkeypatch.setattr(mesh, "CALL_S", call_s)
        with MeshEngine(problem, start(), devices(None)[:1], last=LAST) as engine:
            found.append((engine.advance(LAST), params_of(engine)))
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, other, found[0])


def test_no_update_comes_after_the_last(make_engine: MakeEngine, problem: Problem) -> None:
    with make_engine(problem) as engine, pytest.raises(ValueError, match=f"in a run of {LAST}"):
        engine.advance(LAST + 1)


def test_is_the_plain_loop(make_engine: MakeEngine, problem: Problem) -> None:
    step = jax.jit(make_step(problem))
    plain = TrainState(start(), problem.optimizer.init(start()))
    expected = []
    for update in range(20):
        index = problem.indices(update * BATCH, BATCH)
        x, y = problem.examples.take(index)
        plain, value = step(plain, problem.key, jnp.uint32(update), x, y, index)
        expected.append(value)
    with make_engine(problem) as engine:
        values = engine.advance(20)
        np.testing.assert_allclose(values, expected, rtol=1e-5)
        got = params_of(engine)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), got, dict(plain.params))


@pytest.mark.parametrize("at", [17, UPDATES_PER_BLOCK])
def test_goes_on_from_a_state_bit_for_bit(
    make_engine: MakeEngine, problem: Problem, at: int
) -> None:
    with make_engine(problem) as whole:
        whole.advance(at)
        state = jax.tree.map(np.array, whole.state)
        whole.advance(LAST)
        expected = params_of(whole)
    params, opt_state = jax.tree.map(jnp.asarray, state)
    with make_engine(problem, params=params, opt_state=opt_state, update=at) as resumed:
        resumed.advance(LAST)
        jax.tree.map(np.testing.assert_array_equal, params_of(resumed), expected)


@pytest.mark.parametrize("bad", [0, 5, UPDATES_PER_BLOCK + 3])
def test_stops_at_the_update_whose_elbo_is_not_finite(
    make_engine: MakeEngine, problem: Problem, bad: int
) -> None:
    bad_batch = jnp.asarray(problem.indices(bad * BATCH, BATCH))

    def loss(params, x, y, index, key):
        is_bad = (index == bad_batch).all()
        return jnp.where(is_bad, jnp.nan, noisy_loss(params, x, y, index, key))

    with (
        make_engine(problem._replace(loss=loss)) as engine,
        pytest.raises(Diverged, match=f"nan at update {bad + 1}$"),
    ):
        engine.advance(LAST)


def test_stops_between_updates_when_asked(make_engine: MakeEngine, problem: Problem) -> None:
    asked = iter([False] * 3 + [True] * 1000)
    with make_engine(problem) as engine:
        values = engine.advance(LAST, lambda: next(asked))
        assert 0 < len(values) == engine.update < LAST
        rest = engine.advance(LAST)
        assert len(values) + len(rest) == LAST
    with make_engine(problem) as whole:
        np.testing.assert_array_equal(np.concatenate([values, rest]), whole.advance(LAST))


def test_does_not_use_up_the_parameters_it_was_given(
    make_engine: MakeEngine, problem: Problem
) -> None:
    with make_engine(problem) as engine:
        params = engine.state.params
        again = make_engine(problem, params=params)
        engine.advance(3)
    np.testing.assert_array_equal(again.state.params["w"], np.zeros(3))


def test_an_error_of_the_data_surfaces_and_the_thread_ends(problem: Problem) -> None:
    class Failing(Examples):
        def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            if threading.current_thread() is not threading.main_thread():
                raise OSError("the disk is gone")
            return super().take(indices)

    examples = Failing(problem.examples.x, problem.examples.y)
    on = devices(None)[:1]
    before = threading.active_count()
    with (
        MeshEngine(problem._replace(examples=examples), start(), on, last=9) as engine,
        pytest.raises(OSError, match="the disk is gone"),
    ):
        engine.advance(9)
    assert threading.active_count() == before


def test_leaving_early_ends_the_thread(problem: Problem) -> None:
    before = threading.active_count()
    with MeshEngine(problem, start(), devices(None)[:1], last=10**9) as engine:
        engine.advance(2)
        assert threading.active_count() > before
    assert threading.active_count() == before


def test_a_batch_must_divide_among_the_devices(problem: Problem) -> None:
    on = devices(None)[:1] * 3
    with pytest.raises(InputError, match="choose a multiple of 3"):
        MeshEngine(problem, start(), on, last=9)


def test_more_workers_than_devices_are_refused() -> None:
    with pytest.raises(InputError, match=r"workers is 4096, but JAX has \d+ device"):
        devices(4096)
