"""Synchronous training over the JAX devices of one process.

The batch is cut among the devices and the parameters are on all of them; the compiler adds the
all-reduce of the gradients. With one device this is plain training. A call of the compiled program
makes several updates, from a block of batches that a background thread has prepared (`blocks`).
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from distvi.engines.base import Diverged, Params, Problem, TrainState
from distvi.engines.mesh.blocks import (
    BatchSharding,
    Block,
    Devices,
    Feed,
    Resident,
    Streamed,
    batch_sharding,
)
from distvi.errors import InputError
from distvi.system.malloc import keep_freed_memory, return_freed_memory
from distvi.system.prefetch import Prefetch

CALL_S = 0.2  # about the longest call, for nothing interrupts one


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


def make_updates(problem: Problem, feed: Feed) -> Callable[..., tuple[TrainState, Array]]:
    """``updates(state, key, number, rows, block) -> (state, neg_elbos)``: several, in one program.

    ``rows`` is the first of them within block ``number`` and the one after the last; they are
    arguments, so that one program makes any of a block's updates. A call for every update takes
    a tenth more time of a step of 10 ms: dispatch, and threads that fall asleep between calls.
    """
    step = make_step(problem)

    def updates(
        state: TrainState, key: Array, number: Array, rows: Array, block: Block
    ) -> tuple[TrainState, Array]:
        def one(row: Array, carry: tuple[TrainState, Array]) -> tuple[TrainState, Array]:
            state, values = carry
            update = number * feed.updates + row.astype(jnp.uint32)
            state, value = step(state, key, update, *feed.batch(block, row))
            return state, values.at[row].set(value)

        return jax.lax.fori_loop(rows[0], rows[1], one, (state, jnp.zeros(feed.updates)))

    return updates


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
        places = batch_sharding(on)
        if opt_state is None:
            opt_state = jax.jit(problem.held_optimizer.init)(params)
        given = (params, opt_state)
        state = TrainState(*jax.device_put(given, places.whole))
        # Copied, because the first update gives the memory of its state away; `device_put` may
        # share it with the caller's arrays, even where it is asked not to.
        self._state: TrainState = jax.jit(lambda state: jax.tree.map(jnp.copy, state))(state)
        self._update, self._last, self._batch_size = update, last, problem.batch_size
        self.workers = len(on)
        resident = _fits(problem, on[0]) if resident is None else resident
        self._feed: Feed = (Resident if resident else Streamed)(problem, places)
        self._key = jax.device_put(problem.key, places.whole)
        self._updates = self._compile(make_updates(problem, self._feed), places)
        first, end = update // self._feed.updates, -(-last // self._feed.updates)
        self._blocks = Prefetch(self._feed.block, first, end)
        self._number, self._block = first - 1, None  # the block at hand
        self._pace = 1  # updates in a call
        self._waiting_s, self._finished_s = 0.0, 0.0

    def _compile(self, updates: Callable[..., Any], places: BatchSharding) -> Callable[..., Any]:
        before = time.perf_counter()
        jitted = jax.jit(updates, donate_argnums=0, out_shardings=(places.whole, places.whole))
        arguments = (self._state, self._key, np.uint32(0), np.zeros(2, np.int32), self._feed.like)
        compiled = jitted.lower(*arguments).compile()
        self._compile_time_s = time.perf_counter() - before
        return compiled

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
        return self._compile_time_s

    @property
    def waiting_s(self) -> float:
        """Time in which an update waited for its batch."""
        return self._waiting_s

    @property
    def examples(self) -> int:
        """Examples in those updates."""
        return self._update * self._batch_size

    def now_s(self) -> float:
        """Wall-clock time."""
        return time.perf_counter()

    @property
    def counters(self) -> dict[str, Any]:
        """Nothing: all follows from the number of updates."""
        return {}

    @property
    def statistics(self) -> dict[str, Any]:
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
        """Make updates up to number ``until``; see `distvi.engines.base.Engine`.

        Raises:
            ValueError: that is beyond the last update of the run.
        """
        if until > self._last:
            raise ValueError(f"no update {until} in a run of {self._last}")
        pending: deque[_Call] = deque()
        values: list[np.ndarray] = []
        while self._update < until and not interrupted():
            pending.append(self._call(until))
            if len(pending) > 1:  # one call runs while the next is prepared
                values.append(self._finish(pending.popleft()))
        values += [self._finish(call) for call in pending]
        return np.concatenate([np.zeros(0, np.float32), *values])

    def _call(self, until: int) -> "_Call":
        """Dispatch the next updates: of one block, and not more than the pace."""
        first = self._update
        number, row = divmod(first, self._feed.updates)
        if number != self._number:
            before_s = time.perf_counter()
            self._number, self._block = number, next(self._blocks)
            self._waiting_s += time.perf_counter() - before_s
        count = min(self._pace, until - first, self._feed.updates - row)
        began_s = time.perf_counter()
        rows = np.array([row, row + count], np.int32)
        self._state, values = self._updates(
            self._state, self._key, np.uint32(number), rows, self._block
        )
        self._update += count
        return _Call(first, row, count, values, began_s)

    def _finish(self, call: "_Call") -> Float[np.ndarray, " updates"]:
        """Read the ELBOs of a call back, which waits for it; and set the pace of those to come."""
        values = np.asarray(call.values)[call.row :][: call.updates]
        now_s = time.perf_counter()
        took_s, self._finished_s = now_s - max(call.began_s, self._finished_s), now_s
        if took_s > CALL_S:
            self._pace = max(1, self._pace // 2)
        elif took_s < CALL_S / 2 and call.updates == self._pace:
            self._pace = min(2 * self._pace, self._feed.updates)
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            raise Diverged(
                f"the ELBO became {-float(values[wrong[0]])}", call.first + int(wrong[0]) + 1
            )
        return values

    def __enter__(self) -> "MeshEngine":
        self._blocks.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._blocks.__exit__(*exception)
        return_freed_memory()


class _Call(NamedTuple):
    """Updates that were dispatched together.

    Attributes:
        first: Number of the first, from zero.
        row: Its place in the block.
        updates: How many.
        values: Negative ELBOs of the block's updates; only these have one.
        began_s: When they were dispatched.
    """

    first: int
    row: int
    updates: int
    values: Array
    began_s: float


def _fits(problem: Problem, device: Any) -> bool:
    if device.platform == "cpu":
        return False
    memory = (device.memory_stats() or {}).get("bytes_limit", 0)
    return problem.examples.x.nbytes + problem.examples.y.nbytes < memory / 2
