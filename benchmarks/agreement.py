"""Processes against plain training: ``DISTVI_DATA=DIR python -m benchmarks.agreement``.

Trains the same model twice from the same seed: with the engine `mesh`, and with two workers and one
server of the engine `local` in lockstep, each on half of a batch. Both see the same examples and
noise, so only rounding tells them apart. Prints by how much the parameters differ, tensor by
tensor relative to its norm, and both test errors. The data are MNIST where ``DISTVI_DATA`` names
a folder that has it, else the digits.
"""

import argparse
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import distvi
from benchmarks import problem
from benchmarks.distvi_step import MODEL
from benchmarks.step import machine, print_goal
from distvi.runs.checkpoints import PARAMS
from distvi.runs.folder import Run

GOAL = 1e-4
_TINY = float(np.finfo(np.float32).tiny)


def train(out: Path, engine: str, *, batch_size: int, workers: int, **settings: Any) -> Run:
    """A run with a checkpoint at its end."""
    return distvi.train(
        "mnist" if os.environ.get("DISTVI_DATA") else "digits",
        engine=engine,
        workers=workers,
        batch_size=batch_size,
        model=MODEL,
        evaluate_every=0,
        out=out,
        **settings,
    )


def differences(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Of each tensor: the norm of the difference over that of the first."""
    return {
        name: float(np.linalg.norm(other[name] - value) / max(np.linalg.norm(value), _TINY))
        for name, value in one.items()
    }


def main() -> None:
    """Train and compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=500, help="of each of two workers")
    parser.add_argument("--learning-rate", type=float, default=problem.LEARNING_RATE)
    options = parser.parse_args()
    console = Console(width=100)
    console.print("{cpu}, {cores} cores, Python {python}".format(**machine()))
    with tempfile.TemporaryDirectory() as folder:
        both: dict[str, Any] = {"updates": options.updates, "learning_rate": options.learning_rate}
        size, out = options.batch_size, Path(folder)
        mesh = train(out / "mesh", "mesh", batch_size=2 * size, workers=1, **both)
        local = train(out / "local", "local", batch_size=size, workers=2, **both)
        one, other = (run.newest_checkpoint().arrays[PARAMS] for run in (mesh, local))
        found = differences(one, other)
        for run in (mesh, local):
            error_rate = run.summary["test"]["error_rate"]
            console.print(
                f"{run.config.engine.kind}: {error_rate:.2%} test error after {options.updates} "
                "updates"
            )
    for name, value in found.items():
        console.print(f"{name}: {value:.1e}")
    worst = max(found, key=lambda name: found[name])
    text = f"largest difference ({worst}) / {GOAL:g}"
    print_goal(console, text, found[worst] / GOAL, 1.0, "at most")


if __name__ == "__main__":
    main()
