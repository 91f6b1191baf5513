"""What every engine promises, on a linear-Gaussian problem that needs no model of the package."""

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distvi.aggregation import sync
from distvi.algorithms.base import Delivery
from distvi.data import Examples
from distvi.engines.base import Diverged, Engine, Halted, Start, read_batches
from distvi.engines.mesh.blocks import UPDATES_PER_BLOCK
from distvi.engines.mesh.devices import devices
from distvi.engines.mesh.engine import MeshEngine
from distvi.errors import InputError
from tests import linear

pytestmark = pytest.mark.filterwarnings("ignore:os.fork")  # of Ray, as it starts its processes

BATCH = 8
BATCH_BYTES = BATCH * 4 * (3 + 2)
LAST = 2 * UPDATES_PER_BLOCK + 7

RULES: dict[str, dict[str, Any]] = {
    "gradient": {},
    "local steps": {"local-steps": {"steps": 3}},
    "diloco": {"diloco": {"steps": 3}},
    "easgd": {"easgd": {"steps": 2}},
    "top-k": {"top-k": {"fraction": 0.3}},
    "float16": {"cast": {"wire_dtype": "float16"}},
    "bfloat16 with feedback": {"cast": {"feedback": True}},
    "int8": {"int8": {"block": 4}},
    "top-k, int8": {"top-k": {"fraction": 0.3}, "int8": {}},
    "median": {"robust-mean": {}},
    "clipped": {"robust-mean": {"mean": "clipped"}},
    "delay compensation": {"delay-compensation": {"strength": 1e-3}},
    "rules with states": {
        "delay-compensation": {"curvature": "adam", "strength": 1e-3},
        "gap-aware": {},
        "step-limit": {"limit": 1.5},
    },
    "all": {
        "local-steps": {"steps": 2},
        "top-k": {"fraction": 0.3},
        "delay-compensation": {"strength": 1e-3},
    },
}
WITH_MEMORY = (
    *("local steps", "diloco", "easgd", "top-k", "bfloat16 with feedback", "int8"),
    *("top-k, int8", "all"),
)
OF_SEVERAL = ("median", "clipped")  # they need three workers, and whole tensors on servers
OF_ANY = tuple(name for name in RULES if name not in OF_SEVERAL)


class Kind(NamedTuple):
    """An engine as this suite makes it, in lockstep.

    Attributes:
        make: ``make(settings, start=...)``.
        workers: How many gradients are in an update.
        updates: Of a run here.
        cuts: Where one is cut, or a checkpoint is.
        ends: How it ends where nothing is finite.
        resumed: Rules with which it is resumed.
        rules: Rules that it is tried with.
        devices: That compute a gradient together, each of a slice of the batch.
    """

    make: Callable[..., Engine]
    workers: int
    updates: int
    cuts: tuple[int, ...]
    ends: tuple[type[Exception], str]
    resumed: tuple[str, ...] = ("gradient", "rules with states", *WITH_MEMORY)
    rules: tuple[str, ...] = OF_ANY
    devices: int = 1


HALTED = (Halted, r"\d0 unusable gradients in a row")
DIVERGED = (Diverged, "nan at update 1$")
ON_MESH = (1, LAST, (17, UPDATES_PER_BLOCK), DIVERGED)
FEWER: dict[str, Any] = {"resumed": ("gradient", "all"), "rules": ("gradient", "all")}

KINDS: dict[str, Kind] = {
    "mesh": Kind(linear.mesh, *ON_MESH),
    "mesh, resident": Kind(partial(linear.mesh, resident=True), *ON_MESH, **FEWER),
    "mesh, short blocks, slow pace": Kind(
        partial(linear.mesh, call_s=0.0, block_bytes=7 * BATCH_BYTES), *ON_MESH, **FEWER
    ),
    "mesh on hosts": Kind(
        linear.hosts, 1, 12, (5,), DIVERGED, resumed=("all",), rules=("all",), devices=2
    ),
    "simulated": Kind(
        partial(linear.simulated, scheme=sync(), workers=3, servers=2), 3, 30, (17,), HALTED
    ),
    "simulated, whole tensors": Kind(
        partial(linear.simulated, scheme=sync(), workers=3, servers=2, placement="greedy"),
        3, 30, (17,), HALTED, resumed=("all", *OF_SEVERAL), rules=("all", *OF_SEVERAL),
    ),
    "played": Kind(
        partial(linear.played, scheme=sync(), workers=2, servers=2), 2, 12, (5,), HALTED
    ),
    "local": Kind(
        partial(linear.local, scheme=sync(), workers=2, servers=2), 2, 12, (5,), HALTED,
        resumed=("gradient", "rules with states", "diloco", "easgd", "top-k, int8"),
    ),
    "ray": Kind(
        partial(linear.ray, scheme=sync(), workers=2, servers=2, replicas=0), 2, 12, (5,), HALTED,
        resumed=("gradient", "diloco"), rules=("gradient", "all"),
    ),
}  # fmt: skip
"""The engines: another one is a line here."""


GROUPS = {"ray": "ray"}  # one instance at a time
CACHED = ("mesh on hosts", "local")  # their processes have compiled programs in common


def params_for(rules: Callable[[Kind], tuple[str, ...]] | None = None) -> list[Any]:
    """Names of the engines; with some of their rules."""
    return [
        pytest.param(*own, marks=pytest.mark.xdist_group(GROUPS.get(name, f"contracts of {name}")))
        for name, kind in KINDS.items()
        for own in ([(name,)] if rules is None else [(name, each) for each in rules(kind)])
    ]


every_resumed = pytest.mark.parametrize(
    ("kind", "rules"), params_for(lambda kind: kind.resumed), indirect=["kind"]
)
every_rule = pytest.mark.parametrize(
    ("kind", "rules"), params_for(lambda kind: kind.rules), indirect=["kind"]
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of compiled programs, for engines with processes."""
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def ray_instance() -> Iterator[None]:
    """On loopback, for all engines of the kind."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # before it is loaded
    from distvi.engines.ray.launcher import Launcher

    with Launcher("local", cores=4):
        yield


@pytest.fixture(params=params_for())
def kind(request: pytest.FixtureRequest, cache: Path) -> Kind:
    found = KINDS[request.param]
    if request.param == "ray":
        pytest.importorskip("ray", reason="the extra distvi[ray] is not installed")
        request.getfixturevalue("ray_instance")
    if request.param in CACHED:
        return found._replace(make=partial(found.make, cache=cache))
    return found


@pytest.fixture
def settings(seed: int, kind: Kind) -> dict[str, Any]:
    told = {"workers": kind.workers, "updates": kind.updates}
    return {"seed": seed, "batch_size": BATCH, "rate": 1e-3} | told


def params_of(engine: Engine) -> dict[str, np.ndarray]:
    return jax.tree.map(np.array, engine.state.params)


def assert_identical(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def is_finite(tree: Any) -> bool:
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


def test_state_is_a_function_of_the_update_alone(kind: Kind, settings) -> None:
    with kind.make(settings) as whole, kind.make(settings) as parts:
        assert isinstance(whole, Engine)
        assert whole.deterministic
        values = whole.advance(kind.updates)
        pieces = [parts.advance(until) for until in (0, 1, 2, *kind.cuts, kind.updates)]
        np.testing.assert_array_equal(np.concatenate(pieces), values)
        assert_identical(params_of(parts), params_of(whole))
    assert whole.update == parts.update == kind.updates == len(values)


def test_is_the_plain_loop(kind: Kind, settings) -> None:
    updates = min(kind.updates, 20)
    problem, algorithm = linear.made(
        settings | {"batch_size": kind.workers * BATCH}, sync()
    )  # n workers in lockstep are one with n times the batch

    @jax.jit
    def step(params, state, memory, batches):
        payload, memory, value = algorithm.worker.work(params, memory, batches, problem.key)
        params, state = algorithm.server.apply(params, state, [Delivery(payload)], 1.0)
        return params, state, memory, value

    params, expected = linear.start(), []
    state, memory = algorithm.server.init(params), algorithm.worker.init(params)
    for update in range(updates):
        batches = jax.tree.map(jnp.asarray, read_batches(problem, update, 1))
        params, state, memory, value = step(params, state, memory, batches)
        expected.append(value)
    with kind.make(settings) as engine:
        values = engine.advance(updates)
        np.testing.assert_allclose(values, expected, rtol=1e-5)
        got = params_of(engine)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), got, params)


@every_resumed
def test_goes_on_from_a_state_bit_for_bit(kind: Kind, settings, rules: str) -> None:
    settings = settings | {"rules": RULES[rules]}
    starts: list[Start] = []
    with kind.make(settings) as whole:
        for at in kind.cuts:
            whole.advance(at)
            starts.append(linear.from_state(whole))
        whole.advance(kind.updates)
        expected, measured = jax.tree.map(np.array, whole.state), whole.statistics
    for start in starts:
        with kind.make(settings, start=start) as resumed:
            assert resumed.update == start.update
            assert_identical(resumed.state.params, start.params())
            resumed.advance(kind.updates)
            assert_identical(jax.tree.map(np.array, resumed.state), expected)
            assert resumed.examples == whole.examples
            for name in ("gradients_used", "staleness", "examples"):
                assert resumed.statistics[name] == measured[name]


@every_rule
def test_every_rule_gives_finite_parameters_and_counts_add_up(
    kind: Kind, settings, rules: str
) -> None:
    settings, start = settings | {"rules": RULES[rules]}, linear.start()
    rule = linear.made(settings, sync(), 3)[1].worker  # robust means need three
    updates = min(kind.updates, 10)
    with kind.make(settings) as engine:
        values = engine.advance(updates)
        params, state, memories = jax.tree.map(np.array, engine.state)
        shown = engine.statistics
    assert np.isfinite(values).all()
    assert is_finite((params, state, memories))
    assert not np.array_equal(params["w"], start["w"])
    assert engine.examples == shown["examples"] == updates * kind.workers * BATCH * rule.batches
    assert shown["gradients_used"] == updates * kind.workers * kind.devices
    assert sum(shown["staleness"]["histogram"].values()) == shown["gradients_used"]
    if rules not in WITH_MEMORY:
        assert memories == ()
        return
    assert len(memories) == kind.workers
    like = jax.eval_shape(rule.init, start)
    for memory in memories:
        assert jax.tree.structure(memory) == jax.tree.structure(like)
        assert any(leaf.any() for leaf in jax.tree.leaves(memory))


def test_ends_as_its_kind_says_where_nothing_is_finite(kind: Kind, settings) -> None:
    failure, message = kind.ends
    with kind.make(settings | {"poison": 1}) as engine, pytest.raises(failure, match=message):
        engine.advance(kind.updates)
    if failure is Halted:
        assert engine.update == 0
        assert_identical(params_of(engine), jax.tree.map(np.array, linear.start()))


def test_stops_between_updates_when_asked(kind: Kind, settings) -> None:
    def after(updates: int) -> Iterator[bool]:
        while engine.update < updates:
            yield False
        while True:
            yield True

    with kind.make(settings) as engine:
        asked = after(3)
        values = engine.advance(kind.updates, lambda: next(asked))
        assert 0 < len(values) == engine.update < kind.updates
        rest = engine.advance(kind.updates)
        assert len(values) + len(rest) == kind.updates
    with kind.make(settings) as whole:
        expected = whole.advance(kind.updates)
    np.testing.assert_array_equal(np.concatenate([values, rest]), expected)


def test_does_not_use_up_what_it_was_given(kind: Kind, settings) -> None:
    with kind.make(settings) as engine:
        engine.advance(1)
        start = linear.from_state(engine)
        params, state = start.params(), jax.tree.map(jnp.array, start.state)
        with kind.make(settings, start=start._replace(params=lambda: params, state=state)) as again:
            again.advance(3)
        assert_identical(jax.tree.map(np.array, (params, state)), (start.params(), start.state))


# Of the mesh alone


@pytest.fixture
def on_mesh(seed: int) -> dict[str, Any]:
    return {"seed": seed, "batch_size": BATCH, "updates": LAST, "rate": 1e-3}


def test_the_length_of_blocks_and_calls_makes_no_difference(on_mesh) -> None:
    found = []
    for updates, call_s in ((64, 9.0), (64, 0.0), (7, 9.0), (1, 0.0)):
        lengths = {"call_s": call_s, "block_bytes": updates * BATCH_BYTES}
        with linear.mesh(on_mesh, **lengths) as engine:
            found.append((engine.advance(LAST), params_of(engine)))
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, other, found[0])


def test_no_update_comes_after_the_last(on_mesh) -> None:
    with linear.mesh(on_mesh) as engine, pytest.raises(ValueError, match=f"in a run of {LAST}"):
        engine.advance(LAST + 1)


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("bad", [0, 5, UPDATES_PER_BLOCK + 3])
def test_stops_at_the_update_whose_elbo_is_not_finite(on_mesh, resident: bool, bad: int) -> None:
    problem, _ = linear.made(on_mesh, sync())
    poisoned = on_mesh | {"bad_batch": problem.indices(bad * BATCH, BATCH).tolist()}
    with (
        linear.mesh(poisoned, resident=resident) as engine,
        pytest.raises(Diverged, match=f"nan at update {bad + 1}$"),
    ):
        engine.advance(LAST)


class Failing(Examples):
    """A training set on a disk that goes."""

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if threading.current_thread() is not threading.main_thread():
            raise OSError("the disk is gone")
        return super().take(indices)


def test_an_error_of_the_data_surfaces_and_the_thread_ends(on_mesh) -> None:
    problem, algorithm = linear.made(on_mesh, sync())
    examples = Failing(problem.examples.x, problem.examples.y)
    failing, on = problem._replace(examples=examples), devices(None)[:1]
    before = threading.active_count()
    with (
        MeshEngine(failing, algorithm, linear.BEGIN, on, resident=False) as engine,
        pytest.raises(OSError, match="the disk is gone"),
    ):
        engine.advance(9)
    assert threading.active_count() == before


def test_leaving_early_ends_the_thread(on_mesh) -> None:
    before = threading.active_count()
    with linear.mesh(on_mesh | {"updates": 10**9}) as engine:
        engine.advance(2)
        assert threading.active_count() > before
    assert threading.active_count() == before


def test_a_batch_must_divide_among_the_devices(on_mesh) -> None:
    with pytest.raises(InputError, match="choose a multiple of 3"):
        linear.mesh(on_mesh, on=3)


def test_more_workers_than_devices_are_refused() -> None:
    with pytest.raises(InputError, match=r"workers is 4096, but JAX has \d+ device"):
        devices(4096)
