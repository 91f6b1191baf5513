"""Pictures of simulated clusters: how schemes scale, and what everybody did when."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from distvi.engines.trace import Span
from distvi.report.figures import DASHED, GREY, STYLE

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, for lines."""

OF_WORK: Mapping[str, str] = {
    "compute": "#009E73",
    "push": "#D55E00",
    "pull": "#0072B2",
    "wait": "#E6E6E6",
    "apply": "#CC79A7",
}


def scaling_figure(path: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Examples per second by workers: a line for each scheme and number of servers.

    Args:
        path: The PNG to write.
        results: Of each run its scheme as it was asked for, workers, servers and examples_per_s.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.subplots()
        lines: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
        for result in results:
            lines.setdefault((result["asked"], result["servers"]), []).append(result)
        schemes = list(dict.fromkeys(scheme for scheme, _ in lines))
        servers = sorted({number for _, number in lines})
        for (scheme, number), points in lines.items():
            axes.plot(
                [point["workers"] for point in points],
                [point["examples_per_s"] for point in points],
                color=COLOURS[schemes.index(scheme) % len(COLOURS)],
                marker="os^Dv"[servers.index(number) % 5],
                label=f"{scheme}, {number} server{'s' if number > 1 else ''}",
            )
        _ideal(axes, results)
        axes.set(xlabel="workers", ylabel="examples per virtual second")
        axes.set_title("Throughput")
        if min(result["examples_per_s"] for result in results) > 0:
            axes.set(xscale="log", yscale="log")
            axes.set_xticks(sorted({result["workers"] for result in results}))
            axes.xaxis.set_major_formatter("{x:.0f}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.legend(frameon=False, fontsize=8)
        _write(figure, path)


def timeline_figure(path: Path, timelines: Mapping[str, Sequence[Span]]) -> None:
    """What workers and servers did at the beginning: a panel for each scheme.

    Args:
        path: The PNG to write.
        timelines: Spans by the scheme's name.
    """
    style: dict[Any, Any] = {**STYLE, "axes.grid": False}
    with mpl.rc_context(style):
        figure = Figure(figsize=(9, 0.6 + 2.4 * len(timelines)), layout="constrained")
        panels = figure.subplots(len(timelines), squeeze=False)[:, 0]
        for axes, (scheme, spans) in zip(panels, timelines.items(), strict=True):
            rows = sorted({_row(span) for span in spans})
            for row, where in enumerate(rows):
                for what, colour in OF_WORK.items():
                    axes.broken_barh(
                        [
                            (span.start_s, span.end_s - span.start_s)
                            for span in spans
                            if span.what == what and _row(span) == where
                        ],
                        (row - 0.4, 0.8),
                        facecolors=colour,
                        edgecolors=colour,
                        linewidth=0.8 if what == "apply" else 0,  # else too short to be seen
                    )
            names = [f"{where} {n}" if lane == 0 else "" for where, n, lane in rows]
            axes.set_yticks(range(len(rows)), names, fontsize=6)
            axes.set_title(scheme)
            axes.set_xlim(left=0)
        panels[-1].set_xlabel("virtual seconds")
        handles = [Patch(color=colour, label=what) for what, colour in OF_WORK.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
        _write(figure, path)


def _ideal(axes: Any, results: Sequence[Mapping[str, Any]]) -> None:
    """As many times the smallest cluster's throughput as there are workers."""
    least = min(result["workers"] for result in results)
    base = max(r["examples_per_s"] for r in results if r["workers"] == least)
    workers = sorted({result["workers"] for result in results})
    ideal = [base * number / least for number in workers]
    axes.plot(workers, ideal, color=GREY, linestyle=DASHED, linewidth=1, label="linear")


def _row(span: Span) -> tuple[str, int, int]:
    return span.where, span.number, span.lane


def _write(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure).print_png(str(path))
