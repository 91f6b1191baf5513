"""A worker's or a server's process, started with the descriptor of a connection as its argument.

It is told all else by the first message on that descriptor, and it ends when the other side does.
"""

import contextlib
import json
import os
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple


class Assignment(NamedTuple):
    """What a process is to do.

    Attributes:
        role: ``worker`` or ``server``.
        number: Which one.
        workers: How many there are.
        servers: How many there are.
        placement: Which server holds what.
        recipe: How to build the problem: its factory and settings.
        x: The examples' inputs, a `SharedArray`.
        y: Their targets.
        parameters: Descriptor of the slots of the parameters.
        gradients: Of those of the gradients.
        states: Of those of the optimizer's states.
        published: Of those of the versions that are complete.
        doorbells: Descriptors too: to a worker its own, to a server those it rings.
        cores: Which to run on; empty: any.
        first_batch: The first that a worker may be asked for.
        lot: Gradients that most updates are made of.
        cache: Folder of compiled programs; empty: none.
    """

    role: str
    number: int
    workers: int
    servers: int
    placement: str
    recipe: tuple[str, dict[str, Any]]
    x: tuple[Any, ...]
    y: tuple[Any, ...]
    parameters: int
    gradients: int
    states: int
    published: int
    doorbells: tuple[int, ...]
    cores: tuple[int, ...]
    first_batch: int
    lot: int
    cache: str


def main() -> None:
    """Run the process."""
    for ending in (signal.SIGINT, signal.SIGTERM):  # a whole group may hear of it, but
        signal.signal(ending, signal.SIG_IGN)  # the main process decides when to end
    connection = Connection(int(sys.argv[1]))
    try:
        assignment = Assignment(*json.loads(connection.recv_bytes()))
        _run(connection, assignment)
    except (EOFError, ConnectionError):  # the main process has ended, or has no more use for us
        pass
    except BaseException:
        from distvi.engines.coordinator.messages import Failed, send

        with contextlib.suppress(OSError):
            send(connection, Failed(traceback.format_exc()))
        with contextlib.suppress(OSError):  # the disk may be full
            traceback.print_exc()
        _leave(1)
    _leave(0)


def _run(connection: Connection, assignment: Assignment) -> None:
    import jax

    from distvi.system.malloc import keep_freed_memory

    keep_freed_memory()
    # Each result is waited for at once: a thread of its own would only be one more to wake.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if assignment.cache:
        jax.config.update("jax_compilation_cache_dir", assignment.cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if assignment.role == "worker":
        from distvi.engines.local.worker import work

        work(connection, assignment)
    else:
        from distvi.engines.local.server import serve

        serve(connection, assignment)


def pin(cores: tuple[int, ...]) -> None:
    """Keep all threads of this process, and those that they start from now on, to these cores.

    Where there are any. XLA computes in the caller's thread and in one of its own, which is there
    already: left alone, it would take a core that belongs to another worker.
    """
    if not cores or not hasattr(os, "sched_setaffinity"):
        return
    tasks = Path("/proc/self/task")
    threads = [int(task.name) for task in tasks.iterdir()] if tasks.exists() else [0]
    for thread in threads:
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(thread, cores)


def _leave(status: int) -> None:
    """End at once: there is nothing to finish, and threads that prepare batches may be busy."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)
