"""A worker: answers the requests that it is sent, on the parameters that it is pointed to."""

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from distvi.algorithms.base import Batches, Memory, WorkerRule, answer
from distvi.algorithms.combine import is_finite
from distvi.engines.base import Built, read_request
from distvi.engines.coordinator.clock import MachineClock
from distvi.engines.coordinator.messages import Compute, Computed
from distvi.engines.coordinator.slots import Numbers, SlotMap, views
from distvi.parameters import Flat, Shards


class WorkerBatch(NamedTuple):
    """What one of a worker's requests consumes.

    Attributes:
        turn: Which of its requests, counted from the run's first.
        batches: As many as the rule wants.
    """

    turn: int
    batches: Batches


class Worker:
    """A worker's program and memory, as the coordinator's messages have it.

    Args:
        number: Which worker it is.
        workers: How many there are.
        slots: Where everything lies.
        numbers: Where others read and write.
        built: The problem, the rules, and what may go wrong.
        memory: Slot of what it remembers from an earlier part of the run, which is written before
            the first request; -1: nothing.
        clock: The machine's.
    """

    def __init__(
        self,
        number: int,
        workers: int,
        slots: SlotMap,
        numbers: Numbers,
        built: Built,
        memory: int = -1,
        clock: MachineClock = time.perf_counter,
    ) -> None:
        self._number, self._workers, self._clock = number, workers, clock
        self._slots, self._numbers, self._built = slots, numbers, built
        layout, rule = slots.shards.layout, slots.rule
        flat = jax.ShapeDtypeStruct((layout.size,), jnp.float32)
        self._memory_like = jax.eval_shape(lambda flat: rule.init(layout.unflatten(flat)), flat)
        self._init: Any = jax.jit(lambda flat: rule.init(layout.unflatten(flat)))
        self._targets: dict[int, list[np.ndarray]] = {}
        self._memory: Memory = None if slots.has_memory else self._memory_like
        self._slot = memory

    def batch(self, turn: int) -> WorkerBatch:
        """What a request consumes."""
        problem, rule = self._built.problem, self._slots.rule
        numbers = {"worker": self._number, "workers": self._workers}
        return WorkerBatch(turn, read_request(problem, rule, turn, **numbers))

    def compile(self, one_at_a_time: AbstractContextManager[Any] | None = None) -> float:
        """Compile the program; the seconds it took.

        Args:
            one_at_a_time: Held while the compiler works: others then find the result in the cache.
        """
        before_s = self._clock()
        problem, shards = self._built.problem, self._slots.shards
        flat = jax.ShapeDtypeStruct((shards.layout.size,), jnp.float32)
        program = jax.jit(make_answer(self._slots.rule, shards))
        lowered = program.lower(flat, self._memory_like, self.batch(0).batches, problem.key)
        with one_at_a_time or nullcontext():
            self._compiled = lowered.compile()
            if self._slots.has_memory:
                self._init = self._init.lower(flat).compile()
        return self._clock() - before_s

    def answer(self, request: Compute, batch: WorkerBatch, received_s: float) -> Computed:
        """Work on a request, and put the payload and what is remembered into their slots.

        Args:
            request: What is asked.
            batch: That of its turn.
            received_s: When it could be begun.
        """
        flat = self._numbers.parameters.bytes(request.parameters).view(np.float32)
        if self._memory is None:
            self._memory = self._begin(flat)
        started_s = self._clock()
        value, arrays, memory = self._compiled(
            flat, self._memory, batch.batches, self._built.problem.key
        )
        # By way of NumPy, because ``float`` of an array takes twice as long.
        neg_elbo, arrays = np.asarray(value).item(), [np.asarray(array) for array in arrays]
        computed_s = self._clock()
        targets = self._targets.get(request.payload)
        if targets is None:
            slot = self._numbers.payloads.bytes(request.payload)
            targets = self._targets[request.payload] = views(self._slots.targets, slot)
        self._built.fault("writing", targets)
        is_good = push(arrays, targets) and np.isfinite(neg_elbo).item()
        if self._slots.has_memory and is_good:
            self._memory = memory
            kept = views(self._slots.memory, self._numbers.memories.bytes(request.memory))
            for target, leaf in zip(kept, jax.tree.leaves(memory), strict=True):
                np.copyto(target, np.asarray(leaf))
        times_s = (received_s, started_s, computed_s, self._clock())
        return Computed(request.request, neg_elbo, is_good, *times_s)

    def _begin(self, flat: np.ndarray) -> Memory:
        """What it remembers at first; read now, for the slot is written while workers get ready."""
        if self._slot < 0:
            return self._init(flat)
        leaves = views(self._slots.memory, self._numbers.memories.bytes(self._slot))
        tree = jax.tree.structure(self._memory_like)
        return tree.unflatten([jnp.asarray(leaf.copy()) for leaf in leaves])

    def pushed(self) -> None:
        """An answer has been sent."""
        self._built.fault("pushed", [])


def push(arrays: list[np.ndarray], targets: list[np.ndarray]) -> bool:
    """Write a payload; nobody looks at the slot before the message that follows.

    Args:
        arrays: Of the payload.
        targets: Where they go.

    Returns:
        Whether all of it is finite.
    """
    are_finite = True
    for array, target in zip(arrays, targets, strict=True):
        np.copyto(target, array)
        are_finite = are_finite and is_finite(target)  # while it is in the cache
    return are_finite


def make_answer(rule: WorkerRule, shards: Shards) -> Any:
    """``answer(flat, memory, batches, key) -> (neg_elbo, arrays, memory)``.

    Arrays of a dense payload are its tensors: they are put together as they are copied to their
    slot, which is one pass over them less.
    """

    def arrays_of(
        flat: Flat, memory: Memory, batches: Batches, key: Array
    ) -> tuple[Array, list[Array], Memory]:
        params = shards.layout.unflatten(flat)
        found = answer(rule, shards.transmit, params, memory, batches, key)
        sent = found.payload if found.messages is None else found.messages
        return found.neg_elbo, jax.tree.leaves(sent), found.memory

    return arrays_of
