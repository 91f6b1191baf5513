"""What a study will cost, from a pilot of seconds: a few updates of some cells, and a test."""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from distvi.errors import DistviError
from distvi.evaluation.predictor import Evaluation
from distvi.studies.cells import Cell
from distvi.studies.measure import Workbench
from distvi.studies.spec import Spec
from distvi.training.plan import Plan

PILOT_S = 20.0
"""Time after which no further cell is tried out."""

_UPDATES_S = 0.3  # of updates that are timed, at least


class Costs(NamedTuple):
    """What a cell's parts cost, in seconds of one process.

    Attributes:
        start_s: Of the first cell of a shape: data, tracing, compiling.
        example_s: Of an example in a gradient, its share of the update included.
        test_s: Of a test during the run.
        final_s: Of the last test.
    """

    start_s: float
    example_s: float
    test_s: float
    final_s: float


class Estimate(NamedTuple):
    """What a cell will cost.

    Attributes:
        cell: The cell.
        seconds: Of one process; None: it could not be tried out.
        is_measured: Whether this kind of cell was tried out, or one that is like it.
        updates: That its training has.
        reason: Why it could not be tried out.
    """

    cell: Cell
    seconds: float | None
    is_measured: bool
    updates: int
    reason: str = ""


def estimate(cells: Iterable[Cell], spec: Spec, limit_s: float = PILOT_S) -> list[Estimate]:
    """What each cell will cost.

    Cells of one kind (model, data, batch size, engine) cost the same by the example. Kinds are
    tried out until the time is over; the others are taken to be like the one with the next batch
    size.

    Args:
        cells: Of a study.
        spec: The study.
        limit_s: See `PILOT_S`.
    """
    bench, deadline_s = Workbench(spec.measuring), time.perf_counter() + limit_s
    known: dict[str, Costs] = {}
    sizes: dict[str, int] = {}
    refused: dict[str, str] = {}
    shapes: set[str] = set()
    found = []
    for cell in cells:
        kind, shape = _kind(cell), cell.shape
        try:
            plan = bench.plan(cell, cell.config.training.learning_rate)
            if kind not in known and (time.perf_counter() < deadline_s or not known):
                known[kind] = _tried_out(plan, spec)
                sizes[kind] = plan.batch_size
        except DistviError as error:
            refused[kind] = str(error)
            found.append(Estimate(cell, None, False, 0, str(error)))
            continue
        costs = known.get(kind) or known[min(known, key=_distance(plan, sizes))]
        seconds = _seconds(plan, costs, spec, cell)
        if shape not in shapes:
            seconds += costs.start_s
        shapes.add(shape)
        found.append(Estimate(cell, seconds, kind in known, plan.updates))
    return found


def _distance(plan: Plan, sizes: Mapping[str, int]) -> Callable[[str], float]:
    """How far the batches of a kind are from a plan's: an example costs less in larger ones."""
    return lambda kind: abs(math.log(sizes[kind] / plan.batch_size))


def _kind(cell: Cell) -> str:
    config = cell.config
    parts = [config.data.model_dump(mode="json"), config.model.model_dump(mode="json")]
    return json.dumps(
        [*parts, config.training.batch_size, config.engine.kind, config.algorithm.rules]
    )


def _tried_out(plan: Plan, spec: Spec) -> Costs:
    begun_s = time.perf_counter()
    engine, predictor = plan.engine(), plan.predictor()
    with engine:
        engine.advance(1)
        start_s = time.perf_counter() - begun_s
        first, begun_s = engine.examples, time.perf_counter()
        update = 1
        while time.perf_counter() - begun_s < _UPDATES_S and update < plan.updates:
            update = min(update + max(1, plan.updates // 20), plan.updates)
            engine.advance(update)
        spent_s, examples = time.perf_counter() - begun_s, engine.examples - first
        if not examples:
            spent_s, examples = start_s, max(1, first)
        if predictor is None:
            return Costs(start_s, spent_s / examples, 0.0, 0.0)
        few = plan.predictor(min(spec.tests.samples, predictor.samples))
        assert few is not None
        data, target = plan.dataset.test, plan.dataset.targets[0]
        begun_s = time.perf_counter()
        Evaluation(few, engine.params, data, target)
        compiled_s = time.perf_counter() - begun_s
        begun_s = time.perf_counter()
        Evaluation(few, engine.params, data, target)
        test_s = time.perf_counter() - begun_s
    final_s = test_s * predictor.samples / few.samples
    start_s += max(0.0, compiled_s - test_s) * (2 if few.samples < predictor.samples else 1)
    return Costs(start_s, spent_s / examples, test_s, final_s)


def _seconds(plan: Plan, costs: Costs, spec: Spec, cell: Cell) -> float:
    requests = plan.updates * plan.requests_per_update * (cell.config.engine.workers or 1)
    examples = requests * plan.batch_size * plan.algorithm.worker.batches
    training_s = examples * costs.example_s
    seconds = training_s + (spec.tests.number - 1) * costs.test_s + costs.final_s
    if cell.is_tuned and spec.tuning is not None:
        trial_s = training_s * spec.tuning.examples_share + costs.test_s
        seconds += len(spec.tuning.values) * trial_s
    limits_s = [limit for limit in (spec.stop.wall_s,) if limit is not None]
    return min([seconds, *limits_s])
