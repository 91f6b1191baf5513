"""The updates of a run as one program over a row of devices, those of this process or of several.

The parameters are on all devices. Each computes the gradient of its slice of the batch, the mean of
all slices is one all-reduce of one vector (`distvi.algorithms.slices`), and every device makes the
same update of it. With one device this is plain training. A call of the program makes several
updates, from a block of batches that a background thread has prepared (`blocks`).
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distvi.algorithms.base import Algorithm, Batches, Delivery, Keep, Memory, answer, whole
from distvi.engines.base import Devices, Problem, Start, TrainState, has_memory
from distvi.engines.mesh.blocks import BLOCK_BYTES, WHOLE, Block, Feed, Places, Resident, Streamed
from distvi.engines.mesh.calls import Call
from distvi.errors import InputError
from distvi.system.malloc import keep_freed_memory, return_freed_memory
from distvi.system.prefetch import Prefetch

RESIDENT = {"auto": None, "always": True, "never": False}


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


def make_updates(
    algorithm: Algorithm, feed: Feed, places: Places
) -> Callable[..., tuple[_Carry, Array]]:
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

    if places.count == 1:
        return updates
    given = (WHOLE, WHOLE, WHOLE, WHOLE, feed.cuts)
    # Not checked: it would add up each gradient by itself, where they are asked for as one vector.
    return jax.shard_map(
        updates, mesh=places.mesh, in_specs=given, out_specs=(WHOLE, WHOLE), check_vma=False
    )


class Updates:
    """Makes the updates of a run; a `distvi.engines.mesh.calls.Maker`.

    A context, in which batches are prepared.

    Args:
        problem: What to optimize.
        algorithm: How; its scheme is that of one worker.
        start: Where to begin.
        on: The devices, those of each process beside one another.
        resident: Whether the training set is kept in their memory; None: where there is an
            accelerator and the set fills less than half of its memory.
        block_bytes: Of examples that are copied at once.

    Raises:
        InputError: the batch cannot be cut evenly among the devices.
    """

    def __init__(
        self,
        problem: Problem,
        algorithm: Algorithm,
        start: Start,
        on: Devices,
        *,
        resident: bool | None = None,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        check_cut(problem.batch_size, len(on))
        keep_freed_memory()
        self._places, rule = Places(on), algorithm.worker
        self._programs = problem.programs
        self.carry = self._first(algorithm, start)
        self.asked, self.waiting_s = start.update, 0.0
        self._has_memory = has_memory(rule, problem.shapes)
        resident = _fits(problem, on[self._places.own[0]]) if resident is None else resident
        self._feed: Feed = (
            Resident(problem, self._places, rule.batches)
            if resident
            else Streamed(problem, self._places, rule.batches, block_bytes)
        )
        self._key = self._places.put_key(problem.key)
        self._updates = self._compile(make_updates(algorithm, self._feed, self._places))
        self.block = self._feed.updates
        first, end = start.update // self.block, -(-problem.updates // self.block)
        self._blocks = Prefetch(self._feed.block, first, end)
        self._number, self._block = first - 1, None  # the block at hand

    def _first(self, algorithm: Algorithm, start: Start) -> _Carry:
        params, opt_state, memory = start.params(), start.state, start.memory(0)
        jit = self._programs.jit
        if opt_state is None:
            opt_state = jit("server state", algorithm.server.init)(params)
        if memory is None:
            memory = jit("memory", algorithm.worker.init)(params)
        given = self._places.put_whole((params, opt_state, memory))
        # Copied, because the first update gives the memory of its state away; what was put there
        # may share it with the caller's arrays, even where it is asked not to.
        return _Carry(*jit("copy", lambda given: jax.tree.map(jnp.copy, given))(given))

    def _compile(self, updates: Callable[..., Any]) -> Callable[..., Any]:
        before, place = time.perf_counter(), self._places.whole
        arguments = (self.carry, self._key, np.uint32(0), np.zeros(2, np.int32), self._feed.like)
        placed = {"donate_argnums": 0, "out_shardings": (place, place)}
        compiled = self._programs.compiled("updates", updates, arguments, **placed)
        self.compile_time_s = time.perf_counter() - before
        return compiled

    @property
    def state(self) -> TrainState:
        """The state after the updates asked for. To ask for more deletes its arrays."""
        params, opt_state, memory = self.carry
        return TrainState(params, opt_state, (memory,) if self._has_memory else ())

    def ask(self, count: int) -> Call:
        """Dispatch the next updates, which are all of one block."""
        first = self.asked
        number, row = divmod(first, self.block)
        if number != self._number:
            before_s = time.perf_counter()
            self._number, self._block = number, next(self._blocks)
            self.waiting_s += time.perf_counter() - before_s
        began_s = time.perf_counter()
        rows = np.array([row, row + count], np.int32)
        self.carry, values = self._updates(
            self.carry, self._key, np.uint32(number), rows, self._block
        )
        self.asked += count
        return Call(first, count, began_s, values)

    def read(self, call: Call) -> Float[np.ndarray, " updates"]:
        """Read the ELBOs of a call back, which waits for it."""
        return np.asarray(call.values)[call.first % self.block :][: call.updates]

    def __enter__(self) -> "Updates":
        self._blocks.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._blocks.__exit__(*exception)
        return_freed_memory()


def state_like(params: Any, server: Any, worker: Any) -> Any:
    """Shapes of parameters, the server rule's state and the worker's memory, in this order."""
    return params, jax.eval_shape(server, params), jax.eval_shape(worker, params)


def check_cut(batch_size: int, devices: int) -> None:
    """Whether a batch can be cut evenly.

    Raises:
        InputError: it cannot.
    """
    if batch_size % devices:
        raise InputError(
            f"a batch of {batch_size} examples cannot be cut evenly among {devices} devices; "
            f"choose a multiple of {devices}"
        )


def _fits(problem: Problem, device: Any) -> bool:
    if device.platform == "cpu":
        return False
    memory = (device.memory_stats() or {}).get("bytes_limit", 0)
    return problem.examples.x.nbytes + problem.examples.y.nbytes < memory / 2
