"""More servers on a real network: the poster's C5 and C6, beside what the simulated cluster says.

    python -m benchmarks.network [--updates 12] [--rounds 3]

As root: machines are network namespaces, a worker or a server on each, and every link carries 100
Mbit/s in each direction at once (network-bound), or as much as the kernel moves (compute-bound:
larger batches). Engine `ray` trains the MNIST model there with one, two and four servers in turn.
What gradients and updates took goes into a simulated cluster with the same links, whose prediction
stands beside the time that was measured; and so does engine `mesh` over the workers' hosts, which
exchanges gradients by an all-reduce.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.distvi_step import Distvi
from distvi.system.settings import write_toml
from distvi.testing.network import Network, RayCluster, unavailable

WORKERS, SERVERS = 2, (1, 2, 4)
MACHINES = 1 + WORKERS + max(SERVERS)  # the first drives
LINK_BYTES_PER_S = 96e6 / 8  # of 100 Mbit/s, what the bucket lets through
MEMORY_BYTES_PER_S = 2.5e9  # of a link without a bucket: copies in the kernel
CASES = {"network-bound": ("100mbit", 100), "compute-bound": ("", 2000)}


def inside(batch: int, updates: int, rounds: int) -> None:
    """On the first machine: train with each number of servers, in turn; print what it took."""
    found: dict[int, list[dict[str, float]]] = {servers: [] for servers in SERVERS}
    for _ in range(rounds):
        for servers in SERVERS:
            shape: dict[str, Any] = {"workers": WORKERS, "servers": servers, "replicas": 0}
            with Distvi(engine="ray", address="auto", encrypt=False, **shape) as ours:
                ours.prepare(batch)
                engine: Any = ours._engines[batch]
                before = [_work(engine, engine.update)]
                update_s = ours.run(updates, batch) / updates
                after = _work(engine, engine.update)
                (gradients_s, applies_s) = (
                    (new - old) / updates for new, old in zip(after, before[0], strict=True)
                )
                found[servers].append(
                    {"update_s": update_s, "gradient_s": gradients_s, "apply_s": applies_s}
                )
    print(json.dumps(found))


def inside_mesh(batch: int, updates: int, rounds: int, hosts: str) -> None:
    """On a worker's machine: train by an all-reduce, or assist the one that does."""
    ours = Distvi(engine="mesh", hosts=hosts)
    plan = ours._plan(WORKERS * batch)
    if not plan.config.engine.leads:
        plan.config.engine.assist(plan.problem.examples)
        return
    with ours:
        ours.prepare(WORKERS * batch)
        print(json.dumps([ours.run(updates, WORKERS * batch) / updates for _ in range(rounds)]))


def _work(engine: Any, updates: int) -> tuple[float, float]:
    """Seconds that a worker has computed, and a server, in the mean."""
    status = engine.status()
    return (
        sum(each.computing_s for each in status.workers) / len(status.workers),
        sum(each.applying_s for each in status.servers) / len(status.servers),
    )


class Measured(NamedTuple):
    """What was found on a network.

    Attributes:
        servers: By their number, what `inside` found in each round.
        mesh_s: Of updates by an all-reduce.
    """

    servers: dict[int, list[dict[str, float]]]
    mesh_s: list[float]


def measured(rate: str, batch: int, updates: int, rounds: int) -> Measured:
    """What was found on a network of this rate."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, Network(MACHINES, rate) as network:
        cpus = [0, *[1] * WORKERS, *[0] * max(SERVERS)]
        servers = range(1 + WORKERS, MACHINES)
        cluster = RayCluster(network, Path(folder), cpus, servers)
        inner = ("--inside", str(batch), "--updates", str(updates), "--rounds", str(rounds))
        program = (sys.executable, "-m", "benchmarks.network", *inner)
        environment = os.environ | cluster.environment
        found = json.loads(_output(network.on(0, *program), environment))
        hosts = ",".join(network.address(1 + worker) for worker in range(WORKERS))
        others = [
            subprocess.Popen(network.on(1 + worker, *program, "--hosts", hosts))
            for worker in range(1, WORKERS)
        ]
        mesh_s = json.loads(_output(network.on(1, *program, "--hosts", hosts), environment))
        for other in others:
            other.wait(60)
        return Measured({int(servers): rows for servers, rows in found.items()}, mesh_s)


def _output(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"on the network: {done.stderr}")
    return done.stdout


def predicted(rate: str, batch: int, servers: int, row: dict[str, float], **shape: Any) -> float:
    """Seconds of an update on a simulated cluster with the same links, gradients and updates."""
    bandwidth = LINK_BYTES_PER_S if rate else MEMORY_BYTES_PER_S
    machine = {"latency_s": 1e-4, "bandwidth_bytes_per_s": bandwidth}
    cluster = {
        "gradient": {"overhead_s": row["gradient_s"]},
        "workers": machine,
        "servers": machine | {"overhead_s": row["apply_s"]},
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "cluster.toml")
        file.write_text(write_toml(cluster))
        options = {"workers": WORKERS, "servers": servers, "cluster": str(file)} | shape
        with Distvi(engine="simulated", **options) as simulated:
            simulated.prepare(batch)
            engine = simulated._engines[batch]
            before_s, updates = engine.now_s(), 4
            simulated.run(updates, batch)
            return (engine.now_s() - before_s) / updates


def main() -> None:
    """Measure, predict, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--inside", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--hosts", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.hosts:
        inside_mesh(arguments.inside, arguments.updates, arguments.rounds, arguments.hosts)
        return
    if arguments.inside:
        inside(arguments.inside, arguments.updates, arguments.rounds)
        return
    if why := unavailable():
        print(f"skipped: {why}")
        return
    for case, (rate, batch) in CASES.items():
        rows, mesh_s = measured(rate, batch, arguments.updates, arguments.rounds)
        print(f"{case}: {rate or 'no limit'}, batch {batch}, {WORKERS} workers, sync")
        ones = [row["update_s"] for row in rows[SERVERS[0]]]
        for servers, each in rows.items():
            row = {name: median(one[name] for one in each) for name in each[0]}
            speed = median(one / own["update_s"] for one, own in zip(ones, each, strict=True))
            says = predicted(rate, batch, servers, row)
            print(
                f"  {servers} servers: {1e3 * row['update_s']:.0f} ms an update, {speed:.2f} x one "
                f"server; simulated {1e3 * says:.0f} ms ({says / row['update_s'] - 1:+.0%})"
            )
        print(f"  all-reduce over hosts: {1e3 * median(mesh_s):.0f} ms an update")


if __name__ == "__main__":
    main()
