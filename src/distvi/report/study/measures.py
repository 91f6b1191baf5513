"""What is measured of a cell, as numbers in the units of the page's axes."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from distvi.runs.records import Measured, Record


@dataclass(frozen=True)
class Measure:
    """A number of every cell.

    Attributes:
        name: In identifiers of figures.
        title: Above a figure.
        label: Of its axis, with the unit.
        value: Of a cell that ended as it should; None where it has none.
    """

    name: str
    title: str
    label: str
    value: Callable[[Record], float | None]

    def of(self, record: Record) -> float | None:
        """The number; None of a cell that diverged, failed or has no finite one."""
        if record.status != "done":
            return None
        value = self.value(record)
        return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class Metric:
    """The metric of the test set that stands for a study's error.

    Attributes:
        name: In `Measured.test`; with ``test_`` before it in `Measured.curve`.
        title: What it is called.
        unit: Of the page.
        scale: From the record's unit to the page's.
    """

    name: str
    title: str
    unit: str = ""
    scale: float = 1.0

    @property
    def label(self) -> str:
        """Of an axis."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def heading(self) -> str:
        """At the beginning of a title."""
        return self.title[:1].upper() + self.title[1:]

    def measure(self) -> Measure:
        """The metric of the last test."""
        return Measure(
            self.name, self.heading, self.label,
            lambda record: _scaled(record.measured.test.get(self.name), self.scale),
        )  # fmt: skip


METRICS = (
    Metric("error_rate", "test error", "%", 100.0),
    Metric("rmse", "test RMSE"),
    Metric("mnll", "test MNLL", "nats"),
)
MNLL = METRICS[-1]


def main_metric(records: Sequence[Record]) -> Metric:
    """The first of `METRICS` that most of the cells have that have any."""
    counts = [sum(metric.name in r.measured.test for r in records) for metric in METRICS]
    return METRICS[counts.index(max(counts))]


def time_label(clock: str) -> str:
    """Of an axis of time."""
    return "virtual time (s)" if clock == "virtual" else "time (s)"


def time_measure(clock: str) -> Measure:
    """Training time."""
    return Measure("time", "Training time", time_label(clock), lambda r: r.measured.time_s)


def idle_measure() -> Measure:
    """The share of the workers' time in which they did not compute."""
    return Measure(
        "idle", "Idle time of workers", "idle (% of workers’ time)",
        lambda r: _scaled(r.measured.idle_fraction, 100.0),
    )  # fmt: skip


def tuned_measure(name: str) -> Measure:
    """The value of a setting that was chosen on validation data."""

    def value(record: Record) -> float | None:
        chosen = record.measured.tuned.get(name)
        return float(chosen) if isinstance(chosen, int | float) else None

    return Measure(f"tuned-{name}", f"Chosen {name}", name, value)


def examples_per_s(record: Record) -> float | None:
    """Throughput; None of a training that took no time."""
    measured = record.measured
    return measured.examples / measured.time_s if measured.time_s > 0 else None


def curve_of(measured: Measured, axis: str, metric: Metric) -> tuple[np.ndarray, np.ndarray] | None:
    """The metric along a column of the curve, where both are known; None: nowhere."""
    x, y = measured.curve.get(axis), measured.curve.get(f"test_{metric.name}")
    if not x or not y:
        return None
    pairs = [
        (a, b * metric.scale)
        for a, b in zip(x, y, strict=True)
        if a is not None and b is not None and math.isfinite(a) and math.isfinite(b)
    ]
    if not pairs:
        return None
    xs, ys = np.array(pairs).T
    return xs, ys


def time_to(record: Record, target: float, metric: Metric) -> float:
    """When the first test was as good as the target (in the page's unit); infinite: never."""
    curve = curve_of(record.measured, "time_s", metric)
    if curve is None:
        return math.inf
    reached = np.flatnonzero(curve[1] <= target * (1 + 1e-9))
    return float(curve[0][reached[0]]) if len(reached) else math.inf


def by_clock(records: Sequence[Record]) -> Mapping[str, list[Record]]:
    """Records by the clock of their times, which no axis mixes.

    A cell that ended before it measured anything has no clock of its own; it stands with the
    cells whose settings are most like its own.
    """
    known = [r for r in records if has_clock(r)]
    found: dict[str, list[Record]] = {r.measured.clock: [] for r in known}
    if len(found) <= 1:
        return {next(iter(found), "wall"): list(records)}
    models = {(clock, r.key): r for r in known for clock in [r.measured.clock]}
    for record in records:
        if has_clock(record):
            found[record.measured.clock].append(record)
            continue
        mine = set(record.key)
        nearest = max(models.values(), key=lambda r: len(mine & set(r.key)))
        found[nearest.measured.clock].append(record)
    return found


class Clocked(NamedTuple):
    """The cells on one clock, and how the figures of several clocks are told apart.

    Attributes:
        clock: The clock.
        cells: On it.
        suffix: Of identifiers; empty where there is one clock.
        words: Before a caption; empty likewise.
    """

    clock: str
    cells: list[Record]
    suffix: str
    words: str


def clocked(records: Sequence[Record]) -> list[Clocked]:
    """The cells on each clock, for figures that must not mix them."""
    groups = by_clock(records)
    if len(groups) == 1:
        return [Clocked(clock, cells, "", "") for clock, cells in groups.items()]
    return [
        Clocked(clock, cells, f"-{clock}", f"On the {clock} clock: ")
        for clock, cells in groups.items()
    ]


def has_clock(record: Record) -> bool:
    """Whether a cell measured any time."""
    return record.measured.time_s > 0 or bool(record.measured.curve.get("time_s"))


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale
