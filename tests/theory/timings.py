"""Runs of the simulated cluster, as ``python -m tests.theory.timings``: JSON on standard output.

In a process of its own, without the type checks of the test process, which cost fifty times what
the simulator does.
"""

import json
import math
import sys

from distvi.aggregation import (
    Scheme,
    asynchronous,
    backup_workers,
    check_liveness,
    dynamic_backup,
    softsync,
    sync,
)
from distvi.engines.simulated.cluster import Cluster
from distvi.engines.simulated.settings import ClusterSettings, cluster_of
from distvi.engines.simulated.timing import Timing, time_rules
from distvi.parameters import place
from distvi.protocol import Rules

BANDWIDTH = 1e6
TENSORS = [25_000] * 10
LIGHT = {"kind": "lognormal", "sigma": 0.1}
EXPONENTIAL = {"kind": "shifted-exponential", "random_share": 1.0}
NO_NETWORK = {"bandwidth_bytes_per_s": math.inf}


def cluster(jitter: dict, gradient_s: float = 1.0, **tables: dict) -> ClusterSettings:
    table = {
        "gradient": {"overhead_s": gradient_s, "jitter": jitter},
        "workers": NO_NETWORK,
        "servers": NO_NETWORK,
    }
    return cluster_of(table | tables, "test")


def timing(
    scheme: Scheme,
    settings: ClusterSettings,
    workers: int,
    gradients: int,
    part_bytes: tuple[int, ...] = (4,),
) -> Timing:
    updates = gradients // check_liveness(scheme, workers)
    return time_rules(
        Rules(scheme, updates=updates), Cluster(settings, workers, part_bytes, batch_size=1)
    )


def runs() -> dict[str, Timing]:
    """All runs that the tests judge."""
    exponential, light = cluster(EXPONENTIAL), cluster(LIGHT)
    done = {}
    for workers in (2, 8):
        done[f"sync {workers}"] = timing(sync(), exponential, workers, 20_000)
        done[f"async {workers}"] = timing(asynchronous(), exponential, workers, 20_000)
    for workers in (4, 30):
        done[f"equal {workers}"] = timing(asynchronous(), light, workers, 200 * workers)
    uneven = cluster(LIGHT, workers=NO_NETWORK | {"speeds": [1.0, 2.0, 3.0]})
    done["unequal 30"] = timing(asynchronous(), uneven, 30, 200 * 30)
    for n in (1, 2, 3, 4, 15, 30):
        done[f"softsync {n}"] = timing(softsync(n), light, 30, 30 * 200)
    for placement in ("ranges", "greedy"):
        for servers in (1, 2, 4, 8):
            part_bytes = place(placement, TENSORS, servers).bytes
            narrow = cluster(
                {"kind": "none"}, gradient_s=0.01, servers={"bandwidth_bytes_per_s": BANDWIDTH}
            )
            done[f"{placement} {servers}"] = timing(asynchronous(), narrow, 32, 4000, part_bytes)
    steady = {"kind": "none"}
    straggler = cluster(steady, workers=NO_NETWORK | {"speeds": [1.0] * 7 + [0.1]})
    for name, settings in (("equal", cluster(steady)), ("straggler", straggler)):
        done[f"dynamic, {name}"] = timing(dynamic_backup(1, 8.0), settings, 8, 8 * 300)
        for n in range(1, 9):
            done[f"backup {n}, {name}"] = timing(backup_workers(n), settings, 8, n * 300)
    done["no network"] = timing(asynchronous(), cluster({"kind": "none"}), 16, 3200)
    return done


if __name__ == "__main__":
    json.dump({name: run._asdict() for name, run in runs().items()}, sys.stdout)
