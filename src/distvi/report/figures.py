"""One picture of a run: its learning curves and how far its probabilities can be trusted."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
)

from distvi.evaluation.metrics import Intervals, Reliability

Table = Mapping[str, np.ndarray]

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
GREY = "#666666"

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
}

DASHED = (0, (4, 3))
MINUS = "\N{MINUS SIGN}"
PERCENT = PercentFormatter(1, symbol=" %")

MAX_INTERVALS = 250
"""Predictions drawn with their intervals; more would hide one another."""

NO_METRICS: Mapping[str, float] = {}

LONGEST_NAME = 40
"""In characters; of a longer one the beginning is shown."""

LOG_SCALE_FROM = 3.0
"""A curve whose values span more than this factor is drawn on a logarithmic scale."""


def run_figure(
    path: Path,
    *,
    title: str,
    training: Table,
    tests: Table,
    predictions: Reliability | Intervals | None,
    constant: Mapping[str, float] = NO_METRICS,
) -> None:
    """Draw a run's learning curves beside its calibration, as a PNG of 1800 x 720 pixels.

    Of a run without tests there is the curve of training alone.

    Values that are not finite are left out of the curves.

    Args:
        path: File to write.
        title: Names the run.
        training: Columns ``update``, ``training_time_s`` and ``neg_elbo`` (per example, in nats);
            one row per reporting interval.
        tests: Columns ``update``, ``training_time_s``, ``mnll``, either ``error_rate`` (a
            fraction) or ``rmse``, and where it is known ``coverage_50``, ``coverage_90``,
            ``coverage_95``; one row per evaluation.
        predictions: The last evaluation's reliability table for classification; otherwise its
            predictions with their intervals; None: nothing was tested.
        constant: Metrics of the best constant prediction, by their columns in ``tests``; those that
            are finite are drawn as lines.

    Raises:
        KeyError: a column is missing.
        OSError: the file cannot be written.
    """
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the font lacks: a box stands for each
        mpl.rcdefaults()  # the picture does not depend on anyone's matplotlibrc
        mpl.rcParams.update(STYLE)
        figure = Figure(figsize=(12, 4.8), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(_shortened(title), x=0.006, ha="left", weight="bold", size=12.5)
        if predictions is None:
            _draw_training(figure.subplots(), training)
        else:
            # Each panel lays itself out: one's labels make no holes in another.
            left, middle, right = np.asarray(figure.subfigures(1, 3))
            _draw_training(left.subplots(), training)
            score, mnll = middle.subplots(2, sharex=True)
            _draw_tests(score, mnll, tests, constant)
            _draw_predictions(right, tests, predictions)
        part = path.with_name(f".{path.name}.part")
        try:
            figure.savefig(part, format="png")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _draw_predictions(right: SubFigure, tests: Table, predictions: Reliability | Intervals) -> None:
    main, strip = right.subplots(2, height_ratios=[3, 1])
    if isinstance(predictions, Reliability):
        _draw_reliability(main, strip, predictions)
    else:
        _draw_intervals(main, strip, predictions, tests)


def _draw_training(axes: Axes, training: Table) -> None:
    axes.set_title(f"train: {MINUS}ELBO per example")
    _draw_curve(axes, training, "neg_elbo", GREEN, "{:.3f} nats", marker="")
    _label_updates(axes)
    _add_time_axis(axes, training)


def _draw_tests(
    score_axes: Axes, mnll_axes: Axes, tests: Table, constant: Mapping[str, float]
) -> None:
    if "error_rate" in tests:
        score_axes.set_title("test: error rate")
        percent = {**tests, "error_rate": 100 * np.asarray(tests["error_rate"])}
        _draw_curve(score_axes, percent, "error_rate", BLUE, "{:.2f} %", marker="o")
        _draw_constant(score_axes, 100 * constant.get("error_rate", np.nan), " %")
    else:
        score_axes.set_title("test: RMSE")
        _draw_curve(score_axes, tests, "rmse", BLUE, "{}", marker="o")
        _draw_constant(score_axes, constant.get("rmse", np.nan))
    mnll_axes.set_title("test: MNLL")
    _draw_curve(mnll_axes, tests, "mnll", VERMILLION, "{} nats", marker="o")
    _draw_constant(mnll_axes, constant.get("mnll", np.nan))
    _label_updates(mnll_axes)
    _add_time_axis(score_axes, tests)


def _draw_curve(
    axes: Axes, table: Table, column: str, color: str, form: str, *, marker: str
) -> None:
    """A column against the update; its last value stands above the axes' right end."""
    update, value = np.asarray(table["update"]), np.asarray(table[column], np.float64)
    kept = np.isfinite(value)
    update, value = update[kept], value[kept]
    if not len(value):
        return
    marker = marker if len(value) <= 40 else ""
    axes.plot(update, value, color=color, marker=marker, markersize=3.5)
    axes.plot(update[-1], value[-1], color=color, marker="o", markersize=5, clip_on=False)
    last = value[-1] if ":" in form else number_text(value[-1])
    _write_value(axes, form.format(last), color)
    axes.set_xlim(0, max(update[-1], 1))
    _scale_values(axes, value, unit=" %" if form.endswith("%") else "")


def _draw_constant(axes: Axes, value: float, unit: str = "") -> None:
    """What a constant predicts, as a line; where that is beyond the axis, as words at its end."""
    if not np.isfinite(value):
        return
    low, high = axes.get_ylim()
    axes.axhline(value, color=GREY, linewidth=1, linestyle=DASHED)
    axes.set_ylim(low, high)
    is_above, is_below = value > high, value < low
    sign = "\N{UPWARDS ARROW} " if is_above else "\N{DOWNWARDS ARROW} " if is_below else ""
    axes.text(
        0.99,
        min(max(value, low), high),
        f"{sign}constant {number_text(value)}{unit}",
        transform=axes.get_yaxis_transform(),
        ha="right",
        va="top" if is_above else "bottom",
        color=GREY,
        size=8.5,
    )


def number_text(value: float, digits: int = 4) -> str:
    """A number with thousands separated, and neither an exponent nor an offset up to a billion.

    Example:
        >>> number_text(1234567.8), number_text(0.123456), number_text(3e12)
        ('1,234,568', '0.1235', '3e+12')
    """
    form = ",.0f" if 10**digits <= abs(value) < 1e9 else f",.{digits}g"
    return format(value, form).replace("-", MINUS)


def _write_value(axes: Axes, text: str, color: str) -> None:
    text = text.replace("-", MINUS)
    axes.set_title(text, loc="right", color=color, weight="bold")


def _scale_values(axes: Axes, value: np.ndarray, unit: str) -> None:
    """A logarithmic axis for positive values of wide range; else a linear one without outliers."""
    low, high = value.min(), value.max()
    if low > 0 and high / low > LOG_SCALE_FROM:
        axes.set_yscale("log")
        # The more decades, the fewer numbers of each.
        subs = (1, 2, 3, 5) if high / low < 10 else (1, 2, 5) if high / low < 100 else (1,)
        axes.yaxis.set_major_locator(LogLocator(subs=subs))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        # The first values of a run can be orders of magnitude off: then they leave the axis.
        settled = value[len(value) // 10 :]
        if high - low > 4 * np.ptp(settled) > 0:
            low, high = settled.min(), settled.max()
        margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
        axes.set_ylim(low - margin, high + margin)
        axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{number_text(v, 6)}{unit}"))


def _label_updates(axes: Axes) -> None:
    axes.set_xlabel("update")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))


def _add_time_axis(axes: Axes, table: Table) -> None:
    """Training time along the upper edge: round times at the updates they were reached at."""
    update, time_s = np.asarray(table["update"]), np.asarray(table["training_time_s"])
    if len(update) == 0 or time_s[-1] <= 0:
        return
    divisor, unit = next(
        (seconds, name)
        for seconds, name in ((3600, "h"), (60, "min"), (1, "s"))
        if time_s[-1] >= 3 * seconds or seconds == 1
    )
    # From the start of the run, so that times before the first row have their place too.
    update, time = np.append(0, update), np.append(0.0, time_s) / divisor
    ticks = np.asarray(MaxNLocator(5).tick_values(0, time[-1]))
    ticks = ticks[(ticks >= 0) & (ticks <= time[-1])]
    top = axes.secondary_xaxis("top")
    top.set_xticks(np.interp(ticks, time, update), [f"{tick:g}" for tick in ticks])
    top.tick_params(colors=GREY, labelcolor=GREY, labelsize=8.5, length=2.5, pad=1)
    top.set_xlabel(f"training time ({unit})", color=GREY, size=8.5, labelpad=3)
    top.spines["top"].set_visible(True)


def _draw_reliability(axes: Axes, strip: Axes, table: Reliability) -> None:
    held = table.points > 0
    points, confidence, accuracy = (
        column[held] for column in (table.points, table.confidence, table.accuracy)
    )
    ece = np.sum(points * np.abs(accuracy - confidence)) / points.sum()
    lower, upper = _wilson_interval(accuracy, points)
    axes.set_title("test: reliability")
    _write_value(axes, f"ECE {100 * ece:.2f} %", BLUE)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=DASHED)
    axes.plot(confidence, accuracy, color=BLUE, linewidth=1, alpha=0.5)
    axes.errorbar(
        confidence,
        accuracy,
        yerr=np.maximum(0, [accuracy - lower, upper - accuracy]),
        color=BLUE,
        marker="o",
        markersize=5,
        linestyle="",
        elinewidth=1.3,
    )
    axes.set_ylabel("accuracy, with 95 % intervals")
    axes.set_ylim(-0.02, 1.03)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.sharex(strip)
    axes.tick_params(labelbottom=False)
    _draw_bin_counts(strip, table)


def _draw_bin_counts(axes: Axes, table: Reliability) -> None:
    axes.bar(
        table.lower, table.points, table.upper - table.lower, align="edge",
        color=BLUE, alpha=0.55, edgecolor="white", linewidth=0.8,
    )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(0.7, 3 * table.points.max())
    decades = np.log10(table.points.max())
    axes.set_yticks([10.0**power for power in range(0, int(decades) + 1, 1 + int(decades) // 4)])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.set_ylabel("points")
    axes.set_xlabel("confidence (top probability)")
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PERCENT)


def _wilson_interval(
    fraction: Float[np.ndarray, " bins"], points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % score interval of a binomial probability (Wilson 1927, JASA)."""
    z = 1.96
    center = (fraction + z**2 / (2 * points)) / (1 + z**2 / points)
    spread = np.sqrt(fraction * (1 - fraction) / points + (z / (2 * points)) ** 2)
    half_width = z * spread / (1 + z**2 / points)
    return center - half_width, center + half_width


def _draw_intervals(axes: Axes, strip: Axes, table: Intervals, tests: Table) -> None:
    order = np.argsort(table.true, kind="stable")
    shown = order[np.unique(np.linspace(0, len(order) - 1, MAX_INTERVALS).astype(int))]
    true, mean, lower, upper = (
        np.asarray(column)[shown] for column in (table.true, table.mean, table.lower, table.upper)
    )
    inside = (lower <= true) & (true <= upper)
    axes.set_title(f"test: predictions, {100 * table.level:.0f} % intervals")
    for rows, color, label in ((inside, BLUE, "holds the truth"), (~inside, VERMILLION, "misses")):
        axes.vlines(true[rows], lower[rows], upper[rows], color=color, alpha=0.35, linewidth=1)
        axes.plot(
            true[rows], mean[rows], color=color, marker="o", markersize=3, linestyle="", label=label
        )
    ends = np.array([true.min(), true.max()])
    axes.plot(ends, ends, color=GREY, linewidth=1, linestyle=DASHED)
    axes.figure.legend(
        loc="outside lower center", ncols=2, frameon=False, handletextpad=0.1, markerscale=1.5
    )
    for axis, most in ((axes.xaxis, 5 if abs(ends).max() < 1e4 else 3), (axes.yaxis, 5)):
        axis.set_major_locator(MaxNLocator(most))
        axis.set_major_formatter(FuncFormatter(lambda v, _: number_text(v, 6)))
    axes.set_xlabel(f"true {_shortened(table.target)}")
    axes.set_ylabel(f"predicted {_shortened(table.target)}")
    _draw_coverage(strip, tests)


def _shortened(name: str) -> str:
    return (
        name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
    )


def _draw_coverage(axes: Axes, tests: Table) -> None:
    """Observed against nominal coverage of the last evaluation, as one bar per interval."""
    nominal = [name.removeprefix("coverage_") for name in tests if name.startswith("coverage_")]
    if not nominal:
        axes.set_visible(False)
        return
    rows = np.arange(len(nominal))[::-1]
    for row, name in zip(rows, nominal, strict=True):
        level, observed = int(name) / 100, float(tests[f"coverage_{name}"][-1])
        axes.barh(row, observed, height=0.6, color=BLUE, alpha=0.55)
        axes.plot([level, level], [row - 0.42, row + 0.42], color="black", linewidth=1.8)
        axes.text(1.02, row, f"{100 * observed:.1f} %", va="center", color=BLUE, weight="bold")
    axes.set_yticks(rows, [f"{name} %" for name in nominal])
    axes.set_ylabel("interval")
    axes.set_xlabel("test points inside (line: as claimed)")
    axes.set_xlim(0, 1)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter(PERCENT)
