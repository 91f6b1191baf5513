"""Write the report of a study: the page by itself, or its figures and tables as files."""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from distvi.report.study import words
from distvi.report.study.content import PageContent
from distvi.report.study.curves import curve_plate
from distvi.report.study.drawing import Canvas, Drawing, Plate, plain, png_of, svg_of
from distvi.report.study.front import draw_front, front_plate
from distvi.report.study.gradients import gradients_plate, idle_plate, staleness_plate
from distvi.report.study.measures import by_clock, main_metric, time_measure
from distvi.report.study.points import axis_plates, draw_points, mean_point, tuned_plate
from distvi.report.study.slices import along, axes_of, principal
from distvi.report.study.speed import speedup_plate, target_plate
from distvi.report.study.tables import csv_of, tables_of
from distvi.runs.records import by_setting


def write_page(path: Path, content: PageContent) -> None:
    """Write a study as one HTML file that needs no other and no network.

    The same content gives the same bytes.

    Args:
        path: The file; an older one is replaced when the new one is whole.
        content: The study.

    Raises:
        OSError: the file cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(_page(content), encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_figures(folder: Path, content: PageContent) -> list[Path]:
    """Write every figure of the page as SVG and PNG, and every table as CSV.

    Args:
        folder: Where; it is made if it is not there. Files are named after the identifiers in
            the page.
        content: The study.

    Returns:
        The files.

    Raises:
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for drawing in (drawing for plate in plates_of(content) for drawing in plate.drawings):
        svg, png = folder / f"{drawing.id}.svg", folder / f"{drawing.id}.png"
        svg.write_text(plain(svg_of(drawing)) + "\n", encoding="utf-8")
        png.write_bytes(png_of(drawing))
        written += [svg, png]
    for table in tables_of(content).values():
        path = folder / f"{table.id}.csv"
        path.write_text(csv_of(table), encoding="utf-8")
        written.append(path)
    return written


def picture(content: PageContent) -> bytes:
    """The study at a glance, as a PNG: time and error along the principal setting, and the front.

    Of a study on two clocks the cells of the one that has more.

    Raises:
        ValueError: the study varies nothing, so that there is nothing to see.
    """
    axis = principal(content.records)
    if axis is None:
        raise ValueError("the study has one setting alone: a picture needs at least two")
    clock, records = max(by_clock(content.records).items(), key=lambda item: len(item[1]))
    cut, metric = along(records, axis), main_metric(records)

    def draw(canvas: Canvas) -> None:
        for part, measure in zip(
            canvas.subfigures(1, 3, width_ratios=[1, 1, 1.25])[:2],  # type: ignore[union-attr]
            (time_measure(clock), metric.measure()),
            strict=True,
        ):
            draw_points(part, cut, mean_point(measure), measure.title, measure.label)
        draw_front(canvas.subfigs[2], records, records, clock, metric)

    return png_of(Drawing("picture", content.title, draw, width=1240, height=380), dpi=120)


def plates_of(content: PageContent) -> list[Plate]:
    """The figures of the page in their order, their identifiers unique."""
    records, targets = content.records, content.target_errors
    if not records:
        return []
    plates = [
        front_plate(records),
        *axis_plates(records),
        curve_plate(records),
        target_plate(records, targets),
        speedup_plate(records, targets),
        staleness_plate(records),
        gradients_plate(records),
        idle_plate(records),
        tuned_plate(records, principal(records)),
    ]
    return list(_unique([plate for plate in plates if plate]))


def _unique(plates: list[Plate]) -> Iterator[Plate]:
    """Hostile or odd names may have the same slug: the later one gets a number."""
    seen: Counter[str] = Counter()

    def fresh(id: str) -> str:
        seen[id] += 1
        return id if seen[id] == 1 else f"{id}-{seen[id]}"

    for plate in plates:
        drawings = tuple(replace(d, id=fresh(d.id)) for d in plate.drawings)
        yield replace(plate, id=fresh(f"figures-{plate.id}"), drawings=drawings)


def _page(content: PageContent) -> str:
    assets = files("distvi.report.study") / "assets"
    script = (assets / "page.js").read_text(encoding="utf-8")
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    tables = tables_of(content)
    page = _template().render(
        content=content,
        style=Markup((assets / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=Markup(f"'sha256-{hashed}'"),
        facts=_facts(content),
        claims=tables.pop("claims", None),
        best=tables.pop("best", None),
        tables=list(tables.values()),
        plates=plates_of(content),
        svg_of=lambda drawing: Markup(svg_of(drawing)),
    )
    return page + "\n"


def _facts(content: PageContent) -> dict[str, str]:
    """What stands at the head of the page."""
    records, axes = content.records, axes_of(content.records)
    status = Counter(r.status for r in records)
    return {
        "cells": f"{len(records):,}",
        "settings": f"{len(by_setting(records)):,}",
        "seeds": f"{len({r.seed for r in records}):,}",
        "done": f"{status['done']:,}",
        "diverged": f"{status['diverged']:,}",
        "failed": f"{status['failed']:,}",
        "clock": words.listed(by_clock(records)) if records else "–",
        "varied": words.listed(map(words.human, axes)) if axes else "nothing",
    }


@cache
def _template():
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    source = files("distvi.report.study") / "assets" / "page.html.j2"
    return environment.from_string(source.read_text(encoding="utf-8"))
