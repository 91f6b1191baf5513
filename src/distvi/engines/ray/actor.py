"""What Ray starts: a process that sets its environment before JAX is loaded.

So nothing that loads JAX is imported here. (A ``runtime_env`` would do it, too, and takes 3 s.)
"""

import contextlib
import os
from typing import Any

import ray


class Actor:
    """A process of the run."""

    def run(self, environment: dict[str, str], assignment: tuple[Any, ...], x: Any, y: Any) -> None:
        """Be a worker or a server; arguments as of `distvi.engines.ray.process.run`."""
        os.environ.update(environment)
        with contextlib.suppress(OSError):  # Ray runs actors at 15; only root may take that back
            os.setpriority(os.PRIO_PROCESS, 0, 0)
        from distvi.engines.ray.process import run

        run(assignment, x, y, ray.get_runtime_context().get_node_id())
