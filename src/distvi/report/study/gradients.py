"""What became of gradients: how old they were, how many were of use, and how long workers idled."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from distvi.report.study import words
from distvi.report.study.curves import facets_of
from distvi.report.study.drawing import COLOURS, INK, QUIET, Canvas, Drawing, Plate, legend, look
from distvi.report.study.measures import clocked, idle_measure
from distvi.report.study.points import LOST, points_drawing
from distvi.report.study.slices import Line, along, principal
from distvi.report.study.statistics import mean_of
from distvi.runs.records import Record

BINS = 32
"""Of a histogram of staleness at most; older gradients share bins of equal width."""

FEWEST = 5
"""Bars that a histogram has room for, so that one is not as wide as the drawing."""

KINDS = {"used": COLOURS[2], "refused": COLOURS[1], "cancelled": COLOURS[4]}

Lines = Mapping[Line, Sequence[Record]]


def staleness_plate(records: Sequence[Record]) -> Plate:
    """Histograms of the staleness of the gradients that were used."""
    intro = (
        "How many versions old gradients were when they were used, as shares of all; seeds "
        "pooled, the mean at the right."
    )
    return _plate(
        records, "staleness", "Staleness of gradients", intro,
        lambda r: bool(r.measured.staleness), _draw_staleness, rows_height=46,
    )  # fmt: skip


def gradients_plate(records: Sequence[Record]) -> Plate:
    """Shares of gradients that were used, refused and cancelled."""
    intro = (
        "What became of the gradients that workers began: used in an update, refused as too old, "
        "or cancelled on the way. Seeds pooled; at the right how many there were per seed."
    )
    return _plate(
        records, "gradients", "Gradients used, refused and cancelled", intro,
        lambda r: sum(r.measured.gradients.values()) > 0, _draw_gradients, rows_height=26,
    )  # fmt: skip


def idle_plate(records: Sequence[Record]) -> Plate:
    """Idle time of workers along the principal setting."""
    heading, drawings, captions = "Idle time", [], []
    if principal(records) is None or all(r.measured.idle_fraction is None for r in records):
        return Plate("idle", heading, "No cell has measured how long its workers idled.")
    for _, cells, suffix, on_clock in clocked(records):
        if (axis := principal(cells)) is None:
            continue
        cut = along(cells, axis)
        drawings.append(points_drawing(cut, idle_measure(), f"{words.slug(axis)}{suffix}"))
        captions.append(f"{on_clock}{cut.words}")
    lost = [LOST] if any(r.status != "done" for r in records) else []
    intro = (
        "Of the workers’ time, that in which they did not compute; means with 95 % intervals (t)."
    )
    return Plate("idle", heading, " ".join([intro, *captions, *lost]), tuple(drawings))


def _plate(
    records: Sequence[Record],
    id: str,
    heading: str,
    intro: str,
    has: Callable[[Record], bool],
    draw: Callable[[Canvas, Lines, str], None],
    rows_height: int,
) -> Plate:
    """A drawing for some values of the principal setting, in each of them a row for every line."""
    if not any(has(r) for r in records):
        return Plate(id, heading, "No cell has counted them.")
    drawings: list[Drawing] = []
    captions: list[str] = []
    for _, cells, suffix, on_clock in clocked(records):
        facets, caption = facets_of(cells, principal(cells))
        captions.append(f"{on_clock}{caption}")
        for name, lines in facets.items():
            title = f"{heading.split(',')[0]}, {words.cut(name)}" if name else heading
            height = 110 + rows_height * max(2, len(lines))
            name = f"{id}-{words.slug(name or 'all')}{suffix}"
            drawings.append(Drawing(name, title, _of(draw, lines, title), height=height))
    return Plate(id, heading, " ".join([intro, *captions]), tuple(drawings))


def _of(
    draw: Callable[[Canvas, Lines, str], None], lines: Lines, title: str
) -> Callable[[Canvas], None]:
    return lambda canvas: draw(canvas, lines, title)


def _pooled(cells: Sequence[Record]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for record in cells:
        counts.update(record.measured.staleness)
    return counts


def _draw_staleness(canvas: Canvas, lines: Lines, title: str) -> None:
    axes = canvas.subplots()
    axes.set_title(title)
    pooled = {line: _pooled(cells) for line, cells in lines.items()}
    oldest = max((max(counts) for counts in pooled.values() if counts), default=0)
    width = -(-(oldest + 1) // BINS)
    edges = np.arange(0, oldest + width + 1, width)
    for row, (line, counts) in enumerate(pooled.items()):
        axes.axhline(row, color=QUIET, linewidth=0.6)
        total = counts.total()
        if total == 0:
            kinds = words.listed(dict.fromkeys(r.status for r in lines[line]))
            _right(axes, row - 0.35, kinds if "done" not in kinds else "none counted")
            continue
        shares = np.zeros(len(edges))
        for age, number in counts.items():
            shares[age // width] += number / total
        axes.bar(
            edges + (width - 1) / 2, -0.85 * shares, 0.8 * width, bottom=row,
            color=look(line)["color"], linewidth=0,
        )  # fmt: skip
        mean = sum(age * number for age, number in counts.items()) / total
        _right(axes, row - 0.35, f"mean {words.number(mean)}")
    _rows(axes, list(lines), -0.35)
    axes.set_xlim(-0.7, max(oldest + width, FEWEST) - 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(words.tick))
    axes.set_xlabel("versions old" + (f" (bars of {width})" if width > 1 else ""))
    axes.set_ylim(len(pooled) - 0.85, -1.0)


def _draw_gradients(canvas: Canvas, lines: Lines, title: str) -> None:
    axes = canvas.subplots()
    axes.set_title(title)
    for row, cells in enumerate(lines.values()):
        sums = {kind: sum(r.measured.gradients.get(kind, 0) for r in cells) for kind in KINDS}
        total, left = sum(sums.values()), 0.0
        if total == 0:
            kinds = words.listed(dict.fromkeys(r.status for r in cells))
            _right(axes, float(row), kinds if "done" not in kinds else "none counted")
            continue
        for kind, colour in KINDS.items():
            share = 100 * sums[kind] / total
            axes.barh(row, share, 0.62, left=left, color=colour, linewidth=0)
            left += share
        mean = mean_of(
            [float(sum(r.measured.gradients.values())) for r in cells if r.measured.gradients]
        )
        _right(axes, float(row), words.tick(round(mean.value)) if mean else "")
    _rows(axes, list(lines), 0.0)
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of all gradients")
    axes.set_ylim(len(lines) - 0.4, -0.6)
    legend(canvas, [(colour, kind) for kind, colour in KINDS.items()], 420)


def _rows(axes: Axes, lines: Sequence[Line], shift: float) -> None:
    axes.set_yticks(
        [row + shift for row in range(len(lines))], [line.label for line in lines], color=INK
    )
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _right(axes: Axes, row: float, text: str) -> None:
    """A word at the right end of a row."""
    axes.text(
        1.02, row, text, transform=axes.get_yaxis_transform(), va="center", color=QUIET, fontsize=10
    )
