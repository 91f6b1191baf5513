"""The tables of a study's page: what stands in them, and their CSV."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distvi.report.study import words
from distvi.report.study.content import PageContent
from distvi.report.study.front import best
from distvi.report.study.measures import (
    MNLL,
    Measure,
    Metric,
    by_clock,
    has_clock,
    main_metric,
    time_measure,
    time_to,
)
from distvi.report.study.slices import axes_of
from distvi.report.study.speed import target_text
from distvi.report.study.statistics import mean_of
from distvi.runs.answers import ClaimAnswer
from distvi.runs.records import Record, Value, by_setting

Plain = str | int | float | None


@dataclass(frozen=True)
class Cell:
    """One field of a table.

    Attributes:
        text: As it is read.
        value: As it is sorted and stands in the CSV, where that is not the text.
        kind: Its look: ``""``, ``"number"``, or ``"badge"`` with the text as its class.
        links: Rows of the table of settings, instead of the text.
    """

    text: str
    value: Plain = None
    kind: str = ""
    links: tuple[int, ...] = ()

    @property
    def csv(self) -> str:
        """In the CSV."""
        if self.value is None:
            return "" if self.kind == "number" else self.text
        return repr(self.value) if isinstance(self.value, float) else str(self.value)


@dataclass(frozen=True)
class Column:
    """A column: its heading on the page, and in the CSV."""

    heading: str
    csv: str
    kind: str = ""


@dataclass(frozen=True)
class Row:
    """A row, and the identifier by which links find it."""

    cells: tuple[Cell, ...]
    id: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        id: Unique on the page; the name of its file.
        title: Above it.
        note: Under the title.
        columns: Its columns.
        rows: Its rows.
        folded: Whether the page shows it only when asked.
    """

    id: str
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    folded: bool = False


def csv_of(table: Table) -> str:
    """The table for other programs: raw numbers, a dot for the decimal point."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.csv for column in table.columns])
    writer.writerows([cell.csv for cell in row.cells] for row in table.rows)
    return out.getvalue()


def tables_of(content: PageContent) -> dict[str, Table]:
    """All tables that have rows, by their identifiers."""
    numbers = {key: i for i, key in enumerate(by_setting(content.records), 1)}
    tables = (
        claims_table(content.claims, content.records, numbers),
        best_table(content.records, numbers),
        settings_table(content.records),
        targets_table(content.records, content.target_errors),
        lost_table(content.records, numbers),
        cells_table(content.records, numbers),
    )
    return {table.id: table for table in tables if table.rows}


Numbers = Mapping[tuple[tuple[str, Value], ...], int]


def claims_table(
    claims: Sequence[ClaimAnswer], records: Sequence[Record], numbers: Numbers
) -> Table:
    """What was claimed, and what the records say."""
    of_cell = {r.cell: numbers[r.key] for r in records}
    columns = (
        Column("verdict", "verdict"),
        Column("claim", "claim"),
        Column("estimate", "estimate", "number"),
        Column("95 % from", "low", "number"),
        Column("to", "high", "number"),
        Column("unit", "unit"),
        Column("p", "p_value", "number"),
        Column("p adjusted", "p_adjusted", "number"),
        Column("rests on settings", "cells"),
    )
    rows = tuple(_claim_row(claim, of_cell) for claim in claims)
    note = (
        "The interval is of the estimate; p adjusted allows for all claims that were tested "
        "together. “Not decided”: the records rule out neither the claim nor its opposite."
    )
    return Table("claims", "Claims", note, columns, rows)


def _claim_row(claim: ClaimAnswer, of_cell: Mapping[str, int]) -> Row:
    links = tuple(sorted({of_cell[cell] for cell in claim.cells if cell in of_cell}))
    text = f"{claim.name}: {claim.text}" + (f" ({claim.note})" if claim.note else "")
    estimate, low, high = words.to_two_digits_of(
        (claim.high - claim.low) / 2, claim.estimate, claim.low, claim.high
    )
    cells = (
        Cell(claim.verdict, kind="badge"),
        Cell(text),
        Cell(estimate, _finite(claim.estimate), "number"),
        Cell(low, _finite(claim.low), "number"),
        Cell(high, _finite(claim.high), "number"),
        Cell(claim.unit),
        Cell(p_text(claim.p_value), _finite(claim.p_value), "number"),
        Cell(p_text(claim.p_adjusted), _finite(claim.p_adjusted), "number"),
        Cell(words.count(len(claim.cells), "cell"), " ".join(claim.cells), links=links),
    )
    return Row(cells, f"claim-{words.slug(claim.name)}")


def p_text(p: float) -> str:
    """A p value: no more precise than anyone believes."""
    if math.isnan(p):
        return "–"
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.3f}"


def settings_table(records: Sequence[Record]) -> Table:
    """Every setting: its means over seeds, and how its cells ended."""
    axes, metric = tuple(axes_of(records)), main_metric(records)
    tuned = tuple(dict.fromkeys(name for r in records for name in r.measured.tuned))
    clocks = by_clock(records)
    clock_of = {r.cell: clock for clock, cells in clocks.items() for r in cells}
    measures = [time_measure(next(iter(clocks)) if len(clocks) == 1 else "wall"), metric.measure()]
    if metric is not MNLL and any("mnll" in r.measured.test for r in records):
        measures.append(MNLL.measure())
    columns = (
        Column("#", "setting", "number"),
        *_axis_columns(records),
        *(Column(f"chosen {name}", f"chosen_{name}") for name in tuned),
        *([Column("clock", "clock")] if len(clocks) > 1 else []),
        Column("done", "done"),
        Column("status", "status"),
        *(column for measure in measures for column in _columns_of(measure)),
    )
    rows = tuple(
        Row(
            (
                _whole(number),
                *(_value(cells[0].settings.get(name)) for name in axes),
                *(_chosen(cells, name) for name in tuned),
                *([Cell(clock_of[cells[0].cell])] if len(clocks) > 1 else []),
                Cell(f"{sum(r.status == 'done' for r in cells)}/{len(cells)}"),
                _status(cells),
                *(cell for measure in measures for cell in _mean_cells(cells, measure)),
            ),
            f"setting-{number}",
        )
        for number, cells in enumerate(by_setting(records).values(), 1)
    )
    note = (
        "Means over the seeds that were done; ±: half the width of the 95 % interval (t) of the "
        "mean, of two seeds and more."
    )
    return Table("settings", "All settings", note, columns, rows)


def _axis_columns(records: Sequence[Record]) -> tuple[Column, ...]:
    def kind(values: Sequence[Value]) -> str:
        return "" if any(isinstance(v, str | bool) for v in values) else "number"

    return tuple(Column(name, name, kind(values)) for name, values in axes_of(records).items())


def _columns_of(measure: Measure) -> tuple[Column, Column]:
    name = words.slug(measure.label).replace("-", "_")
    return Column(measure.label, name, "number"), Column("±", f"{name}_half_width", "number")


def _mean_cells(cells: Sequence[Record], measure: Measure) -> tuple[Cell, Cell]:
    mean = mean_of([v for r in cells if (v := measure.of(r)) is not None])
    return _number(mean and mean.value), _number(mean and mean.half_width, 2)


def _chosen(cells: Sequence[Record], name: str) -> Cell:
    """The values that were chosen for the seeds, each once."""
    values = dict.fromkeys(r.measured.tuned[name] for r in cells if name in r.measured.tuned)
    if len(values) == 1:
        return _value(next(iter(values)))
    return Cell(", ".join(words.setting(value) for value in values) or "–")


def _status(cells: Sequence[Record]) -> Cell:
    """The worst of the seeds' status."""
    found = {r.status for r in cells}
    return Cell(next(s for s in ("failed", "diverged", "done") if s in found), kind="badge")


def best_table(records: Sequence[Record], numbers: Numbers) -> Table:
    """The front of time and error."""
    metric, axes, clocks = main_metric(records), tuple(axes_of(records)), by_clock(records)
    time = time_measure(next(iter(clocks)) if len(clocks) == 1 else "wall")
    columns = (
        Column("point", "point", "number"),
        *([Column("clock", "clock")] if len(clocks) > 1 else []),
        *_axis_columns(records),
        *_columns_of(time),
        *_columns_of(metric.measure()),
        Column("setting", "setting"),
    )
    rows = tuple(
        Row(
            (
                _whole(i),
                *([Cell(clock)] if len(clocks) > 1 else []),
                *(_value(standing.settings.get(name)) for name in axes),
                _number(standing.time.value), _number(standing.time.half_width, 2),
                _number(standing.error.value), _number(standing.error.half_width, 2),
                _link(numbers[standing.records[0].key]),
            )
        )
        for clock, cells in clocks.items()
        for i, standing in enumerate(best(cells, clock, metric), 1)
    )  # fmt: skip
    note = "The numbered points: settings that no other beats in time without losing in error."
    return Table("best", "Best settings", note, columns, rows)


def targets_table(records: Sequence[Record], targets: Sequence[float]) -> Table:
    """How many seeds of every setting reached the targets, and when."""
    metric, axes = main_metric(records), tuple(axes_of(records))
    names = [target_text(target, metric) for target in targets]
    columns = (
        Column("#", "setting", "number"),
        *_axis_columns(records),
        *(
            column
            for name in names
            for column in (
                Column(f"reached {name}", f"reached {name}"),
                Column(f"time to {name} (s)", f"time to {name} (s)", "number"),
            )
        ),
    )
    rows = tuple(
        Row(
            (
                _link(number),
                *(_value(cells[0].settings.get(name)) for name in axes),
                *(c for target in targets for c in _target_cells(cells, target, metric)),
            )
        )
        for number, cells in enumerate(by_setting(records).values(), 1)
    )
    note = "Of all seeds those that reached it; the time is the mean of these alone."
    return Table("targets-reached", "Targets", note, columns, rows if targets else ())


def _target_cells(cells: Sequence[Record], target: float, metric: Metric) -> tuple[Cell, Cell]:
    times = [time_to(r, target * metric.scale, metric) for r in cells if r.status == "done"]
    reached = [t for t in times if math.isfinite(t)]
    mean = mean_of(reached)
    never = Cell("never", None, "number")
    return Cell(f"{len(reached)}/{len(cells)}"), _number(mean.value) if mean else never


def lost_table(records: Sequence[Record], numbers: Numbers) -> Table:
    """The cells that diverged or failed, with the reasons."""
    axes = tuple(axes_of(records))
    columns = (
        Column("cell", "cell"),
        Column("setting", "setting"),
        *_axis_columns(records),
        Column("seed", "seed", "number"),
        Column("status", "status"),
        Column("updates", "updates", "number"),
        Column("reason", "reason"),
    )
    rows = tuple(
        Row(
            (
                Cell(r.cell),
                _link(numbers[r.key]),
                *(_value(r.settings.get(name)) for name in axes),
                _whole(r.seed),
                Cell(r.status, kind="badge"),
                _whole(r.measured.updates),
                Cell(r.reason or "–"),
            )
        )
        for r in records
        if r.status != "done"
    )
    note = "They are in no mean and on no curve."
    return Table("lost", "Cells that diverged or failed", note, columns, rows)


def cells_table(records: Sequence[Record], numbers: Numbers) -> Table:
    """Every cell by itself."""
    metrics = tuple(dict.fromkeys(name for r in records for name in r.measured.test))
    axes = tuple(axes_of(records))
    names = (
        "cell", "setting", "block", *axes, "seed", "status", "clock", "time_s", *metrics,
        "updates", "examples", "used", "refused", "cancelled", "bytes_pushed", "bytes_pulled",
        "idle_fraction", "whole_s", "stopped_by", "trials",
    )  # fmt: skip
    rows = tuple(
        Row(tuple(_cell(r, numbers, axes, metrics)), f"cell-{words.slug(r.cell)}") for r in records
    )
    kinds = (
        [cell.kind.replace("badge", "") for cell in rows[0].cells] if rows else [""] * len(names)
    )
    columns = tuple(
        Column(name.replace("_", " "), name, kind) for name, kind in zip(names, kinds, strict=True)
    )
    note = "In the units of the records: errors as fractions, times in seconds."
    return Table("cells", "All cells", note, columns, rows, folded=True)


def _cell(r: Record, numbers: Numbers, axes: Sequence[str], metrics: Sequence[str]) -> list[Cell]:
    m = r.measured
    return [
        Cell(r.cell), _whole(numbers[r.key]), Cell(r.block),
        *(_value(r.settings.get(name)) for name in axes),
        _whole(r.seed), Cell(r.status, kind="badge"), Cell(m.clock if has_clock(r) else "–"),
        _number(m.time_s),
        *(_number(m.test.get(name)) for name in metrics),
        _whole(m.updates), _whole(m.examples),
        *(_whole(m.gradients.get(kind)) for kind in ("used", "refused", "cancelled")),
        *(_whole(m.bytes.get(kind)) for kind in ("pushed", "pulled")),
        _number(m.idle_fraction), _number(m.parts_s.get("whole")), Cell(m.stopped_by),
        _whole(len(m.trials)),
    ]  # fmt: skip


def _number(value: int | float | None, digits: int = 3) -> Cell:
    return Cell(words.number(value, digits), _finite(value), "number")


def _finite(value: int | float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _link(number: int) -> Cell:
    return Cell("", number, links=(number,))


def _whole(value: int | None) -> Cell:
    return Cell("–" if value is None else f"{value:,}", value, "number")


def _value(value: Value | None) -> Cell:
    if value is None:
        return Cell("–", "")
    if isinstance(value, str | bool):
        return Cell(words.setting(value))
    return Cell(words.setting(value), value, "number")
