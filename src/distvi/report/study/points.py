"""Means over seeds along one setting, with their intervals, and where cells were lost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from distvi.report.study import words
from distvi.report.study.drawing import (
    INK,
    QUIET,
    Canvas,
    Drawing,
    Plate,
    legend,
    look,
    nothing,
    width_of,
)
from distvi.report.study.measures import (
    MNLL,
    Measure,
    Metric,
    clocked,
    main_metric,
    time_measure,
    tuned_measure,
)
from distvi.report.study.scales import scale
from distvi.report.study.slices import Line, Slice, along, axes_of
from distvi.report.study.statistics import Mean, mean_of
from distvi.runs.records import Record, Value

CLIP = 4.0
"""On a logarithmic axis an interval that reaches zero ends this factor below its mean."""

LOST = (
    "A cross at the edge: of that setting cells diverged or failed; the table of lost cells says "
    "which, and why."
)


@dataclass(frozen=True)
class Point:
    """What a figure shows of the cells of one setting.

    Attributes:
        mean: Of those that have a value; None: none has.
        lost: Whether some have none.
    """

    mean: Mean | None
    lost: bool


PointOf = Callable[[Sequence[Record]], Point]


def mean_point(measure: Measure) -> PointOf:
    """The mean of a measure over the cells that were done."""

    def point(cells: Sequence[Record]) -> Point:
        values = [v for r in cells if (v := measure.of(r)) is not None]
        return Point(mean_of(values), any(r.status != "done" for r in cells))

    return point


def draw_points(
    canvas: Canvas, cut: Slice, point: PointOf, title: str, label: str, *, ideal: bool = False
) -> None:
    """Draw a slice: along numbers as lines, along names as rows.

    Args:
        canvas: Where.
        cut: The cells.
        point: What is shown of the cells of one setting.
        title: Above.
        label: Of the axis of the measure.
        ideal: With the line on which the measure grows as the setting does.
    """
    axes = canvas.subplots()
    axes.set_title(title)
    points = {
        line: {value: point(cells[value]) for value in cut.values if value in cells}
        for line, cells in cut.cells.items()
    }
    if _is_numeric(cut.values):
        _along_numbers(axes, cut, points, label, ideal)
    else:
        _along_names(axes, cut, points, label)
    legend(canvas, [(line, line.label) for line in cut.cells], width_of(canvas))


Points = Mapping[Line, Mapping[Value, Point]]


def _along_numbers(axes: Axes, cut: Slice, points: Points, label: str, ideal: bool) -> None:
    places = [float(v) for v in cut.values]
    scale(axes, "x", places, exact=True)
    axes.set(xlabel=words.cut(words.human(cut.axis)), ylabel=label)
    ideals = [place / places[0] for place in places] if ideal else []
    if not _scale_measure(axes, "y", points, ideals):
        return
    if len(ideals) > 1:
        axes.plot(places, ideals, color=QUIET, linestyle=(0, (4, 3)), linewidth=1)
        axes.annotate(
            "ideal", (places[-2], ideals[-2]), (-6, 7), textcoords="offset points",
            ha="right", va="center", color=QUIET, fontsize=10,
        )  # fmt: skip
    for rank, (line, row) in enumerate(points.items()):
        means = {float(v): p.mean for v, p in row.items() if p.mean is not None}
        axes.plot(list(means), [m.value for m in means.values()], **look(line))
        for place, mean in means.items():
            low, high = _ends(mean, axes.get_yscale() == "log")
            axes.plot([place, place], [low, high], color=look(line)["color"], linewidth=1.2)
        lost = [float(v) for v, p in row.items() if p.lost]
        height = 1.0 - 0.045 * (rank % 6)
        _crosses(axes, lost, [height] * len(lost), line, transform=axes.get_xaxis_transform())


def _along_names(axes: Axes, cut: Slice, points: Points, label: str) -> None:
    rows = {value: i for i, value in enumerate(cut.values)}
    axes.set_ylim(len(rows) - 0.4, -0.6)
    names = [words.cut(words.setting(value)) for value in rows]
    axes.set_yticks(range(len(rows)), names, color=INK)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(label)
    if not _scale_measure(axes, "x", points, ()):
        return
    step = min(0.13, 0.75 / max(1, len(points)))
    for rank, (line, row) in enumerate(points.items()):
        shift = (rank - (len(points) - 1) / 2) * step
        for value, point in row.items():
            place = rows[value] + shift
            if point.mean is not None:
                low, high = _ends(point.mean, axes.get_xscale() == "log")
                style = look(line)
                axes.plot([low, high], [place, place], color=style["color"], linewidth=1.2)
                axes.plot([point.mean.value], [place], **style)
        lost = [rows[v] + shift for v, p in row.items() if p.lost]
        _crosses(axes, [1.0] * len(lost), lost, line, transform=axes.get_yaxis_transform())


def _scale_measure(axes: Axes, side: str, points: Points, others: Sequence[float]) -> bool:
    means = [p.mean for row in points.values() for p in row.values() if p.mean is not None]
    if not means:
        nothing(axes, "no cell has a value")
        return False
    values = [m.value for m in means]
    log = min(values) > 0 and max(values) / min(values) > 10
    ends = [end for mean in means for end in _ends(mean, log)]
    scale(axes, "y" if side == "y" else "x", [*values, *ends, *others])
    return True


def _ends(mean: Mean, log: bool) -> tuple[float, float]:
    half = mean.half_width or 0.0
    low = mean.value - half
    return max(low, mean.value / CLIP) if log and mean.value > 0 else low, mean.value + half


def _crosses(axes: Axes, x: list[float], y: list[float], line: Line, **where: Any) -> None:
    if not x:
        return  # nothing, drawn without clipping, would take room all the same
    axes.plot(
        x, y, color=look(line)["color"], marker="x", markersize=6.5, markeredgewidth=1.8,
        linestyle="", clip_on=False, zorder=5, **where,
    )  # fmt: skip


def _is_numeric(values: Sequence[Value]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def height_of(cut: Slice) -> int:
    """Of a drawing of the slice, in pixels: names and legends need room."""
    legend_rows = len(cut.cells) / max(1, int(420 / (_longest(cut) * 6.6 + 40)))
    rows = 0 if _is_numeric(cut.values) else len(cut.values) * (12 + 4 * min(len(cut.cells), 6))
    return int(max(230, rows + 70) + 18 * legend_rows + 50)


def _longest(cut: Slice) -> int:
    return max((len(line.label) for line in cut.cells), default=1)


def axis_plates(records: Sequence[Record]) -> list[Plate]:
    """Time, error and MNLL along every setting that is varied."""
    metric = main_metric(records)
    metrics = [metric] if metric is MNLL or not _has(records, MNLL) else [metric, MNLL]
    return [plate for axis in axes_of(records) for plate in [_axis_plate(records, axis, metrics)]]


def _has(records: Sequence[Record], metric: Metric) -> bool:
    return any(metric.name in r.measured.test for r in records)


def _axis_plate(records: Sequence[Record], axis: str, metrics: Sequence[Metric]) -> Plate:
    drawings: list[Drawing] = []
    captions: list[str] = []
    for clock, cells, suffix, on_clock in clocked(records):
        cut = along(cells, axis)
        if len(cut.values) < 2 and suffix:
            continue  # under this clock it is not varied
        measures = [time_measure(clock), *(metric.measure() for metric in metrics)]
        drawings += [points_drawing(cut, m, f"{words.slug(axis)}{suffix}") for m in measures]
        captions.append(f"{on_clock}{cut.words}")
    if not drawings:  # its values differ in their clocks; errors have none
        cut = along(records, axis)
        drawings = [points_drawing(cut, m.measure(), words.slug(axis)) for m in metrics]
        captions = [f"Each value has its own clock: times cannot share an axis. {cut.words}"]
    intro = "Means over seeds with 95 % intervals (t) of the mean; a single seed has none."
    caption = " ".join([intro, *captions, *_lost_words(records)])
    return Plate(f"axis-{words.slug(axis)}", f"Along {words.human(axis)}", caption, tuple(drawings))


def points_drawing(cut: Slice, measure: Measure, name: str) -> Drawing:
    """The drawing of one measure along a slice."""

    def draw(canvas: Canvas) -> None:
        draw_points(canvas, cut, mean_point(measure), measure.title, measure.label)

    id = f"{words.slug(measure.name)}-by-{name}"
    title = f"{measure.title} against {words.human(cut.axis)}"
    return Drawing(id, title, draw, height=height_of(cut))


def _lost_words(records: Sequence[Record]) -> list[str]:
    return [LOST] if any(r.status != "done" for r in records) else []


def tuned_plate(records: Sequence[Record], axis: str | None) -> Plate | None:
    """Settings that were chosen on validation data; None: none was."""
    names = dict.fromkeys(name for r in records for name in r.measured.tuned)
    if not names or axis is None:
        return None
    cut = along(records, axis)
    drawings = [
        points_drawing(cut, tuned_measure(name), words.slug(axis))
        for name in names
        if any(tuned_measure(name).of(r) is not None for r in records)
    ]
    caption = (
        "Chosen for every cell by itself on a part of the training set; means over seeds with "
        f"95 % intervals (t). {cut.words} The values of all settings stand in the first table."
    )
    return Plate("tuned", "Chosen by validation", caption, tuple(drawings))
