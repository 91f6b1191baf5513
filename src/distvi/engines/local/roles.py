"""What worker and server processes do: wait for messages, and answer them."""

import fcntl
import selectors
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

from distvi.engines.base import Built, Recipe
from distvi.engines.coordinator.building import slots_of
from distvi.engines.coordinator.environment import pin
from distvi.engines.coordinator.messages import Abandon, Abandoned, Applied, Compute, Message, Ready
from distvi.engines.coordinator.server import ShardServer
from distvi.engines.coordinator.shared import SharedArray
from distvi.engines.coordinator.slots import Numbers, PublishedVersions, SlotMap
from distvi.engines.coordinator.worker import Worker
from distvi.engines.local.assignment import Assignment
from distvi.engines.local.connection import receive, send
from distvi.engines.local.doorbell import drain, notify
from distvi.engines.local.memory import shared_numbers
from distvi.system.prefetch import Prefetch

_REQUESTS = 1 << 32  # more than any run has


def built_by(assignment: Assignment) -> tuple[Built, SlotMap, Numbers]:
    """What a process works with: the problem and the rules, and where its numbers lie."""
    x, y = SharedArray(*assignment.x).open(), SharedArray(*assignment.y).open()
    built = Recipe(*assignment.recipe).build(x, y)
    placement, servers = assignment.placement, assignment.servers
    slots = slots_of(built.problem, built.worker, built.server, placement, servers)
    return built, slots, shared_numbers(slots, assignment.numbers)


def serve(connection: Connection, assignment: Assignment) -> None:
    """Make updates until the main process is gone."""
    built, slots, numbers = built_by(assignment)
    server = ShardServer(assignment.number, slots, numbers, built)
    compile_time_s = server.compile(assignment.contributions)
    pin(assignment.cores)
    send(connection, Ready(compile_time_s))
    while True:
        answer = server.handle(receive(connection))
        if isinstance(answer, Applied):
            notify(assignment.doorbells)
        if answer is not None:
            send(connection, answer)


def work(connection: Connection, assignment: Assignment) -> None:
    """Answer requests until the main process is gone."""
    built, slots, numbers = built_by(assignment)
    worker = Worker(assignment.number, assignment.workers, slots, numbers, built, assignment.memory)
    compile_time_s = worker.compile(_one_at_a_time(assignment.cache))
    pin(assignment.cores)
    published = numbers.published_versions
    with Prefetch(worker.batch, assignment.first_request, _REQUESTS) as batches:
        send(connection, Ready(compile_time_s))
        for request, received_s in requests_of(connection, assignment.doorbells[0], published):
            batch = next(batches)
            while batch.turn < request.turn:  # one of a request that was abandoned
                batch = next(batches)
            send(connection, worker.answer(request, batch, received_s))
            worker.pushed()


def requests_of(
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


@contextmanager
def _one_at_a_time(folder: str) -> Iterator[None]:
    with ExitStack() as stack:
        if folder:
            with suppress(OSError):  # the folder has gone: then each compiles for itself
                file = stack.enter_context((Path(folder) / "lock").open("w"))
                fcntl.flock(file, fcntl.LOCK_EX)  # the kernel opens it when its holder is killed
        yield
