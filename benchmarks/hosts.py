"""Engine `mesh` over hosts beside one process and engine `local`, and its all-reduce.

    python -m benchmarks.hosts [--batch 500] [--rounds 7]

Two processes of this machine train the MNIST model in lockstep, in turn with one process on all
cores and with two workers and a server; a batch is that of one of the two. Ratios of examples per
second are taken within rounds. Then two processes sum the numbers of a gradient over gloo, as one
vector and as sixteen, in turn.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from benchmarks.distvi_step import Distvi
from distvi.engines.mesh.address import free_port
from distvi.engines.mesh.hosts.work import bind_collectives

LOOPBACK = "127.0.0.1"
NUMBERS = 4_419_544 // 4  # parameters of the MNIST model
PIECES = 16
UPDATES = 40
SUMS = 30


def compare_engines(batch: int, rounds: int) -> None:
    """Examples per second, in turn."""
    ours = "mesh, two processes"
    with (
        Distvi(engine="mesh", workers=2, hosts="localhost,localhost") as hosts,
        Distvi(engine="mesh", workers=1) as mesh,
        Distvi(engine="local", scheme="sync", workers=2, servers=1) as local,
    ):
        contenders = {ours: (hosts, 2), "mesh, one process": (mesh, 2), "local, sync": (local, 1)}
        for contender, workers in contenders.values():
            contender.prepare(workers * batch)
        took: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, (contender, workers) in contenders.items():
                took[name].append(contender.run(UPDATES, workers * batch))
    for name, times_s in took.items():
        ratios = [other / own for own, other in zip(times_s, took[ours], strict=True)]
        print(
            f"{name}: {2 * batch * UPDATES / median(times_s):.0f} examples per second, "
            f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) of {ours}"
        )


def sum_in_turn(number: int, port: int, rounds: int) -> None:
    """One of the two processes; the first prints milliseconds."""
    address = f"{LOOPBACK}:{port}"
    jax.distributed.initialize(address, 2, number, coordinator_bind_address=address)
    bind_collectives(LOOPBACK)
    mesh = Mesh(np.array(jax.devices()), ("all",))
    everywhere = NamedSharding(mesh, PartitionSpec())

    def summed(values: Any) -> Any:
        return jax.tree.map(lambda value: jax.lax.psum(value, "all"), values)

    whole = PartitionSpec()
    program = jax.jit(
        jax.shard_map(summed, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False)
    )

    def vectors(count: int) -> list[Array]:
        ones = np.ones(NUMBERS // count, np.float32)
        return [
            jax.make_array_from_callback(ones.shape, everywhere, lambda index: ones[index])
            for _ in range(count)
        ]

    took: dict[str, list[float]] = {}
    for _ in range(rounds):
        for count in (1, PIECES):
            took.setdefault(str(count), []).append(_ms(program, vectors(count)))
    if number == 0:
        print(json.dumps(took), flush=True)
    jax.distributed.shutdown()


def _ms(program: Callable[..., Any], values: Any) -> float:
    """Median milliseconds of a sum."""
    jax.block_until_ready(program(values))
    times_s = []
    for _ in range(SUMS):
        before_s = time.perf_counter()
        jax.block_until_ready(program(values))
        times_s.append(time.perf_counter() - before_s)
    return 1e3 * median(times_s)


def compare_sums(rounds: int) -> None:
    """Start the two processes, print."""
    port = str(free_port(LOOPBACK))
    command = [sys.executable, "-m", "benchmarks.hosts", "--rounds", str(rounds), "--sum"]
    processes = [
        subprocess.Popen([*command, str(number), port], stdout=subprocess.PIPE, text=True)
        for number in (0, 1)
    ]
    said, _ = processes[0].communicate()
    processes[1].communicate()
    took = json.loads(said.splitlines()[-1])
    print(
        f"all-reduce of {4 * NUMBERS / 1e6:.1f} MB: one vector {median(took['1']):.1f} ms, "
        f"{PIECES} vectors {median(took[str(PIECES)]):.1f} ms"
    )


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sum", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.sum:
        number, port = arguments.sum
        sum_in_turn(number, port, arguments.rounds)
        return
    compare_sums(arguments.rounds)
    compare_engines(arguments.batch, arguments.rounds)


if __name__ == "__main__":
    main()
