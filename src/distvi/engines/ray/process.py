"""What worker and server processes have in common: sockets, slots of their own, signs of life."""

import os
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from distvi.engines.base import Built, Recipe
from distvi.engines.coordinator.building import slots_of
from distvi.engines.coordinator.messages import Failed
from distvi.engines.coordinator.slots import ArraySlots, Numbers, SlotMap
from distvi.engines.ray.address import endpoint
from distvi.engines.ray.assignment import Assignment
from distvi.engines.ray.beat import Heartbeat
from distvi.engines.ray.messages import Hello, Welcome
from distvi.engines.ray.rows import Rows
from distvi.engines.ray.sockets import Sockets, receive, send
from distvi.engines.ray.station import Clock, Station


def built_by(
    assignment: Assignment, x: np.ndarray, y: np.ndarray
) -> tuple[Built, SlotMap, Numbers]:
    """What a process works with: the problem and the rules, and slots of its own."""
    built = Recipe(*assignment.recipe).build(x, y)
    placement, servers = assignment.placement, assignment.servers
    slots = slots_of(built.problem, built.worker, built.server, placement, servers)
    return built, slots, Numbers(*(ArraySlots(size) for size in slots.sizes))


def run(given: Sequence[Any], x: np.ndarray | tuple[Any, ...], y: np.ndarray, node: str) -> None:
    """Be a worker or a server until the coordinator ends it.

    Args:
        given: The fields of an `Assignment`.
        x: The examples' inputs; or where they are found, the fields of `Rows`.
        y: Their targets.
        node: Name of the machine.
    """
    assignment = Assignment(*given)
    from distvi.engines.ray.server import ServerProcess
    from distvi.engines.ray.worker import WorkerProcess

    _prepare_jax()
    with ExitStack() as stack:
        sockets = Sockets(assignment.keys)
        stack.callback(sockets.close)
        control = sockets.connected(assignment.coordinator, assignment.name)
        stack.enter_context(Heartbeat(sockets, assignment))
        try:
            data, address = None, ""
            if assignment.role == "server":
                data, address = sockets.bound(endpoint(is_alone=assignment.is_alone))
            send(control, Hello(os.getpid(), node, address, time.perf_counter()))
            rows = Rows(*x).open() if isinstance(x, tuple) else x
            built, slots, numbers = built_by(assignment, rows, y)
            clock = Clock()
            station = Station(assignment, built, slots, numbers, sockets, control, clock)
            welcome = receive(control)
            assert isinstance(welcome, Welcome)
            clock.ahead_s = welcome.ahead_s
            if data is None:
                WorkerProcess(station).run()
            else:
                ServerProcess(station, data).run()
        except BaseException:  # whatever ends it, the coordinator is told before Ray is
            send(control, Failed(traceback.format_exc()))
            raise


def _prepare_jax() -> None:
    from distvi.system.compilation_cache import keep_compiled

    keep_compiled()
    import jax

    from distvi.system.malloc import keep_freed_memory

    keep_freed_memory()
    # Each result is waited for at once: a thread of its own would only be one more to wake.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
