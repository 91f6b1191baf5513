"""What a process of a run over hosts does: join JAX's others, and make the updates it is told to.

All processes share fate. None can go on without another, so none tries to: it says what it met and
ends, and the command that leads starts all of them again from the last state that it has.
"""

import os
import queue
import traceback
from collections import deque
from typing import Any

import jax
import numpy as np
from jax.errors import JaxRuntimeError
from jax.extend.backend import register_backend_factory

from distvi.aggregation import sync
from distvi.algorithms.base import Algorithm
from distvi.engines.base import Built, Devices, Recipe, Start
from distvi.engines.coordinator.environment import pin
from distvi.engines.coordinator.shared import SharedArray
from distvi.engines.mesh.address import free_port
from distvi.engines.mesh.calls import Call
from distvi.engines.mesh.hosts.messages import (
    Assignment,
    Broken,
    Failed,
    Give,
    Given,
    Hello,
    Link,
    Made,
    Make,
    Message,
    Order,
    Ready,
    Said,
    arrays_like,
)
from distvi.engines.mesh.hosts.sample import sample_of, versions
from distvi.engines.mesh.updates import Updates, state_like
from distvi.errors import DistviError, InputError

_JOIN_S = 60
"""For the processes to meet, all of which are there already."""


def work(order: Order, own_address: str, link: Link, said: Said) -> None:
    """Introduce itself, and do what it is told until it is told to end, which ends the process.

    Args:
        order: From the command that started it.
        own_address: Of this machine, for the other processes.
        link: To the command that leads.
        said: What that says.
    """
    x, y = SharedArray(*order.x).open(), SharedArray(*order.y).open()
    port = 0 if order.number else free_port(own_address)
    sample = sample_of(x, y)
    link.send(Hello(order.number, order.processes, os.getpid(), versions(), port, sample))
    assignment, arrays = said.get()
    assert isinstance(assignment, Assignment)
    try:
        on = _join(order, assignment, own_address)
        built = Recipe(*assignment.recipe).build(x, y)
        algorithm = Algorithm(sync(), built.worker, built.server)
        start = _start(built, assignment.update, arrays)
        resident = assignment.resident
        with Updates(built.problem, algorithm, start, on, resident=resident) as updates:
            pin(order.cores)
            link.send(Ready(updates.block, updates.compile_time_s))
            _serve(built, updates, order, link, said)
    except JaxRuntimeError as error:  # such as that another process has gone
        link.send(Broken(str(error)))
        raise
    except Exception as error:
        told = str(error) if isinstance(error, DistviError) else _told(error)
        link.send(Failed(told))
        raise


def _told(error: Exception) -> str:
    """The exception first, then where it came from."""
    return f"{type(error).__name__}: {error}\n{traceback.format_exc()}"


def _join(order: Order, assignment: Assignment, own_address: str) -> Devices:
    """Join JAX's other processes; all devices of the run."""
    if order.cache:
        jax.config.update("jax_compilation_cache_dir", order.cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if assignment.devices > 1:  # of a machine that has CPUs alone
        jax.config.update("jax_num_cpu_devices", assignment.devices)
    jax.distributed.initialize(
        assignment.coordinator,
        order.processes,
        order.number,
        cluster_detection_method="deactivate",
        initialization_timeout=_JOIN_S,
        heartbeat_timeout_seconds=assignment.heartbeat_s,
        coordinator_bind_address=assignment.coordinator,  # by default it is all addresses
    )
    bind_collectives(own_address)
    if (here := jax.local_device_count()) != assignment.devices:
        raise InputError(
            f"process {order.number} has {here} devices of kind {jax.local_devices()[0].platform}, "
            f"but each is to have {assignment.devices}; see --workers"
        )
    return jax.devices()


def bind_collectives(own_address: str) -> None:
    """Let CPUs exchange gradients at an address on the way to the first host.

    By default it is the one that the machine's own name has, which is that of another network, or
    loopback, on many machines; JAX has no setting for it.
    """
    from jax._src import distributed, xla_bridge
    from jax._src.lib import _jax  # pyright: ignore[reportPrivateImportUsage]

    def cpus() -> Any:
        client = distributed.global_state.client
        gloo = _jax.make_gloo_tcp_collectives(distributed_client=client, hostname=own_address)
        return xla_bridge.make_cpu_client(gloo)

    register_backend_factory("cpu", cpus, priority=0, fail_quietly=False)


def _start(built: Built, update: int, arrays: list[bytes]) -> Start:
    """The state to begin with, which came with the assignment."""
    shapes = built.problem.shapes
    like = state_like(shapes, built.server.init, built.worker.init)
    leaves, tree = jax.tree.flatten(like)
    params, state, memory = tree.unflatten(arrays_like(leaves, arrays))
    return Start(lambda: params, state, (memory,), update)


def _serve(built: Built, updates: Updates, order: Order, link: Link, said: Said) -> None:
    pending: deque[Call] = deque()
    while True:
        message = _next(said, wait=not pending)
        if isinstance(message, Make):
            built.fault("updating", [])
            pending.append(updates.ask(message.updates))
        elif isinstance(message, Give):
            given = updates.carry if message.whole else updates.carry.params
            link.send(Given(), [np.asarray(leaf) for leaf in jax.tree.leaves(given)])
        else:
            values = updates.read(pending.popleft())
            if order.number == 0:  # all have the same
                link.send(Made(values.tolist(), updates.waiting_s))


def _next(said: Said, *, wait: bool) -> Message | None:
    """The next message; None: there is none yet, and there are updates to wait for."""
    try:
        return said.get(block=wait)[0]
    except queue.Empty:
        return None
