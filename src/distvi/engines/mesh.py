"""Synchronous training over the JAX devices of one process.

The batch is cut among the devices and the parameters are on all of them; the compiler adds the
all-reduce of the gradients. With one device this is plain training. Two feeds give an update its
batch: `Streamed` prepares batches in a background thread, one update a call; `Resident` holds the
training set in the devices' memory and makes many updates a call.
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from distvi.engines.base import Diverged, Params, Problem, TrainState
from distvi.engines.memory import keep_freed_memory
from distvi.engines.prefetch import Prefetch
from distvi.errors import InputError

Devices = list[Any]
"""Of `jax.Device`, which type checkers take for a variable."""

UPDATES_IN_FLIGHT = 4  # dispatched ahead of the ELBO that is read back
UPDATES_PER_CALL = 64  # of the resident feed


class Layout(NamedTuple):
    """Where arrays lie: on every device, or cut among them along the batch."""

    whole: NamedSharding
    by_example: NamedSharding
    indices: NamedSharding  # (updates, batch)


def devices(workers: int | None) -> Devices:
    """The devices to train on.

    Asked for more than one device on a machine that has CPUs alone, JAX is told to show the CPU
    as that many devices; this is possible only before its first computation.

    Raises:
        InputError: there are not that many.
    """
    if workers is not None and workers > 1:
        # Refused where JAX has begun to compute: then the devices are settled.
        with suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", workers)
    found = jax.devices()
    if workers is not None and workers > len(found):
        raise InputError(
            f"workers is {workers}, but JAX has {len(found)} device(s) of kind "
            f"{found[0].platform}; ask for at most {len(found)}"
        )
    return found[:workers]


def layout(on: Devices) -> Layout:
    """Placements on a row of devices."""
    mesh = Mesh(np.array(on), ("batch",), axis_types=(AxisType.Auto,))
    return Layout(
        whole=NamedSharding(mesh, PartitionSpec()),
        by_example=NamedSharding(mesh, PartitionSpec("batch")),
        indices=NamedSharding(mesh, PartitionSpec(None, "batch")),
    )


Step = Callable[[TrainState, Array, Array, Array, Array, Array], tuple[TrainState, Array]]


def make_step(problem: Problem) -> Step:
    """``step(state, key, update, x, y, index) -> (state, neg_elbo)``: one update.

    Where the ELBO is not finite the parameters stay as they are. So no parameter is overwritten
    before the ELBO is known, and XLA need not copy those it still has to read by then.
    """
    optimizer = problem.held_optimizer

    def step(
        state: TrainState, key: Array, update: Array, x: Array, y: Array, index: Array
    ) -> tuple[TrainState, Array]:
        noise_key = jax.random.fold_in(key, update)
        value, gradients = jax.value_and_grad(problem.loss)(state.params, x, y, index, noise_key)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        finite = jnp.isfinite(value)
        moved = optax.apply_updates(state.params, updates)
        params = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, state.params)
        return TrainState(params, opt_state), value

    return step


@runtime_checkable
class Feed(Protocol):
    """Gives updates their batches."""

    compile_time_s: float
    waiting_s: float

    def __enter__(self) -> "Feed": ...

    def __exit__(self, *exception: object) -> None: ...

    def advance(
        self, state: TrainState, first: int, until: int, interrupted: Callable[[], bool]
    ) -> tuple[TrainState, list[Float[np.ndarray, " updates"]]]: ...


class Streamed:
    """One update a call; batches come from the host, prepared ahead of their update."""

    def __init__(
        self, problem: Problem, places: Layout, state: TrainState, first: int, last: int
    ) -> None:
        self._problem, self._places, self._range = problem, places, (first, last)
        self._key = jax.device_put(problem.key, places.whole)
        self.waiting_s = 0.0
        # The call itself places the batch: that takes half the time of `device_put`.
        step = jax.jit(
            make_step(problem),
            donate_argnums=0,
            in_shardings=(places.whole,) * 3 + (places.by_example,) * 3,
            out_shardings=(places.whole, places.whole),
        )
        arguments = (state, self._key, np.uint32(0), *self._batch(first))
        self._step, self.compile_time_s = _compile(step, arguments)

    def __enter__(self) -> "Streamed":
        self._stack = ExitStack()
        self._batches = self._stack.enter_context(Prefetch(self._batch, *self._range))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def advance(
        self, state: TrainState, first: int, until: int, interrupted: Callable[[], bool]
    ) -> tuple[TrainState, list[Float[np.ndarray, " updates"]]]:
        """Updates ``first`` to ``until - 1``; see `MeshEngine.advance`."""
        pending: deque[Array] = deque()
        values: list[np.ndarray] = []
        for update in range(first, until):
            if interrupted():
                break
            before = time.perf_counter()
            batch = next(self._batches)
            self.waiting_s += time.perf_counter() - before
            state, value = self._step(state, self._key, np.uint32(update), *batch)
            pending.append(value)
            if len(pending) > UPDATES_IN_FLIGHT:
                values.append(_finite(pending.popleft(), first + len(values)))
        while pending:
            values.append(_finite(pending.popleft(), first + len(values)))
        return state, values

    def _batch(self, update: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        size = self._problem.batch_size
        index = self._problem.indices(update * size, size)
        x, y = self._problem.examples.take(index)
        return x, y, index.astype(np.uint32)


class Resident:
    """Many updates a call; the training set lies in the memory of every device."""

    def __init__(self, problem: Problem, places: Layout, state: TrainState) -> None:
        self._problem, self._places = problem, places
        self._key = jax.device_put(problem.key, places.whole)
        self.waiting_s = 0.0
        x, y = np.asarray(problem.examples.x), np.asarray(problem.examples.y)
        self._data = jax.device_put((x, y), places.whole)
        step = make_step(problem)

        def many(
            state: TrainState, key: Array, first: Array, count: Array, data: Any, indices: Array
        ) -> tuple[TrainState, Array]:
            def one(n: Array, carry: tuple[TrainState, Array]) -> tuple[TrainState, Array]:
                state, values = carry
                index = indices[n]
                x, y = (jax.lax.with_sharding_constraint(rows[index], places.by_example)
                        for rows in data)  # fmt: skip
                state, value = step(state, key, first + n.astype(jnp.uint32), x, y, index)
                return state, values.at[n].set(value)

            # The number of rounds is an argument, so that one program serves every call.
            return jax.lax.fori_loop(0, count, one, (state, jnp.zeros(UPDATES_PER_CALL)))

        compiled = jax.jit(many, donate_argnums=0, out_shardings=(places.whole, places.whole))
        arguments = (state, self._key, *_count(0, 1), self._data, self._indices(0, 0))
        self._many, self.compile_time_s = _compile(compiled, arguments)

    def __enter__(self) -> "Resident":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def advance(
        self, state: TrainState, first: int, until: int, interrupted: Callable[[], bool]
    ) -> tuple[TrainState, list[Float[np.ndarray, " updates"]]]:
        """Updates ``first`` to ``until - 1``; see `MeshEngine.advance`."""
        values: list[np.ndarray] = []
        pending: deque[tuple[int, int, Array]] = deque()
        while pending or (first < until and not interrupted()):
            if first < until and not interrupted():
                count = min(UPDATES_PER_CALL, until - first)
                indices = self._indices(first, count)
                state, block = self._many(
                    state, self._key, *_count(first, count), self._data, indices
                )
                pending.append((first, count, block))
                first += count
                if len(pending) == 1 and first < until:
                    continue  # one call runs while the next is prepared
            start, count, block = pending.popleft()
            values.append(_finite(block[:count], start))
        return state, values

    def _indices(self, first: int, count: int) -> Array:
        size = self._problem.batch_size
        indices = np.zeros((UPDATES_PER_CALL, size), np.uint32)
        if count:
            stream = self._problem.indices(first * size, count * size)
            indices[:count] = stream.reshape(count, size)
        return jax.device_put(indices, self._places.indices)


class MeshEngine:
    """Synchronous training on the devices of this process; see `distvi.engines.base.Engine`.

    Args:
        problem: What to optimize.
        params: Parameters to start from.
        on: The devices.
        resident: Whether the training set is kept in their memory; None: where there is an
            accelerator and the set fills less than half of its memory.
        opt_state: The optimizer's state to go on from; by default a new one.
        update: Updates that have been made already.
        last: Number of updates of the whole run.

    Raises:
        InputError: the batch cannot be cut evenly among the devices.
    """

    def __init__(
        self,
        problem: Problem,
        params: Params,
        on: Devices,
        *,
        last: int,
        resident: bool | None = None,
        opt_state: optax.OptState | None = None,
        update: int = 0,
    ) -> None:
        if problem.batch_size % len(on):
            raise InputError(
                f"a batch of {problem.batch_size} examples cannot be cut evenly among "
                f"{len(on)} devices; choose a multiple of {len(on)}"
            )
        keep_freed_memory()
        places = layout(on)
        if opt_state is None:
            opt_state = jax.jit(problem.held_optimizer.init)(params)
        given = (params, opt_state)
        state = TrainState(*jax.device_put(given, places.whole))
        # Copied, because the first update gives the memory of its state away; `device_put` may
        # share it with the caller's arrays, even where it is asked not to.
        self._state: TrainState = jax.jit(lambda state: jax.tree.map(jnp.copy, state))(state)
        self._update, self._batch_size = update, problem.batch_size
        self.workers = len(on)
        if _fits(problem, on[0]) if resident is None else resident:
            self._feed: Feed = Resident(problem, places, self._state)
        else:
            self._feed = Streamed(problem, places, self._state, update, last)

    @property
    def state(self) -> TrainState:
        """The state after ``update`` updates. The next ``advance`` deletes its arrays."""
        return self._state

    @property
    def update(self) -> int:
        """Updates made since the run began."""
        return self._update

    @property
    def compile_time_s(self) -> float:
        """Time that the compiler took, before the first update."""
        return self._feed.compile_time_s

    @property
    def waiting_s(self) -> float:
        """Time in which an update waited for its batch."""
        return self._feed.waiting_s

    @property
    def examples(self) -> int:
        """Examples in those updates."""
        return self._update * self._batch_size

    def now_s(self) -> float:
        """Wall-clock time."""
        return time.perf_counter()

    @property
    def counts(self) -> dict[str, Any]:
        """Nothing: all follows from the number of updates."""
        return {}

    @property
    def measured(self) -> dict[str, Any]:
        """Its fields of summary.json.

        A device is a worker that gives one gradient to every update; there is no server. Bytes are
        those that each of several devices gives to the all-reduce, and takes from it.
        """
        gradients = self._update * self.workers
        params_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(self._state.params))
        exchanged_bytes = gradients * params_bytes if self.workers > 1 else 0
        histogram = {"0": gradients} if gradients else {}
        return {
            "clock": "wall",
            "workers": self.workers,
            "servers": 0,
            "scheme": "sync",
            "gradients_used": gradients,
            "gradients_refused": 0,
            "examples": self.examples,
            "staleness": {"mean": 0.0, "p50": 0, "p99": 0, "max": 0, "histogram": histogram},
            "bytes": {
                "pushed": exchanged_bytes,
                "pulled": exchanged_bytes,
                "largest_server_share": None,
            },
        }

    def advance(
        self, until: int, interrupted: Callable[[], bool] = lambda: False
    ) -> Float[np.ndarray, " updates"]:
        """Make updates up to number ``until``; see `distvi.engines.base.Engine`."""
        self._state, values = self._feed.advance(self._state, self._update, until, interrupted)
        flat = np.concatenate([np.zeros(0, np.float32), *values])
        self._update += len(flat)
        return flat

    def __enter__(self) -> "MeshEngine":
        self._feed.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._feed.__exit__(*exception)


def _finite(values: Array, first: int) -> Float[np.ndarray, " updates"]:
    """Read one or several ELBOs back, which waits for their updates."""
    on_host = np.atleast_1d(np.asarray(values))
    wrong = np.flatnonzero(~np.isfinite(on_host))
    if wrong.size:
        elbo = -float(on_host[wrong[0]])
        raise Diverged(f"the ELBO became {elbo}", first + int(wrong[0]) + 1)
    return on_host


def _compile(function: Any, arguments: tuple[Any, ...]) -> tuple[Any, float]:
    before = time.perf_counter()
    compiled = function.lower(*arguments).compile()
    return compiled, time.perf_counter() - before


def _count(first: int, count: int) -> tuple[np.uint32, np.int32]:
    return np.uint32(first), np.int32(count)


def _fits(problem: Problem, device: Any) -> bool:
    if device.platform == "cpu":
        return False
    memory = (device.memory_stats() or {}).get("bytes_limit", 0)
    return problem.examples.x.nbytes + problem.examples.y.nbytes < memory / 2
