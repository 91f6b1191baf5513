"""What synchronous training over devices says of itself in summary.json."""

from typing import Any

import jax

from distvi.engines.base import Problem
from distvi.engines.statistics import describe_staleness


def mesh_statistics(problem: Problem, batches: int, workers: int, updates: int) -> dict[str, Any]:
    """Its fields of summary.json.

    A device is a worker that gives one gradient to every update; there is no server. Bytes are
    those that each of several devices gives to the all-reduce, and takes from it.

    Args:
        problem: What is optimized.
        batches: That an update consumes.
        workers: Devices.
        updates: Made so far.
    """
    gradients = updates * workers
    params_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(problem.shapes))
    exchanged_bytes = gradients * batches * params_bytes if workers > 1 else 0
    return {
        "clock": "wall",
        "workers": workers,
        "servers": 0,
        "scheme": "sync",
        "gradients_used": gradients,
        "gradients_refused": 0,
        "examples": updates * problem.batch_size * batches,
        "staleness": describe_staleness({0: gradients} if gradients else {}),
        "bytes": {
            "pushed": exchanged_bytes,
            "pulled": exchanged_bytes,
            "largest_server_share": None,
        },
    }
