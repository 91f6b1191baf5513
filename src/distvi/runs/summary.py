"""What summary.json says of a run."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from distvi.config import RunConfig
from distvi.engines.mesh import Devices

_PACKAGES = ("jax", "jaxlib", "optax", "numpy")


def summarize(
    config: RunConfig,
    status: str,
    *,
    updates: int,
    counters: Mapping[str, Any],
    devices: Devices,
    params_bytes: int,
    test: Mapping[str, float],
) -> dict[str, Any]:
    """The fields of summary.json.

    A device of the mesh is a worker that gives one gradient to every update; there is no server.
    ``bytes`` counts the gradients that each of several devices gives to the all-reduce, and takes
    from it.

    Args:
        config: The resolved configuration.
        status: ``running``, ``done``, ``interrupted`` or ``failed``.
        updates: Made since the run began.
        counters: The timers of the run, in seconds.
        devices: Where the updates are computed.
        params_bytes: Size of one gradient.
        test: Metrics of the last evaluation.
    """
    workers = len(devices)
    gradients = updates * workers
    exchanged_bytes = gradients * params_bytes if workers > 1 else 0
    time_s = counters["training_time_s"]
    examples = updates * (config.training.batch_size or 0)
    return {
        "status": status,
        "dataset": config.data.dataset,
        "model": config.model.kind,
        "engine": config.engine.engine,
        "scheme": config.engine.scheme,
        "workers": workers,
        "servers": 0,
        "batch_size": config.training.batch_size,
        "learning_rate": config.training.learning_rate,
        "optimizer": config.training.optimizer,
        "seed": config.training.seed,
        "updates": updates,
        "gradients_used": gradients,
        "gradients_refused": 0,
        "examples": examples,
        "clock": "wall",
        "training_time_s": time_s,
        "compile_time_s": counters["compile_time_s"],
        "evaluation_time_s": counters["evaluation_time_s"],
        "examples_per_s": examples / time_s if time_s else None,
        "staleness": {
            "mean": 0.0,
            "p50": 0,
            "p99": 0,
            "max": 0,
            "histogram": {"0": gradients} if gradients else {},
        },
        "bytes": {
            "pushed": exchanged_bytes,
            "pulled": exchanged_bytes,
            "largest_server_share": None,
        },
        "worker_idle_fraction": counters["waiting_s"] / time_s if time_s else None,
        "neg_elbo_per_example": counters["neg_elbo"],
        "test": dict(test),
        "versions": {
            "distvi": version("distvi"),
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cpus": os.cpu_count(),
            "device": devices[0].device_kind,
            "devices": workers,
        },
    }
