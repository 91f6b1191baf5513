"""What a gradient costs in time alone, by the size of the cluster.

    taskset -c 1 python -m benchmarks.simulated_scale

The cells of ``examples/thousand-workers.toml``, one after the other, in one process: wall and
processor time, time per gradient, its growth from the fewest workers to the most, and the peak
of memory.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from distvi.studies.simulation import Simulation, plan

EXAMPLE = Path(__file__).parents[1] / "examples" / "thousand-workers.toml"


def measure(simulation: Simulation) -> list[dict[str, Any]]:
    """A row for each cell."""
    rows = []
    results = simulation.results()
    while True:
        begin_s, begin_processor_s = time.perf_counter(), time.process_time()
        result = next(results, None)
        if result is None:
            return rows
        processor_s = time.process_time() - begin_processor_s
        cell, timing = result
        gradients = timing.gradients + timing.gradients_refused + timing.gradients_cancelled
        rows.append(
            {
                "scheme": cell.asked,
                "workers": cell.workers,
                "servers": cell.servers,
                "gradients": gradients,
                "wall_s": time.perf_counter() - begin_s,
                "processor_s": processor_s,
                "us_per_gradient": 1e6 * processor_s / gradients,
            }
        )


def main() -> None:
    """Measure, and print a JSON object a line."""
    begin_s = time.perf_counter()
    rows = measure(plan(Path(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLE))
    for row in rows:
        sys.stdout.write(json.dumps(row) + "\n")
    costs: dict[str, list[float]] = {}
    for row in rows:
        costs.setdefault(row["scheme"], []).append(row["us_per_gradient"])
    total = {
        "total_wall_s": time.perf_counter() - begin_s,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "growth_of_cost": {scheme: cost[-1] / cost[0] for scheme, cost in costs.items()},
    }
    sys.stdout.write(json.dumps(total) + "\n")


if __name__ == "__main__":
    main()
