"""A worker's or a server's process, started with the descriptor of a connection as its argument.

It is told all else by the first message on that descriptor, and it ends when the other side does.
"""

import contextlib
import json
import os
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from distvi.engines.local.assignment import Assignment


def main() -> None:
    """Run the process."""
    connection = Connection(int(sys.argv[1]))
    try:
        assignment = Assignment(*json.loads(connection.recv_bytes()))
        _run(connection, assignment)
    except (EOFError, ConnectionError):  # the main process has ended, or has no more use for us
        pass
    except BaseException:
        from distvi.engines.coordinator.messages import Failed
        from distvi.engines.local.connection import send

        with contextlib.suppress(OSError):
            send(connection, Failed(traceback.format_exc()))
        with contextlib.suppress(OSError):  # the disk may be full
            traceback.print_exc()
        _leave(1)
    _leave(0)


def _run(connection: Connection, assignment: Assignment) -> None:
    import jax

    from distvi.engines.local.roles import serve, work
    from distvi.system.compilation_cache import mend_torn
    from distvi.system.malloc import keep_freed_memory

    keep_freed_memory()
    # Each result is waited for at once: a thread of its own would only be one more to wake.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if assignment.cache:
        mend_torn(Path(assignment.cache))
        jax.config.update("jax_compilation_cache_dir", assignment.cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    (work if assignment.role == "worker" else serve)(connection, assignment)


def _leave(status: int) -> None:
    """End at once: there is nothing to finish, and threads that prepare batches may be busy."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)
