"""Records of a study that nobody ran: numbers from a formula, so that what is true is known."""

import math
from hashlib import sha256
from itertools import product
from random import Random

from distvi.runs.records import Measured, Record, Value

ROWS = 12


def record(settings: dict[str, Value], seed: int, *, block: str = "main") -> Record:
    """One training, its numbers a function of its settings and its seed.

    Time falls as 1/workers under ``async`` and as 1/(workers ** 0.7) under ``sync`` and ``mesh``;
    the error is 3 % everywhere, and under ``async`` grows by a percent for each worker beyond the
    first. ``async`` with 32 workers diverges.
    """
    random = Random(f"{sorted(settings.items())}/{seed}")
    workers, scheme = int(settings.get("workers", 1)), str(settings.get("scheme", "sync"))
    name = sha256(f"{sorted(settings.items())}/{seed}".encode()).hexdigest()[:16]
    is_async = scheme == "async"
    if is_async and workers >= 32:
        reason = "the ELBO was not finite at update 17"
        return Record(name, block, settings, seed, "diverged", reason)
    time_s = 100.0 / (workers if is_async else workers**0.7) * random.uniform(0.97, 1.03)
    error = 0.03 + 0.01 * (workers - 1) * is_async + random.gauss(0, 0.002)
    shares = [(row + 1) / ROWS for row in range(ROWS)]
    errors = [error + 0.87 * math.exp(-6 * share) for share in shares]
    examples = 48_000
    curve: dict[str, list[int | float | None]] = {
        "update": [round(240 * share) for share in shares],
        "examples": [round(examples * share) for share in shares],
        "time_s": [time_s * share for share in shares],
        "wall_s": [4.0 * share for share in shares],
        "bytes": [4.0e6 * 480 * share for share in shares],
        "neg_elbo": [2.0 * math.exp(-3 * share) + 0.3 for share in shares],
        "test_error_rate": list(errors),
        "test_mnll": [4 * each for each in errors],
    }
    late = workers - 1 if is_async else 0
    measured = Measured(
        test={"error_rate": errors[-1], "mnll": 4 * errors[-1], "ece": 0.01, "brier": 0.05},
        curve=curve,
        updates=240,
        examples=examples,
        time_s=time_s,
        clock="virtual",
        parts_s={"training": 3.5, "evaluation": 0.4, "compile": 0.0, "whole": 4.0},
        staleness={late: 200, max(0, late - 1): 40} if late else {0: 240},
        gradients={"used": 240 * (1 if is_async else workers), "refused": 3, "cancelled": 0},
        bytes={"pushed": 960_000_000, "pulled": 960_000_000},
        idle_fraction=0.02 if is_async else 0.02 + 0.3 * (1 - 1 / workers),
    )
    return Record(name, block, settings, seed, "done", "", measured)


def study(seeds: int = 3, **axes: list[Value]) -> list[Record]:
    """A full grid; by default three schemes on 1 to 32 workers."""
    axes = axes or {"scheme": ["sync", "async", "mesh"], "workers": [1, 2, 4, 8, 16, 32]}
    grid = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    return [record(settings, seed) for settings in grid for seed in range(seeds)]
