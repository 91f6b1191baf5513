"""A worker: computes the gradients it is asked for, on the parameters it is pointed to."""

import fcntl
import selectors
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from math import isfinite
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from distvi.engines.base import Problem
from distvi.engines.coordinator.messages import (
    Abandon,
    Abandoned,
    Compute,
    Computed,
    Message,
    Ready,
    receive,
    send,
)
from distvi.engines.local.doorbell import PublishedVersions, drain, published_in
from distvi.engines.local.memory import SharedArray, Slots
from distvi.engines.local.process import Assignment, pin
from distvi.engines.local.recipe import Recipe
from distvi.parameters import Flat, Layout, layout_of
from distvi.system.prefetch import Prefetch

_BATCHES = 1 << 32  # more than any run has


class WorkerBatch(NamedTuple):
    """One of a worker's batches, ready to compute with.

    Attributes:
        number: Which one.
        arrays: The last arguments of ``make_gradient``'s function: step, x, y, index.
    """

    number: int
    arrays: tuple[Any, ...]


def batch_of(problem: Problem, number: int, begin: int) -> WorkerBatch:
    """The batch that begins at some place of the problem's stream of examples."""
    index = problem.indices(begin, problem.batch_size)
    x, y = problem.examples.take(index)
    return WorkerBatch(number, (np.uint32(number), x, y, index.astype(np.uint32)))


def work(connection: Connection, assignment: Assignment) -> None:
    """Compute gradients until the main process is gone."""
    x, y = SharedArray(*assignment.x).open(), SharedArray(*assignment.y).open()
    problem, params = Recipe(*assignment.recipe).build(x, y)
    layout = layout_of(params)

    def batch(number: int) -> WorkerBatch:
        """WorkerBatch t of worker w of n begins at (t * n + w) * batch_size in the stream."""
        begin = (number * assignment.workers + assignment.number) * problem.batch_size
        return batch_of(problem, number, begin)

    gradient, compile_time_s = compile_gradient(problem, layout, batch(0), assignment.cache)
    pin(assignment.cores)
    parameters = Slots(4 * layout.size, assignment.parameters)
    gradients = Slots(4 * layout.size, assignment.gradients)
    published = published_in(Slots(8 * assignment.servers, assignment.published))
    with Prefetch(batch, assignment.first_batch, _BATCHES) as batches:
        send(connection, Ready(compile_time_s))
        for request, received_s in orders_of(connection, assignment.doorbells[0], published):
            next_batch = next(batches)
            while next_batch.number < request.batch:  # one of a request that was abandoned
                next_batch = next(batches)
            started_s = time.perf_counter()
            answer = gradient(parameters.floats(request.parameters), next_batch)
            computed_s = time.perf_counter()
            is_finite = push(answer.gradient, gradients.floats(request.gradient))
            is_finite = is_finite and isfinite(answer.neg_elbo)
            times_s = (received_s, started_s, computed_s, time.perf_counter())
            send(connection, Computed(request.request, answer.neg_elbo, is_finite, *times_s))
            del answer  # the next gradient takes its memory, which is in the cache


def push(gradient: list[np.ndarray], slot: np.ndarray) -> bool:
    """Write a gradient; nobody looks at the slot before the message that follows.

    Args:
        gradient: By tensors, in the layout's order.
        slot: The flat vector to write.

    Returns:
        Whether all of it is finite.
    """
    start, are_finite = 0, True
    for tensor in gradient:
        part = slot[start : start + tensor.size]
        np.copyto(part, tensor.ravel())
        are_finite = are_finite and _is_finite(part)  # while it is in the cache
        start += tensor.size
    return are_finite


def _is_finite(part: np.ndarray) -> bool:
    # The product with itself takes a tenth of the time; it overflows where a gradient is huge.
    return bool(isfinite(np.dot(part, part)) or np.isfinite(part).all())


def orders_of(
    connection: Connection, doorbell: int, published: PublishedVersions
) -> Iterator[tuple[Compute, float]]:
    """Requests with the time they could be begun, without those that are abandoned before."""
    waiting: deque[Compute] = deque()
    with selectors.DefaultSelector() as selector:
        for source in (connection, doorbell):
            selector.register(source, selectors.EVENT_READ)

        def may_begin() -> bool:
            return bool(waiting and published.min() >= waiting[0].version)

        while True:
            came = {key.fileobj for key, _ in selector.select(0 if may_begin() else None)}
            if doorbell in came:
                drain(doorbell)
            if connection in came:
                _note(receive(connection), waiting, connection)
            elif may_begin():
                yield waiting.popleft(), time.perf_counter()


def _note(message: Message, waiting: deque[Compute], connection: Connection) -> None:
    if isinstance(message, Compute):
        waiting.append(message)
    elif isinstance(message, Abandon):
        known = [request for request in waiting if request.request == message.request]
        for request in known:  # else its answer is on its way
            waiting.remove(request)
            send(connection, Abandoned(message.request))


def make_gradient(problem: Problem, layout: Layout) -> Any:
    """``gradient(flat, key, step, x, y, index) -> (neg_elbo, the gradient's tensors)``.

    They are put together as they are copied to their slot: one pass over them less.
    """

    def gradient(
        flat: Flat, key: Array, step: Array, x: Array, y: Array, index: Array
    ) -> tuple[Array, list[Array]]:
        params = layout.unflatten(flat)
        noise_key = jax.random.fold_in(key, step)
        value, tree = jax.value_and_grad(problem.loss)(params, x, y, index, noise_key)
        return value, layout.structure.flatten_up_to(tree)

    return gradient


class Answer(NamedTuple):
    """A gradient that is complete."""

    neg_elbo: float
    gradient: list[np.ndarray]


def compile_gradient(
    problem: Problem, layout: Layout, batch: WorkerBatch, programs: str
) -> tuple[Callable[[np.ndarray, WorkerBatch], Answer], float]:
    """``gradient(flat, batch)``, which waits until it is complete, and the seconds of compilation.

    One worker compiles; the others wait and find it in the cache.
    """
    before_s = time.perf_counter()
    flat = jax.ShapeDtypeStruct((layout.size,), jnp.float32)
    lowered = jax.jit(make_gradient(problem, layout)).lower(flat, problem.key, *batch.arrays)
    with _one_at_a_time(programs):
        compiled = lowered.compile()
    compile_time_s = time.perf_counter() - before_s

    def gradient(flat: np.ndarray, batch: WorkerBatch) -> Answer:
        value, tensors = compiled(flat, problem.key, *batch.arrays)
        # By way of NumPy, because ``float`` of an array takes twice as long.
        return Answer(np.asarray(value).item(), [np.asarray(tensor) for tensor in tensors])

    return gradient, compile_time_s


@contextmanager
def _one_at_a_time(folder: str) -> Iterator[None]:
    with ExitStack() as stack:
        if folder:
            with suppress(OSError):  # the folder has gone: then each compiles for itself
                file = stack.enter_context((Path(folder) / "lock").open("w"))
                fcntl.flock(file, fcntl.LOCK_EX)  # the kernel opens it when its holder is killed
        yield
