"""A drawing, and how it becomes an SVG for the page, a file of its own, or a PNG.

matplotlib draws. In the page its colours become CSS variables, so that a drawing follows the
reader's light or dark scheme; each keeps its light colour as the fallback, for where there is no
such variable. Text stays text. One unit of a drawing is one CSS pixel.
"""

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from distvi.report.figures import STYLE
from distvi.report.study.slices import Line

Canvas = Figure | SubFigure

# Okabe and Ito's colours, which colour-blind readers can tell apart, and a violet.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a68b3")
INK, QUIET, GRID, PAPER = "#1b1f23", "#59626b", "#e2e6e9", "#fffffe"

VARIABLES = {
    **{colour: f"--line-{i}" for i, colour in enumerate(COLOURS)},
    INK: "--text", QUIET: "--quiet", GRID: "--line", PAPER: "--card",
}  # fmt: skip
"""By colour the page's CSS variable."""

DASHES: Sequence[Any] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
MARKERS = "os^Dv<>P"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"

RC: dict[Any, Any] = {
    **STYLE,
    "font.size": 11,
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.titlepad": 9,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.facecolor": "none",
    "text.color": INK,
    "grid.color": GRID,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "xtick.minor.visible": False,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "legend.handlelength": 1.7,
    "legend.columnspacing": 1.2,
    "legend.handletextpad": 0.5,
    "legend.borderaxespad": 0.2,
    "svg.fonttype": "none",
    "figure.constrained_layout.h_pad": 4 / 72,
    "figure.constrained_layout.w_pad": 4 / 72,
}


@dataclass(frozen=True)
class Drawing:
    """One picture.

    Attributes:
        id: Unique on the page; the name of its files.
        title: What it shows, in a few words.
        draw: Draws it.
        width: In CSS pixels.
        height: In CSS pixels.
    """

    id: str
    title: str
    draw: Callable[[Canvas], None]
    width: int = 420
    height: int = 320


@dataclass(frozen=True)
class Plate:
    """Drawings of one question, with the caption that they share.

    Attributes:
        id: Unique on the page.
        heading: Above them.
        caption: What is seen, what is held, how many seeds; and why something is missing.
        drawings: None where there is nothing to draw.
    """

    id: str
    heading: str
    caption: str
    drawings: tuple[Drawing, ...] = ()


def _drawn(drawing: Drawing, dpi: int) -> Figure:
    size = (drawing.width / 72, drawing.height / 72)
    figure = Figure(figsize=size, dpi=dpi, layout="constrained", facecolor="none")
    drawing.draw(figure)
    return figure


def style(salt: str) -> dict[Any, Any]:
    """Matplotlib's settings, whatever anyone's matplotlibrc says."""
    return {**mpl.rcParamsDefault, **RC, "svg.hashsalt": salt, "backend": "agg"}


def png_of(drawing: Drawing, dpi: int = 180) -> bytes:
    """On white."""
    with mpl.rc_context(style(drawing.id)):
        figure, out = _drawn(drawing, dpi), io.BytesIO()
        FigureCanvasAgg(figure)
        figure.savefig(out, format="png", facecolor="white", metadata={"Software": None})
    return out.getvalue()


def svg_of(drawing: Drawing) -> str:
    """For the page: without a background, with the page's variables for colours."""
    with mpl.rc_context(style(drawing.id)):
        figure, out = _drawn(drawing, 72), io.StringIO()
        FigureCanvasSVG(figure)
        figure.savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format")))
    return _compact(out.getvalue(), drawing)


def plain(svg: str) -> str:
    """A drawing of the page as a file of its own: light colours, on white."""
    svg = re.sub(r"var\(--[\w-]+, ?(#\w+)\)", r"\1", svg)
    return svg.replace('style="', 'style="background: #fff; ', 1)


def _compact(svg: str, drawing: Drawing) -> str:
    """What matplotlib writes without what no browser needs: a third of it."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r"<!--.*?-->|<metadata>.*?</metadata>|<defs>\s*<style.*?</defs>", "", svg, flags=re.S
    )
    # Two drawings may have the same path: their identifiers differ on a page that holds both.
    salt = hashlib.sha256(drawing.id.encode()).hexdigest()[:6]
    svg = re.sub(r"<[^>]*>", lambda tag: _lean(tag[0], salt), svg)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    svg = re.sub(r"> <", "><", svg)
    root = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {drawing.width} {drawing.height}" '
        f'width="{drawing.width}" height="{drawing.height}" role="img" '
        f'style="font-family: {FONT}; stroke-linejoin: round">'
    )
    return re.sub(r"<svg[^>]*>", lambda _: root, svg, count=1).strip()


def _lean(tag: str, salt: str) -> str:
    """A tag without what is not needed; the texts between tags are names, and stay as they are."""
    tag = re.sub(r'^<g id="[^"]*"', "<g", tag)
    tag = re.sub(r"(\.\d\d)\d+", r"\1", tag)
    tag = re.sub(r" ?font-family: [^;\"]*(?:;|(?=\"))", "", tag)
    tag = re.sub(r"#[0-9a-f]{6}", lambda colour: _variable(colour[0]), tag)
    return re.sub(r'(id="|"#|url\(#)([mpC]\w+)', rf"\1d{salt}\2", tag)


def _variable(colour: str) -> str:
    name = VARIABLES.get(colour)
    return f"var({name}, {colour})" if name else colour


def look(line: Line) -> dict[str, Any]:
    """Colour, dashes and marker of a line."""
    return {
        "color": COLOURS[line.colour % len(COLOURS)],
        "linestyle": DASHES[line.dash % len(DASHES)],
        "marker": MARKERS[line.dash % len(MARKERS)],
        "markersize": 4.5,
    }


def width_of(canvas: Canvas) -> int:
    """Of a figure, or of its part, in points."""
    return int(canvas.bbox.width / canvas.get_figure(root=True).dpi * 72)  # type: ignore[union-attr]


def legend(canvas: Canvas, entries: Sequence[tuple[Line | str, str]], width: int) -> None:
    """Below everything: of each entry its line, or the colour of its area, and its label."""
    if not entries or (len(entries) == 1 and entries[0][1] == "all"):
        return
    handles = [
        Patch(color=kind, linewidth=0) if isinstance(kind, str) else Line2D([], [], **look(kind))
        for kind, _ in entries
    ]
    labels = [label for _, label in entries]
    longest = max(len(label) for label in labels)
    columns = max(1, min(len(labels), int(width / (longest * 6.6 + 40))))
    canvas.legend(handles, labels, loc="outside lower center", ncols=columns)


def nothing(axes: Axes, text: str) -> None:
    """Says in the middle of empty axes why they are empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=QUIET)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
