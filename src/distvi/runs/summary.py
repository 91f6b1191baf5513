"""What summary.json says of a run."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from distvi.config.run import RunConfig
from distvi.engines.base import Devices

_OF_SERVERS = (
    "in_flight",
    "placement",
    "gradients_cancelled",
    "memories_lost",
    "restarts",
    "incidents",
)
_PACKAGES = ("jax", "jaxlib", "optax", "numpy")


def summarize(
    config: RunConfig,
    status: str,
    *,
    updates: int,
    counters: Mapping[str, Any],
    statistics: Mapping[str, Any],
    devices: Devices,
    wall_time_s: Mapping[str, float],
    test: Mapping[str, float],
    test_samples: int | None,
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """The fields of summary.json.

    Args:
        config: The resolved configuration.
        status: ``running``, ``done``, ``interrupted`` or ``failed``.
        updates: Made since the run began.
        counters: The timers of the run, in seconds.
        statistics: The engine's fields, see `distvi.engines.Engine.statistics`.
        devices: Where the updates are computed.
        wall_time_s: Of the whole run and its parts, see `distvi.runs.wall_time`.
        test: Metrics of the last test.
        test_samples: Monte Carlo samples of it.
        data: Task, targets, inputs, classes and rows, see `distvi.data.facts`.
    """
    time_s = counters["training_time_s"]
    return {
        "status": status,
        "dataset": config.data.dataset,
        "data": dict(data),
        "model": config.model.kind,
        "engine": config.engine.kind,
        "scheme": statistics["scheme"],
        "rules": list(config.algorithm.rules),
        "workers": statistics["workers"],
        "servers": statistics["servers"],
        "batch_size": config.training.batch_size,
        "learning_rate": config.training.learning_rate,
        "optimizer": config.training.optimizer,
        "seed": config.training.seed,
        "updates": updates,
        "gradients_used": statistics["gradients_used"],
        "gradients_refused": statistics["gradients_refused"],
        "examples": statistics["examples"],
        "clock": statistics["clock"],
        "training_time_s": time_s,
        "compile_time_s": counters["compile_time_s"],
        "evaluation_time_s": counters["evaluation_time_s"],
        "wall_time_s": dict(wall_time_s),
        "examples_per_s": statistics["examples"] / time_s if time_s else None,
        "staleness": statistics["staleness"],
        "bytes": statistics["bytes"],
        "worker_idle_fraction": counters["waiting_s"] / time_s if time_s else None,
        "neg_elbo_per_example": counters["neg_elbo"],
        **{name: value for name, value in statistics.items() if name in _OF_SERVERS},
        "test": dict(test),
        "test_samples": test_samples,
        "warnings": list(counters["warnings"]),
        "versions": {
            "distvi": version("distvi"),
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cpus": os.cpu_count(),
            "device": devices[0].device_kind,
            "devices": len(devices),
        },
    }
