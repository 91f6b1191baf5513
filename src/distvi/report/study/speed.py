"""How long a given error takes, and how much faster more workers or servers make it."""

import math
from collections.abc import Callable, Sequence

from distvi.report.study import words
from distvi.report.study.drawing import Canvas, Drawing, Plate
from distvi.report.study.measures import (
    Metric,
    clocked,
    examples_per_s,
    main_metric,
    time_label,
    time_to,
)
from distvi.report.study.points import Point, PointOf, draw_points, height_of
from distvi.report.study.slices import Slice, along, axes_of, principal
from distvi.report.study.statistics import mean_of
from distvi.runs.records import Record

Rate = Callable[[Record], float | None]

PROCESSES = ("workers", "servers")


def target_text(target: float, metric: Metric) -> str:
    """``3 %``; the target is in the record's unit."""
    value = words.tick(target * metric.scale)
    return f"{value} {metric.unit}" if metric.unit else value


def target_plate(records: Sequence[Record], targets: Sequence[float]) -> Plate:
    """When each target error was reached, along the principal setting."""
    heading, metric = "Time to a target error", main_metric(records)
    if not targets or principal(records) is None:
        why = "The study names no target error." if not targets else "The study varies nothing."
        return Plate("targets", heading, why)
    drawings: list[Drawing] = []
    captions: list[str] = []
    for clock, cells, suffix, on_clock in clocked(records):
        if (axis := principal(cells)) is None:
            continue
        cut = along(cells, axis)
        for target in targets:
            title = f"Time to {target_text(target, metric)} {metric.title}"
            id = f"target-{words.slug(target_text(target, metric))}{suffix}"
            point = _all_of(_reached_at(target * metric.scale, metric))
            drawings.append(_drawing(id, title, cut, point, time_label(clock)))
        captions.append(f"{on_clock}{cut.words}")
    caption = (
        "Time of the first test that was as good as the target; means over seeds with 95 % "
        "intervals (t). A cross at the edge: not every seed of that setting reached it, and so no "
        "mean is drawn; the table of targets says how many did. " + " ".join(captions)
    )
    return Plate("targets", heading, caption, tuple(drawings))


def speedup_plate(records: Sequence[Record], targets: Sequence[float]) -> Plate:
    """Throughput and time to the targets relative to the fewest workers or servers."""
    metric, axes = main_metric(records), axes_of(records)
    drawings: list[Drawing] = []
    captions: list[str] = []
    for _, cells, suffix, on_clock in clocked(records):
        for axis in (name for name in PROCESSES if name in axes):
            cut = along(cells, axis)
            if len(cut.values) < 2:
                continue
            drawings.append(
                _speedup(f"speedup-{axis}{suffix}", "in examples per second", cut, examples_per_s)
            )
            for target in targets:
                text = target_text(target, metric)
                id = f"speedup-{axis}-{words.slug(text)}{suffix}"
                drawings.append(_speedup(id, f"to {text}", cut, _rate_to(target, metric)))
            captions.append(f"{on_clock}{cut.words}")
    if not drawings:
        return Plate("speedup", "Speed-up", "The study varies neither workers nor servers.")
    caption = (
        "How many times as fast as the same line with the fewest workers or servers, seed by seed; "
        "means with 95 % intervals (t). Dashed: as many times as fast as there are more of them. "
        "A cross at the edge: not every seed has a speed-up there, and so no mean is drawn. "
        + " ".join(captions)
    )
    return Plate("speedup", "Speed-up", caption, tuple(drawings))


def _drawing(
    id: str, title: str, cut: Slice, point: PointOf, label: str, *, ideal: bool = False
) -> Drawing:
    def draw(canvas: Canvas) -> None:
        draw_points(canvas, cut, point, title, label, ideal=ideal)

    return Drawing(id, title, draw, height=height_of(cut))


def _all_of(value: Rate) -> PointOf:
    """The mean, if every cell has a finite value."""

    def point(cells: Sequence[Record]) -> Point:
        values = [value(r) if r.status == "done" else None for r in cells]
        finite = [v for v in values if v is not None and math.isfinite(v)]
        return Point(mean_of(finite), False) if len(finite) == len(values) else Point(None, True)

    return point


def _reached_at(target: float, metric: Metric) -> Rate:
    return lambda record: time_to(record, target, metric)


def _rate_to(target: float, metric: Metric) -> Rate:
    def rate(record: Record) -> float | None:
        time_s = time_to(record, target * metric.scale, metric)
        return 1 / time_s if 0 < time_s < math.inf else None

    return rate


def _speedup(id: str, of_what: str, cut: Slice, rate: Rate) -> Drawing:
    return _drawing(
        id, f"Speed-up {of_what}", cut, _all_of(speedups(cut, rate)), "times as fast", ideal=True
    )


def speedups(cut: Slice, rate: Rate) -> Rate:
    """The speed-up of a cell over that of its line and seed with the least value of the axis.

    A line that begins later than others begins on the ideal line.
    """
    found: dict[str, float] = {}
    for row in cut.cells.values():
        values = [v for v in cut.values if v in row]
        if not values:
            continue
        base = {r.seed: rate(r) for r in row[values[0]] if r.status == "done"}
        start = float(values[0]) / float(cut.values[0])
        for record in (r for value in values for r in row[value]):
            mine, theirs = rate(record), base.get(record.seed)
            if mine is not None and theirs:
                found[record.cell] = start * mine / theirs
    return lambda record: found.get(record.cell)
