"""Time of predictions against their matrix products and GPyTorch: ``python -m benchmarks.predict``.

Every contender predicts the class probabilities of the same number of points with the same number
of Monte Carlo samples (see `benchmarks.predictions` and `benchmarks.peers.gpytorch`), in a process
of its own. They take turns, and ratios are taken within rounds, as in `benchmarks.step`.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.child import Commands, processes
from benchmarks.step import (
    machine,
    measure,
    peers_environment,
    print_goal,
    ratio,
    thread_environment,
)

OURS, AT_ONCE, BLOCKS, PEER = "distvi", "products at once", "products in blocks", "GPyTorch"
NAMES = {OURS: "distvi", AT_ONCE: "at-once", BLOCKS: "blocks"}
GOAL = 1.7
"""The most of the time of its matrix products, of all samples at once, that a prediction takes."""

CASES = ("500x50", "10000x10")
"""Points and samples."""


def commands(names: list[str], hidden_layers: int, samples: int, peers: Path) -> Commands:
    """What starts each contender."""
    found: dict[str, list[str | Path]] = {}
    for name in names:
        module = ["benchmarks.peers.gpytorch"]
        if name != PEER:
            module = ["benchmarks.predictions", NAMES[name]]
        python = peers if name == PEER else Path(sys.executable)
        found[name] = [python, "-m", *module, str(hidden_layers), str(samples)]
    return found


def report(console: Console, title: str, took_ms: dict[str, list[float]]) -> None:
    """One case: a table, and what it says about the goal."""
    table = Table(title=title, title_justify="left")
    table.add_column("contender")
    for column in ("ms", "min to max", f"{OURS} / it", "min to max"):
        table.add_column(column, justify="right")
    for name, values in took_ms.items():
        middle, least, greatest = ratio(took_ms[OURS], values)
        row = [name, f"{median(values):.1f}", f"{min(values):.1f} to {max(values):.1f}"]
        table.add_row(*row, f"{middle:.3f}", f"{least:.3f} to {greatest:.3f}")
    console.print(table)
    print_goal(
        console, f"{OURS} / {AT_ONCE}", ratio(took_ms[OURS], took_ms[AT_ONCE])[0], GOAL, "at most"
    )


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predict", description=__doc__)
    parser.add_argument("--hidden-layers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cases", nargs="+", default=list(CASES), metavar="POINTSxSAMPLES")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--without-peer", action="store_true", help="do not run GPyTorch")
    parser.add_argument("--peers-python", type=Path, help="default: an environment in .peers/")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every timing there")
    options = parser.parse_args()
    console = Console(width=100)
    names, peers = [OURS, AT_ONCE, BLOCKS], Path(sys.executable)
    if not options.without_peer:
        names, peers = [*names, PEER], options.peers_python or peers_environment()
    environment = thread_environment(len(os.sched_getaffinity(0))) | {"JAX_PLATFORMS": "cpu"}
    record: dict[str, Any] = {"machine": machine(), "took_ms": {}}
    console.print("{cpu}, {cores} cores, Python {python}".format(**record["machine"]))
    for hidden_layers in options.hidden_layers:
        for points, samples in (map(int, case.split("x")) for case in options.cases):
            started = commands(names, hidden_layers, samples, peers)
            with processes(started, environment) as contenders:
                took_ms = measure(contenders, points, options.rounds, trial_steps=1)
            title = f"{hidden_layers} hidden, {points:,} points, {samples} samples"
            record["took_ms"][title] = took_ms
            report(console, title, took_ms)
    if options.without_peer:
        console.print(f"{PEER} was not run")
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
