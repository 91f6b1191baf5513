"""The simulated engine's predictions against the local engine: ``python -m benchmarks.prediction``.

For every scheme, number of workers and servers, and batch size, the examples per second in virtual
time are set against those of real processes. The costs are measured once, with the probes of
``distvi calibrate``; these take turns with what they predict, because a machine's speed drifts by
more than the predictions err. The model is the poster's (see `benchmarks.problem`); the data are
MNIST where ``DISTVI_DATA`` names a folder that has it, else images of noise of the same shape.
"""

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import problem
from benchmarks.distvi_step import MODEL
from benchmarks.step import machine
from distvi.calibration import (
    Arrangement,
    Probe,
    arranged_engine,
    conclude,
    prepare_probes,
    probing,
    write,
)
from distvi.config.resolve import resolve
from distvi.config.run import RunConfig
from distvi.engines.coordinator.engine import FleetEngine
from distvi.engines.local.settings import LocalSettings
from distvi.engines.simulated.settings import ClusterSettings
from distvi.parameters import layout_of
from distvi.studies.simulation import Spec, plan_of
from distvi.training.plan import Plan

WORKERS, SERVERS = (1, 2), (1, 2)
CALIBRATION_BATCH = 500  # half and twice as many are measured, too
GOAL = 0.15

TURN_S = 0.7
TRIAL, SETTLING = 12, 4  # gradients, of a first measurement and before each turn


class Cell(NamedTuple):
    """One kind of run; an asynchronous worker may have several requests in flight."""

    scheme: str
    in_flight: int
    workers: int
    servers: int

    def __str__(self) -> str:
        return f"{self.scheme}, {self.in_flight} in flight" if self.in_flight > 1 else self.scheme

    @property
    def table(self) -> dict[str, Any]:
        """The scheme, for `distvi.studies.simulation`."""
        options = {"in_flight": self.in_flight} if self.scheme == "async" else {}
        return {"name": self.scheme, **options}


IN_FLIGHT = LocalSettings(workers=2).scheme_defaults("async")["in_flight"]  # by default

CELLS = [
    Cell(scheme, in_flight, workers, servers)
    for scheme, in_flight in (("async", IN_FLIGHT), ("async", 1), ("sync", 1))
    for servers in SERVERS
    for workers in WORKERS
    if workers > 1 or in_flight == 1  # what `distvi train` does
]


@contextmanager
def configuration() -> Iterator[RunConfig]:
    """The model and its data; those that are made up lie in a file as long as the block lasts."""
    settings: dict[str, Any] = {
        "model": MODEL,
        "learning_rate": problem.LEARNING_RATE,
        "batch_size": CALIBRATION_BATCH,
        "workers": max(WORKERS),
    }
    if os.environ.get("DISTVI_DATA"):
        yield resolve("mnist", settings=settings)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.npz"
        x, y = problem.synthetic_images()
        np.savez(path, x=x, y=y)
        table = {"target": "y", "task": "classification", "inputs": "unit"}
        yield resolve(str(path), settings=settings | table)


def predict(costs: ClusterSettings, parameters: int, batch: int) -> list[float]:
    """Examples per second of every cell in virtual time."""
    found = []
    for cell in CELLS:
        spec = {
            "schemes": [cell.table],
            "workers": cell.workers,
            "servers": cell.servers,
            "cluster": costs.model_dump(),
            "parameters": parameters,
            "batch_size": batch,
            "gradients_per_worker": 1000,
        }
        (result,) = plan_of(Spec.model_validate(spec)).results()
        found.append(result.timing.examples_per_s)
    return found


class Lane:
    """A cell's engine under measurement.

    Args:
        engine: It has been entered.
        cell: What it runs.
        batch: Examples of a gradient.
    """

    def __init__(self, engine: FleetEngine, cell: Cell, batch: int) -> None:
        self._engine, self._batch = engine, batch
        self._outstanding = cell.workers * cell.in_flight  # gradients, when a turn ends
        self._gradients_per_update = cell.workers if cell.scheme == "sync" else 1
        self.examples_per_s: list[float] = []
        self._advance(TRIAL)
        self._gradients = math.ceil(TURN_S * self._advance(TRIAL) / batch)

    def take_turn(self) -> None:
        """Train for about as long as a turn takes, from when gradients follow one another."""
        self._advance(SETTLING)
        self.examples_per_s.append(self._advance(self._gradients))
        # Workers go on with what they have been asked for.
        time.sleep(self._batch * self._outstanding / self.examples_per_s[-1])

    def _advance(self, gradients: int) -> float:
        updates = math.ceil(gradients / self._gradients_per_update)
        begin_s = time.perf_counter()
        self._engine.advance(self._engine.update + updates)
        span_s = time.perf_counter() - begin_s
        return updates * self._gradients_per_update * self._batch / span_s


def measure(plan: Plan, batch: int, rounds: int, probes: Sequence[Probe]) -> list[list[float]]:
    """Examples per second of every cell's processes, a number a round.

    Args:
        plan: Model and data.
        batch: Examples of a gradient.
        rounds: How often everything has its turn.
        probes: Have their turns in between.
    """
    params = plan.initial_params()
    with ExitStack() as stack:
        engines = [
            stack.enter_context(
                arranged_engine(
                    plan,
                    params,
                    Arrangement(cell.workers, cell.servers, batch, cell.scheme, cell.in_flight),
                )
            )
            for cell in CELLS
        ]
        lanes = [Lane(engine, cell, batch) for engine, cell in zip(engines, CELLS, strict=True)]
        turns = [each.take_turn for each in (*lanes, *probes)]
        for number in range(rounds):
            first = number * len(turns) // rounds
            for take_turn in turns[first:] + turns[:first]:
                take_turn()
    return [lane.examples_per_s for lane in lanes]


def report(
    console: Console, batch: int, prediction: Sequence[float], rates: Sequence[Sequence[float]]
) -> int:
    """A table of one batch size; how many cells are farther off than the goal."""
    table = Table(title=f"batch {batch}", title_justify="left")
    for column in ("scheme", "workers", "servers", "measured", "min to max", "predicted", "ratio"):
        table.add_column(column, justify="left" if column == "scheme" else "right")
    missed = 0
    for cell, value, values in zip(CELLS, prediction, rates, strict=True):
        ratio = value / median(values)
        is_off = abs(ratio - 1) > GOAL
        missed += is_off
        table.add_row(
            *map(str, (cell, cell.workers, cell.servers)),
            f"{median(values):,.0f}",
            f"{min(values):,.0f} to {max(values):,.0f}",
            f"{value:,.0f}",
            f"{ratio:.3f}{' MISSED' if is_off else ''}",
        )
    console.print(table)
    rate = {tuple(cell): median(values) for cell, values in zip(CELLS, rates, strict=True)}
    same = [(rate["async", 1, 1, servers], rate["sync", 1, 1, servers]) for servers in SERVERS]
    noise = max(max(pair) / min(pair) for pair in same) - 1
    console.print(
        f"noise: one worker's async and sync, which are the same work, differ by {noise:.0%}"
    )
    return missed


def main() -> None:
    """Measure, predict and compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prediction", description=__doc__)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[200, 1000])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, help="write the costs there")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every number there")
    options = parser.parse_args()
    console = Console(width=110)
    console.print("{cpu}, {cores} cores, Python {python}".format(**machine()))
    with configuration() as config:
        plan = prepare_probes(config)
        with probing(plan) as probes:
            rates = {
                batch: measure(plan, batch, options.rounds, probes) for batch in options.batch_sizes
            }
        calibration = conclude(plan, probes)
    parameters = layout_of(plan.shapes).size
    missed, record = 0, {"machine": machine(), **calibration.as_json(), "batches": {}}
    for batch, values in rates.items():
        prediction = predict(calibration.cluster, parameters, batch)
        record["batches"][batch] = {"predicted": prediction, "measured": values}
        missed += report(console, batch, prediction, values)
    cells = len(CELLS) * len(rates)
    console.print(f"{cells - missed} of {cells} predictions within {GOAL:.0%} (goal: all)")
    if options.out:
        write(options.out, calibration)
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
