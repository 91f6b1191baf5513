"""Synchronous training over the JAX devices of one process.

The batch is cut among the devices and the parameters are on all of them; the compiler adds the
all-reduce of the gradients. With one device this is plain training. A call of the compiled program
makes several updates, from a block of batches that a background thread has prepared (`blocks`).
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distvi.algorithms.base import (
    Algorithm,
    Batches,
    Delivery,
    Keep,
    Memory,
    Params,
    answer,
    whole,
)
from distvi.engines.base import Devices, Diverged, Problem, Start, TrainState, has_memory
from distvi.engines.mesh.blocks import (
    BLOCK_BYTES,
    BatchSharding,
    Block,
    Feed,
    Resident,
    Streamed,
    batch_sharding,
)
from distvi.engines.mesh.devices import devices
from distvi.engines.mesh.settings import MeshSettings
from distvi.engines.statistics import describe_staleness
from distvi.errors import InputError
from distvi.system.malloc import keep_freed_memory, return_freed_memory
from distvi.system.prefetch import Prefetch

CALL_S = 0.2  # about the longest call, for nothing interrupts one


class _Carry(NamedTuple):
    """What an update changes."""

    params: Any
    opt_state: Any
    memory: Memory


def make_step(algorithm: Algorithm) -> Callable[..., tuple[_Carry, Array]]:
    """``step(carry, batches, key) -> (carry, neg_elbo)``: one update.

    It is that of one worker, over whose devices the batch is cut, and one server. Where the ELBO is
    not finite the parameters stay as they are. So no parameter is overwritten before the ELBO is
    known, and XLA need not copy those it still has to read by then.
    """
    rule, server = algorithm.worker, algorithm.server

    def step(carry: _Carry, batches: Batches, key: Array) -> tuple[_Carry, Array]:
        params, opt_state, memory = carry
        found = answer(rule, whole, params, memory, batches, key)
        base = params if server.keeps is Keep.BASE else None
        delivery = Delivery(found.payload, 1.0, base)
        moved, opt_state = server.apply(params, opt_state, [delivery], 1.0)
        finite = jnp.isfinite(found.neg_elbo)
        params = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, params)
        return _Carry(params, opt_state, found.memory), found.neg_elbo

    return step


def make_updates(algorithm: Algorithm, feed: Feed) -> Callable[..., tuple[_Carry, Array]]:
    """``updates(carry, key, number, rows, block) -> (carry, neg_elbos)``: several, in one program.

    ``rows`` is the first of them within block ``number`` and the one after the last; they are
    arguments, so that one program makes any of a block's updates. A call for every update takes
    a tenth more time of a step of 10 ms: dispatch, and threads that fall asleep between calls.
    """
    step = make_step(algorithm)

    def updates(
        carry: _Carry, key: Array, number: Array, rows: Array, block: Block
    ) -> tuple[_Carry, Array]:
        def one(row: Array, state: tuple[_Carry, Array]) -> tuple[_Carry, Array]:
            carry, values = state
            update = number * np.uint32(feed.updates) + row.astype(jnp.uint32)
            carry, value = step(carry, feed.batches(block, row, update), key)
            return carry, values.at[row].set(value)

        return jax.lax.fori_loop(rows[0], rows[1], one, (carry, jnp.zeros(feed.updates)))

    return updates


_RESIDENT = {"auto": None, "always": True, "never": False}


def build(
    settings: MeshSettings, problem: Problem, algorithm: Algorithm, start: Start
) -> "MeshEngine":
    """An engine on the devices of this process; see `distvi.engines.registry`.

    Raises:
        InputError: there are not so many devices, or the batch cannot be cut evenly among them.
    """
    on = devices(settings.workers)
    return MeshEngine(problem, algorithm, start, on, resident=_RESIDENT[settings.data_on_device])


class MeshEngine:
    """Synchronous training on the devices of this process; see `distvi.engines.base.Engine`.

    Args:
        problem: What to optimize.
        algorithm: How; its scheme is that of one worker.
        start: Where to begin.
        on: The devices.
        resident: Whether the training set is kept in their memory; None: where there is an
            accelerator and the set fills less than half of its memory.
        call_s: About the longest call, for nothing interrupts one.
        block_bytes: Of examples that are copied at once.

    Raises:
        InputError: the batch cannot be cut evenly among the devices.
    """

    deterministic = True

    def __init__(
        self,
        problem: Problem,
        algorithm: Algorithm,
        start: Start,
        on: Devices,
        *,
        resident: bool | None = None,
        call_s: float = CALL_S,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        if problem.batch_size % len(on):
            raise InputError(
                f"a batch of {problem.batch_size} examples cannot be cut evenly among "
                f"{len(on)} devices; choose a multiple of {len(on)}"
            )
        keep_freed_memory()
        places, rule = batch_sharding(on), algorithm.worker
        self._programs = problem.programs
        self._carry = self._first(algorithm, start, places)
        self._update, self._last = start.update, problem.updates
        self._update_size, self._batches = problem.batch_size * rule.batches, rule.batches
        self._has_memory = has_memory(rule, problem.shapes)
        self.workers, self.devices, self._call_s = len(on), on, call_s
        resident = _fits(problem, on[0]) if resident is None else resident
        self._feed: Feed = (
            Resident(problem, places, rule.batches)
            if resident
            else Streamed(problem, places, rule.batches, block_bytes)
        )
        self._key = jax.device_put(problem.key, places.whole)
        self._updates = self._compile(make_updates(algorithm, self._feed), places)
        first, end = start.update // self._feed.updates, -(-self._last // self._feed.updates)
        self._blocks = Prefetch(self._feed.block, first, end)
        self._number, self._block = first - 1, None  # the block at hand
        self._pace = 1  # updates in a call
        self._waiting_s, self._finished_s = 0.0, 0.0

    def _first(self, algorithm: Algorithm, start: Start, places: BatchSharding) -> _Carry:
        params, opt_state, memory = start.params(), start.state, start.memory(0)
        jit = self._programs.jit
        if opt_state is None:
            opt_state = jit("server state", algorithm.server.init)(params)
        if memory is None:
            memory = jit("memory", algorithm.worker.init)(params)
        given = jax.device_put((params, opt_state, memory), places.whole)
        # Copied, because the first update gives the memory of its state away; `device_put` may
        # share it with the caller's arrays, even where it is asked not to.
        return _Carry(*jit("copy", lambda given: jax.tree.map(jnp.copy, given))(given))

    def _compile(self, updates: Callable[..., Any], places: BatchSharding) -> Callable[..., Any]:
        before = time.perf_counter()
        arguments = (self._carry, self._key, np.uint32(0), np.zeros(2, np.int32), self._feed.like)
        placed = {"donate_argnums": 0, "out_shardings": (places.whole, places.whole)}
        compiled = self._programs.compiled("updates", updates, arguments, **placed)
        self._compile_time_s = time.perf_counter() - before
        return compiled

    @property
    def state(self) -> TrainState:
        """The state after ``update`` updates. The next ``advance`` deletes its arrays."""
        params, opt_state, memory = self._carry
        return TrainState(params, opt_state, (memory,) if self._has_memory else ())

    @property
    def params(self) -> Params:
        """The parameters after ``update`` updates. The next ``advance`` deletes their arrays."""
        return self._carry.params

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
        return self._update * self._update_size

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
        params_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(self._carry.params))
        exchanged_bytes = gradients * self._batches * params_bytes if self.workers > 1 else 0
        return {
            "clock": "wall",
            "workers": self.workers,
            "servers": 0,
            "scheme": "sync",
            "gradients_used": gradients,
            "gradients_refused": 0,
            "examples": self.examples,
            "staleness": describe_staleness({0: gradients} if gradients else {}),
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
        self._carry, values = self._updates(
            self._carry, self._key, np.uint32(number), rows, self._block
        )
        self._update += count
        return _Call(first, row, count, values, began_s)

    def _finish(self, call: "_Call") -> Float[np.ndarray, " updates"]:
        """Read the ELBOs of a call back, which waits for it; and set the pace of those to come."""
        values = np.asarray(call.values)[call.row :][: call.updates]
        now_s = time.perf_counter()
        took_s, self._finished_s = now_s - max(call.began_s, self._finished_s), now_s
        if took_s > self._call_s:
            self._pace = max(1, self._pace // 2)
        elif took_s < self._call_s / 2 and call.updates == self._pace:
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
