"""What claims and advice measure of a record, also of one that came to nothing."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from distvi.errors import InputError, nearest
from distvi.runs.records import Record

TEST_METRICS = (
    "error_rate",
    "rmse",
    "rmse_standardized",
    "mnll",
    "mnll_standardized",
    "ece",
    "brier",
)
"""Of the last test; the smaller, the better."""

TIMES = ("time_s",)
WORK = ("idle_fraction", "bytes", "staleness")
METRICS = (*TEST_METRICS, *TIMES, *WORK)


class Metric(NamedTuple):
    """What is measured.

    Attributes:
        name: In `METRICS`.
        to: None, or the time is measured until the test metric ``name`` is at most that.
    """

    name: str
    to: float | None = None

    def __str__(self) -> str:
        return self.name if self.to is None else f"time to {self.name} {self.to!r}"

    @property
    def is_time(self) -> bool:
        """Whether it is a time, which is compared by ratios."""
        return self.to is not None or self.name in TIMES

    @property
    def unit(self) -> str:
        """Of a difference."""
        units = {"time_s": "s", "bytes": "bytes", "staleness": "updates"}
        units |= dict.fromkeys(("mnll", "mnll_standardized"), "nats")
        return "s" if self.is_time else units.get(self.name, "")


class Outcome(NamedTuple):
    """A number of which perhaps only a lower bound is known.

    Attributes:
        value: Infinite where a training diverged or did not get there.
        least: What the number exceeds at any rate; the value where it is finite.
    """

    value: float
    least: float


class Unmeasured(Exception):
    """A record has no such number: a claim is not decided then, and this says why."""


def known_metric(name: str, known: Sequence[str] = METRICS) -> str:
    """The name, if there is such a metric."""
    if name not in known:
        raise InputError(f"metric '{name}' is unknown{nearest(name, known)}")
    return name


def time_to(record: Record, metric: str, target: float) -> float:
    """Time of the first test whose metric is at most ``target``, in seconds; infinite if none is.

    Tests are looked at as they were made: nothing is interpolated.
    """
    curve = record.measured.curve
    rows = zip(curve.get("time_s", []), curve.get(f"test_{metric}", []), strict=False)
    found = (t for t, seen in rows if t is not None and seen is not None and seen <= target)
    return next(found, math.inf)


def outcome(
    record: Record, metric: Metric, study: Sequence[Record], classes: int | None
) -> Outcome:
    """A record's number.

    A training that diverged is as bad as can be. Its error rate is that of guessing, if the number
    of classes is given; otherwise its metric is infinite and at least the worst that any training
    of the study ever showed. Its times are infinite, and so is the time to a target of a training
    that ended before it: in the study's terms it never gets there, and counts as slower than the
    longest training of the study, however short it was itself.

    Args:
        record: A training that is done or diverged.
        metric: Which.
        study: All records, for the bounds.
        classes: Of the data, or None.

    Raises:
        Unmeasured: it has no such number.
    """
    diverged = record.status == "diverged"
    if metric.is_time:
        longest = max(each.measured.time_s for each in study)
        if diverged:
            return Outcome(math.inf, longest)
        time_s = record.measured.time_s
        if metric.to is not None:
            if f"test_{metric.name}" not in record.measured.curve:
                raise Unmeasured(f"{record.cell} has no curve of {metric.name}")
            time_s = time_to(record, metric.name, metric.to)
        return Outcome(time_s, longest if math.isinf(time_s) else time_s)
    if metric.name in WORK:
        return _of_work(record, metric.name)
    value = record.measured.test.get(metric.name)
    if value is None and not diverged:
        raise Unmeasured(f"{record.cell} has no {metric.name}")
    if not diverged and value is not None and math.isfinite(value):
        return Outcome(value, value)
    if metric.name == "error_rate" and classes is not None:
        return Outcome(1 - 1 / classes, 1 - 1 / classes)
    return Outcome(math.inf, _worst(study, metric.name))


def _of_work(record: Record, name: str) -> Outcome:
    if record.status == "diverged":
        raise Unmeasured(f"{record.cell} diverged, and has no {name}")
    measured = record.measured
    if name == "bytes":
        value: float | None = sum(measured.bytes.get(way, 0) for way in ("pushed", "pulled"))
    elif name == "idle_fraction":
        value = measured.idle_fraction
    else:
        gradients = sum(measured.staleness.values())
        ages = sum(age * count for age, count in measured.staleness.items())
        value = ages / gradients if gradients else None
    if value is None:
        raise Unmeasured(f"{record.cell} has no {name}")
    return Outcome(float(value), float(value))


def _worst(study: Sequence[Record], name: str) -> float:
    seen = [
        value
        for each in study
        for value in (each.measured.test.get(name), *each.measured.curve.get(f"test_{name}", []))
        if value is not None and math.isfinite(value)
    ]
    if not seen:
        raise Unmeasured(f"no training has a {name}")
    return max(seen)
