"""The ``local`` engine against one worker and its peers: ``python -m benchmarks.local``.

Every contender trains the same model (see `benchmarks.problem`) with two workers of one thread,
each on a core of its own: distvi with one parameter server (engine ray without a core of their
own), PyTorch's DistributedDataParallel over
gloo, TensorFlow's ParameterServerStrategy with one parameter server. ``mesh`` is one such worker
alone. A step is a mini-batch of one worker. One contender computes at a time, while the processes
of the others are idle; a round asks each of them once. Ratios are taken within rounds.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.child import Commands, processes
from benchmarks.profile_local import PARTS
from benchmarks.step import (
    check,
    machine,
    measure,
    peers_environment,
    print_goal,
    ratio,
    thread_environment,
)

WORKERS, SERVERS = 2, 1

MESH, ASYNC, SYNC = "distvi, mesh, one core", "distvi, local, async", "distvi, local, sync"
ONE = "distvi, local, async, 1 in flight"  # a worker waits for its own update before it goes on
RAY = "distvi, ray, async"
TENSORFLOW = "TensorFlow, parameter server"
ALONE_ASYNC, ALONE_SYNC = "the work, async, one core", "the work, sync, one core"
WORK_ASYNC, WORK_SYNC = "the work, async, both cores", "the work, sync, both cores"
OURS = {
    ALONE_ASYNC: ["benchmarks.work", 1, "0"],
    ALONE_SYNC: ["benchmarks.work", WORKERS, "0"],
    WORK_ASYNC: ["benchmarks.work", 1, *range(WORKERS)],
    WORK_SYNC: ["benchmarks.work", WORKERS, *range(WORKERS)],
    MESH: ["benchmarks.distvi_step", "0"],
    ASYNC: ["benchmarks.distvi_local", "async", WORKERS, SERVERS],
    ONE: ["benchmarks.distvi_local", "async:1", WORKERS, SERVERS],
    SYNC: ["benchmarks.distvi_local", "sync", WORKERS, SERVERS],
    RAY: ["benchmarks.distvi_local", "async", WORKERS, SERVERS, "ray"],
}
DDP = {
    "PyTorch DDP, eager": ["benchmarks.peers.ddp", "eager", WORKERS],
    "PyTorch DDP, compiled": ["benchmarks.peers.ddp", "compiled", WORKERS],
}
PEERS = {**DDP, TENSORFLOW: ["benchmarks.peers.parameter_server", WORKERS, SERVERS]}
CONTENDERS = {**OURS, **PEERS}

# TensorFlow's servers listen on every interface and obey whoever calls: loopback is all they get.
LOOPBACK_ALONE = ["unshare", "--map-root-user", "--net", "sh", "-c",
                  'ip link set lo up && exec "$@"', "sh"]  # fmt: skip


class Goal(NamedTuple):
    """How many times as many examples a second one contender shall reach as the best of others."""

    ours: str
    others: tuple[str, ...]
    least: dict[int, float]  # by batch size


GOALS = (
    Goal(ASYNC, (MESH,), {200: 1.4, 500: 1.65}),
    Goal(ONE, (MESH,), {}),
    Goal(SYNC, (MESH,), {200: 1.4, 500: 1.55}),
    Goal(SYNC, tuple(DDP), {200: 1.6, 500: 1.6}),
    Goal(ASYNC, tuple(DDP), {}),
    Goal(RAY, (ASYNC,), {500: 0.85}),
    Goal(RAY, (TENSORFLOW,), {500: 2.0}),
    Goal(ASYNC, (TENSORFLOW,), {200: 2.0, 500: 2.0}),
    Goal(ONE, (TENSORFLOW,), {}),
    Goal(SYNC, (TENSORFLOW,), {}),
)

BOUNDS = {
    ASYNC: (WORK_ASYNC, ALONE_ASYNC),
    ONE: (WORK_ASYNC, ALONE_ASYNC),
    SYNC: (WORK_SYNC, ALONE_SYNC),
}
"""Two cores that do this and nothing else at the same time, and twice one core alone: the stricter
bound, for two cores take caches and memory from one another."""

ROUND_S = 3.0
STEPS_MULTIPLE = 20  # whole updates of two workers on both cores, whole calls of TensorFlow's


def commands(names: list[str], peers_python: Path) -> Commands:
    """What starts each contender."""
    found = {}
    for name in names:
        prefix = LOOPBACK_ALONE if name == TENSORFLOW else []
        python = peers_python if name in PEERS else sys.executable
        found[name] = [*prefix, python, "-m", *map(str, CONTENDERS[name])]
    return found


def report(console: Console, batch: int, step_ms: dict[str, list[float]]) -> None:
    """One batch size: a table, and what it says about the goals."""
    table = Table(title=f"batch {batch} of each worker", title_justify="left")
    table.add_column("contender")
    for column in ("examples/s", "min to max", "ms a gradient", "x mesh", "min to max"):
        table.add_column(column, justify="right")
    for name, values in step_ms.items():
        rates = [1000 * batch / value for value in values]
        row = [name, f"{median(rates):,.0f}", f"{min(rates):,.0f} to {max(rates):,.0f}"]
        row.append(f"{median(values):.2f}")
        if MESH in step_ms:
            middle, least, greatest = ratio(step_ms[MESH], values)
            row += [f"{middle:.2f}", f"{least:.2f} to {greatest:.2f}"]
        table.add_row(*row)
    console.print(table)
    for goal in GOALS:
        others = [name for name in goal.others if name in step_ms]
        if goal.ours in step_ms and others:
            best = min(others, key=lambda name: median(step_ms[name]))
            value = ratio(step_ms[best], step_ms[goal.ours])[0]
            print_goal(console, f"{goal.ours} / {best}", value, goal.least.get(batch), "at least")
    for ours, (work, alone) in BOUNDS.items():
        if ours in step_ms and work in step_ms:
            value = ratio(step_ms[work], step_ms[ours])[0]
            print_goal(console, f"{ours} / {work}", value, 0.95, "at least")
        if ours in step_ms and alone in step_ms:
            value = ratio(step_ms[alone], step_ms[ours])[0] / WORKERS
            text = f"{ours} / its bound, {WORKERS} x {alone}"
            print_goal(console, text, value, 0.95, "at least")


def report_time(console: Console, spent_ms: dict[str, dict[str, dict[str, float]]]) -> None:
    """Where the time goes, of the contenders that know it."""
    table = Table(title="processor time of a gradient, ms", title_justify="left")
    table.add_column("contender")
    for column in (*PARTS, "in all"):
        table.add_column(column, justify="right")
    for name, spent in spent_ms.items():
        own = spent["processor"]
        cells = [f"{own[part]:.2f}" if part in own else "" for part in PARTS]
        table.add_row(name, *cells, f"{sum(own.values()):.2f}")
    console.print(table)
    for name, spent in spent_ms.items():
        if parts := spent.get("round"):
            listed = ", ".join(f"{what} {time_ms:.2f}" for what, time_ms in parts.items())
            console.print(f"a round of {name}, ms (medians): {listed}")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.local", description=__doc__)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[200, 500])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--check", action="store_true", help="compare losses and gradients only")
    parser.add_argument("--peers-python", type=Path, help="default: an environment in .peers/")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every timing there")
    options = parser.parse_args()
    if len(os.sched_getaffinity(0)) < WORKERS:
        parser.error(f"{WORKERS} workers need {WORKERS} cores")
    console = Console(width=110)
    peers_python = options.peers_python or Path(sys.executable)
    if options.peers_python is None and set(options.only) & set(PEERS):
        peers_python = peers_environment()
    environment = thread_environment(1) | {"JAX_PLATFORMS": "cpu"}
    record: dict[str, Any] = {"machine": machine(), "step_ms": {}, "spent_ms": {}}
    console.print("{cpu}, {cores} cores, Python {python}".format(**record["machine"]))
    with processes(commands(options.only, peers_python), environment) as contenders:
        if options.check:
            for name, (loss, norm) in check(contenders).items():
                console.print(f"{name}: loss {loss:.2f}, norm of the gradient {norm:.2f}")
            return
        record["versions"] = {name: process.ask("describe") for name, process in contenders.items()}
        for name, version in record["versions"].items():
            console.print(f"{name}: " + ", ".join(f"{k} {v}" for k, v in version.items()))
        # Those that know where their time goes.
        accountants = {n: process for n, process in contenders.items() if n in OURS and n != MESH}
        for batch in options.batch_sizes:
            step_ms = measure(
                contenders, batch, options.rounds, round_s=ROUND_S, multiple=STEPS_MULTIPLE
            )
            record["step_ms"][batch] = step_ms
            report(console, batch, step_ms)
            spent = {name: process.ask("spent", batch) for name, process in accountants.items()}
            if spent:
                report_time(console, spent)
            record["spent_ms"][batch] = spent
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
