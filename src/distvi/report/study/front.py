"""Which settings are worth choosing: those that none beats in time and in error at once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from distvi.report.study import words
from distvi.report.study.drawing import COLOURS, INK, QUIET, Canvas, Drawing, Plate, legend
from distvi.report.study.measures import Metric, clocked, main_metric, time_label, time_measure
from distvi.report.study.scales import scale
from distvi.report.study.slices import axes_of
from distvi.report.study.statistics import Mean, front_of, mean_of
from distvi.runs.records import Record, Value, by_setting

MOST_POINTS = 300
"""In the drawing; of more settings an even choice is drawn, and all of the front."""


TOGETHER = 20.0
"""Pixels between points below which their numbers would run into one another."""


@dataclass(frozen=True)
class Standing:
    """Where a setting stands: the means over its seeds.

    Attributes:
        records: Its cells.
        time: Training time in seconds.
        error: In the unit of the page.
    """

    records: Sequence[Record]
    time: Mean
    error: Mean

    @property
    def settings(self) -> Mapping[str, Value]:
        """What its cells have in common."""
        return self.records[0].settings


def standings(records: Sequence[Record], clock: str, metric: Metric) -> list[Standing]:
    """Of every setting all of whose cells were done and have an error."""
    found: list[Standing] = []
    for cells in by_setting(records).values():
        times = [time_measure(clock).of(r) for r in cells]
        errors = [metric.measure().of(r) for r in cells]
        time = mean_of([v for v in times if v is not None])
        error = mean_of([v for v in errors if v is not None])
        if time and error and None not in errors:
            found.append(Standing(cells, time, error))
    return found


def best(records: Sequence[Record], clock: str, metric: Metric) -> list[Standing]:
    """The front of a study, the fastest first."""
    all_of_them = standings(records, clock, metric)
    return [all_of_them[i] for i in front_of([(s.time.value, s.error.value) for s in all_of_them])]


def front_plate(records: Sequence[Record]) -> Plate:
    """Time and error of all settings, and the front."""
    metric = main_metric(records)
    drawings: list[Drawing] = []
    captions: list[str] = []
    for clock, cells, suffix, _ in clocked(records):
        drawings.append(_drawing(f"front{suffix}", records, cells, clock, metric))
        if len(standings(cells, clock, metric)) > MOST_POINTS:
            captions.append(f"Of the others {MOST_POINTS} are drawn, evenly chosen.")
    lost = sum(any(r.status != "done" for r in cells) for cells in by_setting(records).values())
    words_of_lost = (
        f" {words.count(lost, 'setting')} with cells that diverged or failed cannot be chosen and "
        "are not drawn; the table of lost cells lists them."
    ) if lost else ""  # fmt: skip
    caption = (
        "Every point is a setting, its mean time and error over seeds. On the line: the settings "
        f"that no other beats in one without losing in the other; the table names them by their "
        f"numbers.{words_of_lost} "
    ) + " ".join(captions)
    return Plate("front", "The best of time and error", caption, tuple(drawings))


def _drawing(
    id: str, records: Sequence[Record], cells: Sequence[Record], clock: str, metric: Metric
) -> Drawing:
    def draw(canvas: Canvas) -> None:
        draw_front(canvas, records, cells, clock, metric)

    return Drawing(id, f"Time and {metric.title}", draw, width=480, height=380)


def draw_front(
    canvas: Canvas, records: Sequence[Record], cells: Sequence[Record], clock: str, metric: Metric
) -> None:
    """Points by the scheme, or else by the first setting that is a name; the front as steps."""
    axes = canvas.subplots()
    axes.set_title(f"Time and {metric.title}")
    points, front = standings(cells, clock, metric), best(cells, clock, metric)
    if not points:
        axes.text(0.5, 0.5, "no setting was done", transform=axes.transAxes, ha="center")
        return
    log_x = scale(axes, "x", [s.time.value for s in points])
    scale(axes, "y", [s.error.value for s in points])
    name = _colouring(records)
    values = axes_of(records).get(name, [None]) if name else [None]
    if len(points) > MOST_POINTS:
        chosen = np.linspace(0, len(points) - 1, MOST_POINTS).astype(int)
        points = [points[i] for i in chosen] + front
    for i, value in enumerate(values):
        mine = [s for s in points if name is None or s.settings.get(name) == value]
        axes.plot(
            [s.time.value for s in mine], [s.error.value for s in mine], "o", markersize=5,
            alpha=0.75, color=COLOURS[i % len(COLOURS)], markeredgewidth=0,
        )  # fmt: skip
    x, y = [s.time.value for s in front], [s.error.value for s in front]
    axes.step(x, y, where="post", color=QUIET, linewidth=1, zorder=1)
    axes.set(xlabel=time_label(clock), ylabel=metric.label)
    low = min(x)
    axes.set_xlim(left=low * 0.8 if log_x else low - 0.12 * (axes.get_xlim()[1] - low))
    _number(axes, x, y)
    entries = [
        (COLOURS[i % len(COLOURS)], words.cut(words.setting(v))) for i, v in enumerate(values)
    ]
    legend(canvas, entries if name else [], 480)


def _number(axes: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    """Number points below to their left; those that lie together share a label: 1–3."""
    together: list[list[int]] = []
    places = axes.transData.transform(np.column_stack((x, y)))
    for i, place in enumerate(places):
        if together and math.dist(places[together[-1][0]], place) < TOGETHER:
            together[-1].append(i)
        else:
            together.append([i])
    for first, *others in together:
        text = f"{first + 1}–{others[-1] + 1}" if others else str(first + 1)
        axes.annotate(
            text, (x[first], y[first]), (-5, -5), textcoords="offset points", ha="right", va="top",
            color=INK, fontsize=11, weight="bold",
        )  # fmt: skip


def _colouring(records: Sequence[Record]) -> str | None:
    """The setting whose values colour points: the scheme, a name, or one of few numbers."""
    axes = {n: v for n, v in axes_of(records).items() if len(v) <= len(COLOURS)}
    if "scheme" in axes_of(records):
        return "scheme"
    texts = [n for n, values in axes.items() if isinstance(values[0], str)]
    return next(iter(texts), next(iter(axes), None))
