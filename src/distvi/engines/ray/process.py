"""What worker and server processes have in common: sockets, slots of their own, signs of life."""

import os
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from distvi.engines.base import Built, Recipe
from distvi.engines.coordinator.messages import Failed
from distvi.engines.coordinator.slots import ArraySlots, Numbers, SlotMap, slot_map
from distvi.engines.ray.address import host
from distvi.engines.ray.assignment import Assignment
from distvi.engines.ray.messages import Beat, Hello, Welcome
from distvi.engines.ray.sockets import Sockets, receive, send
from distvi.engines.ray.station import BEAT, Clock, Station
from distvi.parameters import layout_of, make_shards, place


def built_by(
    assignment: Assignment, x: np.ndarray, y: np.ndarray
) -> tuple[Built, SlotMap, Numbers]:
    """What a process works with: the problem and the rules, and slots of its own."""
    built = Recipe(*assignment.recipe).build(x, y)
    layout = layout_of(built.problem.shapes)
    placement = place(assignment.placement, layout.sizes, assignment.servers)
    slots = slot_map(make_shards(layout, placement, built.server), built.worker)
    return built, slots, Numbers(*(ArraySlots(size) for size in slots.sizes))


def run(given: Sequence[Any], x: np.ndarray, y: np.ndarray, node: str) -> None:
    """Be a worker or a server until the coordinator ends it.

    Args:
        given: The fields of an `Assignment`.
        x: The examples' inputs.
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
        stack.callback(_beat(sockets, assignment).set)
        try:
            data, address = None, ""
            if assignment.role == "server":
                data, address = sockets.bound(host(is_alone=assignment.is_alone))
            send(control, Hello(os.getpid(), node, address, time.perf_counter()))
            built, slots, numbers = built_by(assignment, x, y)
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
    import jax

    from distvi.system.malloc import keep_freed_memory

    keep_freed_memory()
    # Each result is waited for at once: a thread of its own would only be one more to wake.
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def _beat(sockets: Sockets, assignment: Assignment) -> threading.Event:
    """Begin to give signs of life; what ends them."""
    end = threading.Event()

    def beat() -> None:
        socket = sockets.connected(assignment.coordinator, assignment.name + BEAT)
        while not end.wait(assignment.beat_s):
            send(socket, Beat())
        socket.close()

    threading.Thread(target=beat, name="beat", daemon=True).start()
    return end
