"""Weighted sums of means over seeds, by strata, of records that may have come to nothing."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from distvi.evaluation.uncertainty import Interval, Student, combine, exponential, student
from distvi.runs.records import Record, Value
from distvi.studies.outcomes import Metric, Outcome, Unmeasured, outcome
from distvi.studies.sentences import Comparison, Equivalence, Sentence, SpeedUp, Terms, Trend, spell

ALPHA = 0.05
"""Probability of a wrong verdict anywhere in a study."""

Conditions = Mapping[str, Value]
Stratum = tuple[tuple[str, Value], ...]
Cells = list[list[dict[int, Outcome]]]
"""By stratum and group: the outcome of each seed."""


class Question(NamedTuple):
    """What a claim asks of records.

    Attributes:
        metric: What is measured.
        groups: Settings that the records of each group have.
        weights: Of the groups' means in the sum.
        is_log: Whether logarithms are summed, and the estimate is a ratio.
        asks: Whether the sum is above the bound, below it, or within it on both sides of 0.
        bound: Of the sum; a logarithm if ``is_log``.
        unit: Of the estimate.
    """

    metric: Metric
    groups: Sequence[Conditions]
    weights: Sequence[float]
    is_log: bool
    asks: Literal["above", "below", "within"]
    bound: float
    unit: str


@dataclass(frozen=True)
class Finding:
    """An answer before the correction: p-values for and against, and what goes with them."""

    p_for: float
    p_against: float
    interval: Interval
    unit: str = ""
    cells: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str = ""

    @classmethod
    def of_nothing(cls, reason: str) -> "Finding":
        """Where nothing can be said."""
        return cls(1.0, 1.0, Interval(math.nan, -math.inf, math.inf), reason=reason)


def question(sentence: Sentence, records: Sequence[Record]) -> Question:
    """What a checked sentence asks.

    Raises:
        Unmeasured: a trend has fewer than two levels in the records.
    """
    if isinstance(sentence, Comparison | Equivalence):
        one, two = dict(_pairs(sentence.first)), dict(_pairs(sentence.second))
        groups, metric = ({**two, **one}, {**one, **two}), sentence.metric
        if isinstance(sentence, Equivalence):
            return Question(metric, groups, (1, -1), False, "within", sentence.margin, metric.unit)
        by, above = sentence.by, sentence.above
        is_log = metric.is_time and by is None
        bound = (by or 0.0) if above else -(by or 0.0)
        asks = "above" if above else "below"
        return Question(
            metric, groups, (1, -1), is_log, asks, bound, "x" if is_log else metric.unit
        )
    at = dict(_pairs(sentence.at))
    if isinstance(sentence, SpeedUp):
        groups = tuple({**at, sentence.setting: level} for level in (sentence.start, sentence.end))
        asks, bound = "above" if sentence.above else "below", math.log(sentence.factor)
        return Question(sentence.metric, groups, (1, -1), True, asks, bound, "x")
    return _slope(sentence, at, records)


def _slope(sentence: Trend, at: Conditions, records: Sequence[Record]) -> Question:
    """The least-squares slope over the levels' logarithms, or ranks if one is not positive."""
    seen = {
        r.settings[sentence.setting] for r in _having(records, at) if sentence.setting in r.settings
    }
    levels = sorted(float(level) for level in seen)
    if len(levels) < 2:
        raise Unmeasured(f"fewer than two values of {sentence.setting} have been run")
    is_positive = levels[0] > 0
    x = [math.log2(level) if is_positive else float(i) for i, level in enumerate(levels)]
    centre = sum(x) / len(x)
    scale = sum((each - centre) ** 2 for each in x)
    weights = [(each - centre) / scale for each in x]
    groups = [{**at, sentence.setting: level} for level in levels]
    metric, is_log = sentence.metric, sentence.metric.is_time
    step = f"per {'doubling' if is_positive else 'step'} of {sentence.setting}"
    unit = f"{'x' if is_log else metric.unit} {step}".strip()
    asks = "above" if sentence.rises else "below"
    return Question(metric, groups, weights, is_log, asks, 0.0, unit)


def find(asked: Question, records: Sequence[Record], classes: int | None = None) -> Finding:
    """What records say.

    Settings that the question leaves open make strata: records of the same values are compared with
    one another, and the sums of all strata are averaged seed by seed. Where all groups have the
    same seeds in all strata, seeds are paired; else groups are independent samples (Welch).

    An infinite outcome (see `distvi.studies.outcomes.outcome`) never helps the side that it is on.
    To show that its group has the larger mean, it enters with its lower bound, so that the truth is
    further off than what is tested; to show the opposite is impossible.

    Raises:
        Unmeasured: cells are missing or unfinished, or have no such metric.
    """
    strata, used, notes = _strata(asked, records)
    sample: Cells = [
        [_by_seed(group, asked, records, classes) for group in stratum] for stratum in strata
    ]
    low = _estimate(sample, asked, lambda w, seen: seen.least if w > 0 else seen.value)
    high = _estimate(sample, asked, lambda w, seen: seen.value if w > 0 else seen.least)
    centre = _estimate(sample, asked, lambda w, seen: seen.value).value
    interval = Interval(centre, low.interval().low, high.interval().high)
    return Finding(
        *_p_values(asked, low, high),
        exponential(interval) if asked.is_log else interval,
        asked.unit,
        tuple(dict.fromkeys(record.cell for record in used)),
        (*notes, *_remarks(sample, low)),
        _why_open(sample, low, high),
    )


def _p_values(asked: Question, low: Student, high: Student) -> tuple[float, float]:
    """For and against; "within" is two one-sided tests (Schuirmann 1987)."""
    bound = asked.bound
    above, below = low.p_above(bound), high.p_below(bound)
    if asked.asks == "within":
        return max(low.p_above(-bound), below), min(above, high.p_below(-bound))
    return (above, below) if asked.asks == "above" else (below, above)


def _strata(
    asked: Question, records: Sequence[Record]
) -> tuple[list[list[list[Record]]], list[Record], list[str]]:
    """Records by stratum and group, all of them, and what is to be said of the strata."""
    groups = [_having(records, conditions) for conditions in asked.groups]
    for conditions, group in zip(asked.groups, groups, strict=True):
        if not group:
            raise Unmeasured(f"no cell with {_words(conditions)}")
        failed = [f"{_words(r.settings)} seed {r.seed}" for r in group if r.status == "failed"]
        if failed:
            raise Unmeasured(f"unfinished cells: {'; '.join(failed)}")
    mentioned = {name for conditions in asked.groups for name in conditions}
    shared = set.intersection(*(set(r.settings) for group in groups for r in group)) - mentioned
    tables = [_by_stratum(group, sorted(shared)) for group in groups]
    everywhere = [key for key in tables[0] if all(key in table for table in tables)]
    left = {key for table in tables for key in table} - set(everywhere)
    if not everywhere:
        raise Unmeasured("no two cells differ in nothing else than what is compared")
    notes = [f"mean of {len(everywhere)} strata"] if len(everywhere) > 1 else []
    if left:
        notes.append(f"left out: {len(left)} strata that lack a side")
    strata = [[table[key] for table in tables] for key in everywhere]
    return strata, [r for stratum in strata for group in stratum for r in group], notes


def _by_stratum(group: Iterable[Record], names: Sequence[str]) -> dict[Stratum, list[Record]]:
    found: dict[Stratum, list[Record]] = {}
    for record in group:
        key = tuple((name, record.settings[name]) for name in names)
        found.setdefault(key, []).append(record)
    return found


def _by_seed(
    group: Sequence[Record], asked: Question, records: Sequence[Record], classes: int | None
) -> dict[int, Outcome]:
    """Of each seed; the mean where settings that other groups do not have make several of it."""
    seen: dict[int, dict[str, Outcome]] = {}
    for record in group:
        number = outcome(record, asked.metric, records, classes)
        if asked.is_log:
            if number.least <= 0:
                raise Unmeasured(f"{record.cell} has a {asked.metric} of 0")
            number = Outcome(*(math.log(each) for each in number))
        seen.setdefault(record.seed, {})[record.cell] = number
    return {
        seed: Outcome(*(sum(column) / len(cells) for column in zip(*cells.values(), strict=True)))
        for seed, cells in seen.items()
    }


def _estimate(sample: Cells, asked: Question, pick: Callable[[float, Outcome], float]) -> Student:
    """The sum, of the numbers that are picked by the weight's sign."""
    shares = [weight / len(sample) for weight in asked.weights]
    terms = [
        (w, {seed: pick(w, seen) for seed, seen in group.items()})
        for stratum in sample
        for w, group in zip(shares, stratum, strict=True)
        if w != 0
    ]
    ends = {w * number for w, group in terms for number in group.values() if math.isinf(number)}
    if ends:
        return Student(sum(ends), 0.0, 0.0)  # NaN where they are of both signs
    if _is_paired(sample):
        return student([sum(w * group[seed] for w, group in terms) for seed in sorted(terms[0][1])])
    return combine((w, student(list(group.values()))) for w, group in terms)


def _is_paired(sample: Cells) -> bool:
    return len({frozenset(group) for stratum in sample for group in stratum}) == 1


def _remarks(sample: Cells, low: Student) -> list[str]:
    outcomes = [o for stratum in sample for group in stratum for o in group.values()]
    never = sum(math.isinf(each.value) for each in outcomes)
    notes = []
    if never:
        notes.append(f"{never} of {len(outcomes)} trainings never got there and count as infinite")
    if not _is_paired(sample):
        notes.append("the seeds of the sides differ: unpaired")
    if low.error == 0 and low.freedom > 0:
        notes.append("all seeds give the same")
    return notes


def _why_open(sample: Cells, low: Student, high: Student) -> str:
    if any(len(group) < 2 for stratum in sample for group in stratum):
        return "one seed"
    if math.isinf(low.value) and math.isinf(high.value):
        return "trainings of both sides never got there"
    if math.isinf(low.value) or math.isinf(high.value):
        return "trainings never got there"
    if low.error == 0:
        return "the estimate is the bound itself"
    return ""


def _having(records: Iterable[Record], conditions: Conditions) -> list[Record]:
    return [
        record
        for record in records
        if all(n in record.settings and record.settings[n] == v for n, v in conditions.items())
    ]


def _pairs(terms: Terms) -> list[tuple[str, Value]]:
    return [(str(name), value) for name, value in terms]


def _words(settings: Conditions) -> str:
    return ", ".join(f"{name}={spell(value)}" for name, value in settings.items())
