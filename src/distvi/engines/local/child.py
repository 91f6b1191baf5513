"""A worker's or a server's process: ``python -m distvi.engines.local.child DESCRIPTOR``.

It is told all else by the first message on that descriptor, and it ends when the other side does.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

_PR_SET_PDEATHSIG = 1  # from Linux's prctl.h


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
        cores: Which to run on; empty: any.
        first_batch: The first that a worker may be asked for.
        lot: Gradients that most updates are made of.
        cache: Folder of compiled programs; empty: none.
        main: Process number of the main process.
        path: Where Python finds modules.
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
    cores: tuple[int, ...]
    first_batch: int
    lot: int
    cache: str
    main: int
    path: tuple[str, ...]


def main() -> None:
    """Run the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides when to end
    connection = Connection(int(sys.argv[1]))
    assignment = Assignment(*json.loads(connection.recv_bytes()))
    _end_with(assignment.main)
    sys.path[:] = assignment.path
    if assignment.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, assignment.cores)  # before JAX counts cores
    try:
        _run(connection, assignment)
    except (EOFError, ConnectionError):  # the main process has ended, or has no more use for us
        pass
    except BaseException:
        from distvi.engines.local.messages import Failed, send

        traceback.print_exc()
        with contextlib.suppress(OSError):
            send(connection, Failed(traceback.format_exc()))
        _leave(1)
    _leave(0)


def _run(connection: Connection, assignment: Assignment) -> None:
    import jax

    from distvi.engines.memory import keep_freed_memory

    keep_freed_memory()
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


def _end_with(main: int) -> None:
    """Ask the kernel to end this process with the main one, even while it is stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != main:  # it ended before we asked
        _leave(1)


def _leave(status: int) -> None:
    """End at once: there is nothing to finish, and threads that prepare batches may be busy."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
