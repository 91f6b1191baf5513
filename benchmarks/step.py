"""Time of a training step against PyTorch and TensorFlow: ``python -m benchmarks.step``.

Every contender trains the same model (see `benchmarks.problem`) in a process of its own, with as
many threads as the process may use cores. One contender computes at a time; a round asks each of
them once, in an order that rotates, so that a machine whose speed drifts drifts for all. Ratios
are taken within rounds.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import problem
from benchmarks.child import ROOT, Commands, Process, processes

OURS, FLOOR = "distvi", "matrix products alone"
PEERS = {
    "PyTorch, eager": ["benchmarks.peers.pytorch", "eager"],
    "PyTorch, compiled": ["benchmarks.peers.pytorch", "compiled"],
    "TensorFlow, graph": ["benchmarks.peers.tensorflow"],
}
CONTENDERS = {OURS: ["benchmarks.distvi_step"], FLOOR: ["benchmarks.floor"], **PEERS}

GOALS = {200: (0.65, None), 1000: (0.60, 0.80)}
"""Per batch size: the most of the fastest peer's step, the least of ours that the floor takes."""

ROUND_S = 1.0
SETTLE_S = 0.3  # idle threads of the contender before may spin on for a moment


def commands(names: list[str], peers_python: Path) -> Commands:
    """What starts each contender."""
    pythons = {name: peers_python if name in PEERS else Path(sys.executable) for name in names}
    return {name: [python, "-m", *CONTENDERS[name]] for name, python in pythons.items()}


def thread_environment(threads: int) -> dict[str, str]:
    """The libraries' variables for so many threads; JAX takes as many as it may use cores."""
    return {
        "OMP_NUM_THREADS": str(threads),
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


def measure(
    contenders: dict[str, Process],
    batch: int,
    rounds: int,
    *,
    round_s: float = ROUND_S,
    multiple: int = 1,
    trial_steps: int = 10,
) -> dict[str, list[float]]:
    """Milliseconds a step of every contender, one number a round.

    Args:
        contenders: Their processes.
        batch: Examples per step.
        rounds: How often each of them has its turn.
        round_s: About how long a turn is.
        multiple: Of this the steps of a turn are a multiple.
        trial_steps: Such multiples by which the length of a turn is found; half of them is the
            least that a turn has.
    """
    steps = {}
    for name, process in contenders.items():
        process.ask("prepare", batch)
        trial = trial_steps * multiple
        turns = round_s * trial / process.ask("run", trial, batch) / multiple
        steps[name] = multiple * max(trial_steps // 2, 1, round(turns))
    names = list(contenders)
    step_ms: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            time.sleep(SETTLE_S)
            seconds = contenders[name].ask("run", steps[name], batch)
            step_ms[name].append(1000 * seconds / steps[name])
    return step_ms


def ratio(numerator: list[float], denominator: list[float]) -> tuple[float, float, float]:
    """Median, least and greatest of the ratios within rounds."""
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    return median(ratios), min(ratios), max(ratios)


def report(console: Console, title: str, batch: int, step_ms: dict[str, list[float]]) -> None:
    """One batch size: a table, and what it says about the goals."""
    table = Table(title=f"{title}, batch {batch}", title_justify="left")
    table.add_column("contender")
    for column in ("ms a step", "min to max", f"{OURS} / it", "min to max"):
        table.add_column(column, justify="right")
    for name, values in step_ms.items():
        row = [name, f"{median(values):.2f}", f"{min(values):.2f} to {max(values):.2f}"]
        if OURS in step_ms:
            middle, least, greatest = ratio(step_ms[OURS], values)
            row += [f"{middle:.3f}", f"{least:.3f} to {greatest:.3f}"]
        table.add_row(*row)
    console.print(table)
    most, floor_least = GOALS.get(batch, (None, None))
    peers = [name for name in PEERS if name in step_ms]
    if OURS in step_ms and peers:
        fastest = min(peers, key=lambda name: median(step_ms[name]))
        text = f"{OURS} / fastest peer ({fastest})"
        print_goal(console, text, ratio(step_ms[OURS], step_ms[fastest])[0], most, "at most")
    if OURS in step_ms and FLOOR in step_ms:
        text = f"{FLOOR} / {OURS}"
        print_goal(console, text, ratio(step_ms[FLOOR], step_ms[OURS])[0], floor_least, "at least")


def print_goal(console: Console, text: str, value: float, goal: float | None, sense: str) -> None:
    """What a ratio says about its goal, if it has one."""
    verdict = ""
    if goal is not None:
        met = value <= goal if sense == "at most" else value >= goal
        verdict = f" (goal: {sense} {goal:.2f}; {'met' if met else 'MISSED'})"
    console.print(f"{text}: {value:.3f}{verdict}")


def check(contenders: dict[str, Process]) -> dict[str, tuple[float, float]]:
    """Loss and gradient norm of every contender on the same parameters, batch and noise.

    Raises:
        SystemExit: they differ by more than 1e-4 of their size.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.npz"
        np.savez(path, allow_pickle=False, **problem.random_case(batch=200))
        results = {name: process.ask("loss", path) for name, process in contenders.items()}
    values = np.array(list(results.values()))
    if (np.ptp(values, axis=0) > 1e-4 * values[0]).any():
        raise SystemExit(f"the contenders do not compute the same loss and gradient: {results}")
    return results


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((s.split(":")[1].strip() for s in lines if s.startswith("model name")), model)
    cores = len(os.sched_getaffinity(0))
    return {"cpu": model, "cores": cores, "python": platform.python_version()}


def peers_environment() -> Path:
    """The Python of the peers' environment, made from ``requirements.txt`` on first use."""
    folder = ROOT / ".peers"
    python = folder / "bin" / "python"
    finished = folder / "installed"
    requirements = ROOT / "benchmarks" / "requirements.txt"
    if not finished.exists() or finished.read_text() != requirements.read_text():
        Console(stderr=True).print(f"installing PyTorch, GPyTorch and TensorFlow into {folder}")
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", requirements], check=True)
        finished.write_text(requirements.read_text())
    return python


def has_gpu() -> bool:
    """Whether JAX sees a GPU; asked in another process, which frees it again."""
    code = "import jax; print(jax.default_backend())"
    environment = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return answer.stdout.strip() == "gpu"


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[200, 1000])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--check", action="store_true", help="compare losses and gradients only")
    parser.add_argument("--peers-python", type=Path, help="default: an environment in .peers/")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every timing there")
    options = parser.parse_args()
    console = Console(width=100)
    peers_python = options.peers_python or Path(sys.executable)
    if options.peers_python is None and set(options.only) & set(PEERS):
        peers_python = peers_environment()
    environment = thread_environment(len(os.sched_getaffinity(0)))
    if options.check:
        names = [name for name in options.only if name != FLOOR]
        environment |= {"JAX_PLATFORMS": "cpu"}
        with processes(commands(names, peers_python), environment) as contenders:
            for name, (loss, norm) in check(contenders).items():
                console.print(f"{name}: loss {loss:.2f}, norm of the gradient {norm:.2f}")
        return
    record: dict[str, Any] = {"machine": machine(), "versions": {}, "step_ms": {}}
    console.print("{cpu}, {cores} cores, Python {python}".format(**record["machine"]))
    places = {"CPU": ("cpu", options.only)}
    if has_gpu():
        places["GPU"] = ("cuda", [name for name in options.only if name not in PEERS])
    for place, (platforms, names) in places.items():
        environment |= {"JAX_PLATFORMS": platforms}
        with processes(commands(names, peers_python), environment) as contenders:
            versions = {name: process.ask("describe") for name, process in contenders.items()}
            record["versions"][place] = versions
            for name, version in versions.items():
                console.print(f"{name}: " + ", ".join(f"{k} {v}" for k, v in version.items()))
            record["step_ms"][place] = {}
            for batch in options.batch_sizes:
                step_ms = measure(contenders, batch, options.rounds)
                record["step_ms"][place][batch] = step_ms
                report(console, place, batch, step_ms)
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
