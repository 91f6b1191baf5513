"""The error while it falls: against time, examples and bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distvi.report.study import words
from distvi.report.study.drawing import (
    Canvas,
    Drawing,
    Plate,
    legend,
    look,
    nothing,
    width_of,
)
from distvi.report.study.measures import (
    Metric,
    clocked,
    curve_of,
    main_metric,
    time_label,
)
from distvi.report.study.scales import scale, spans_a_decade
from distvi.report.study.slices import Line, along, principal, thinned
from distvi.report.study.statistics import median_band
from distvi.runs.records import Record, Value

POINTS = 50
"""Of a curve at most: no more can be seen in a drawing of this size."""

FACETS = 3
"""Drawings of each kind: the least, a middle and the greatest value of the principal setting."""

Band = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Along:
    """A column of the curves: what the error is drawn against."""

    column: str
    title: str
    label: str


def curve_plate(records: Sequence[Record]) -> Plate:
    """The error against time, examples and bytes, for some values of the principal setting."""
    metric = main_metric(records)
    drawings: list[Drawing] = []
    captions: list[str] = []
    for clock, cells, suffix, on_clock in clocked(records):
        facets, caption = facets_of(cells, principal(cells))
        captions.append(f"{on_clock}{caption}")
        for column in (
            Along("time_s", "time", time_label(clock)),
            Along("examples", "examples", "examples"),
            Along("bytes", "bytes", "pushed and pulled (MB)"),
        ):
            drawings += [
                _drawing(lines, name, column, metric, f"{column.column.partition('_')[0]}{suffix}")
                for name, lines in facets.items()
                if any(_known(c, column, metric) for c in lines.values())
            ]
    intro = (
        f"{metric.heading} in the course of training: the median over seeds, and a "
        "band from the lowest to the highest of them, as far as all of them went."
    )
    lost = " Cells that diverged or failed are not in the curves; the legend marks their lines."
    any_lost = any(r.status != "done" for r in records)
    caption = " ".join([intro, *captions]) + (lost if any_lost else "")
    return Plate("curves", "Error in the course of training", caption, tuple(drawings))


Facets = dict[str, Mapping[Line, list[Record]]]


def facets_of(records: Sequence[Record], axis: str | None) -> tuple[Facets, str]:
    """Some values of a setting, each with the cells of every line; and the words to it."""
    if axis is None:
        return {"": {Line("all", 0, 0): list(records)}}, ""
    cut = along(records, axis)
    shown = thinned(cut.values, FACETS)
    facets: Facets = {facet_name(axis, value): cut.at(value) for value in shown}
    some = f"{words.human(axis)}: {words.listed(words.setting(v) for v in shown)}"
    if len(shown) < len(cut.values):
        some += f" of {len(cut.values)} values"
    return facets, f"Drawn for {some}. {cut.words}"


def facet_name(axis: str, value: Value) -> str:
    """``8 workers``, ``scheme async``."""
    if axis in ("workers", "servers"):
        return words.count(int(value), axis[:-1])
    return f"{words.human(axis)} {words.setting(value)}"


def _known(cells: Sequence[Record], column: Along, metric: Metric) -> bool:
    return any(curve_of(r.measured, column.column, metric) is not None for r in cells)


def _drawing(
    lines: Mapping[Line, list[Record]], name: str, column: Along, metric: Metric, kind: str
) -> Drawing:
    title = f"{metric.heading} against {column.title}"

    def draw(canvas: Canvas) -> None:
        draw_curves(canvas, lines, column, metric, f"{title}, {words.cut(name)}" if name else title)

    longest = max((len(line.label) for line in lines), default=1) + 12
    height = 280 + 18 * int(len(lines) / max(1, int(420 / (longest * 6.6 + 40))))
    return Drawing(
        f"curve-{kind}-{words.slug(name or 'all')}", f"{title}, {name}", draw, height=height
    )


def draw_curves(
    canvas: Canvas,
    lines: Mapping[Line, Sequence[Record]],
    column: Along,
    metric: Metric,
    title: str,
) -> None:
    """Median and band of every line."""
    axes = canvas.subplots()
    axes.set_title(title)
    unit = 1e-6 if column.column == "bytes" else 1.0
    raw = {
        line: [
            (curve[0] * unit, curve[1])
            for r in cells
            if r.status == "done" and (curve := curve_of(r.measured, column.column, metric))
        ]
        for line, cells in lines.items()
    }
    log = spans_a_decade(
        [float(end) for cs in raw.values() for x, _ in cs for end in (x[0], x[-1])]
    )
    bands: dict[Line, Band] = {
        line: band for line, cs in raw.items() if (band := median_band(cs, POINTS, log=log))
    }
    if bands:
        scale(axes, "x", [float(v) for band in bands.values() for v in band[0][[0, -1]]])
        scale(axes, "y", [float(v) for band in bands.values() for v in np.concatenate(band[2:])])
        axes.set(xlabel=column.label, ylabel=metric.label)
        for line, (x, median, low, high) in bands.items():
            style = {**look(line), "marker": ""}
            axes.fill_between(x, low, high, color=style["color"], alpha=0.18, linewidth=0)
            axes.plot(x, median, **style)
    else:
        nothing(axes, "no cell was done")
    legend(
        canvas,
        [(line, line.label + _ended(cells)) for line, cells in lines.items()],
        width_of(canvas),
    )


def _ended(cells: Sequence[Record]) -> str:
    """Of how many seeds a line has none, where some are missing."""
    lost = [r for r in cells if r.status != "done"]
    if not lost:
        return ""
    kinds = words.listed(dict.fromkeys(r.status for r in lost))
    return f" ({kinds})" if len(lost) == len(cells) else f" ({len(lost)}/{len(cells)} {kinds})"
