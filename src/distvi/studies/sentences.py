"""The sentences that a spec may claim, read and written.

The grammar; what stands in brackets may be left out, ``|`` separates alternatives::

    claim      = comparison | equivalence | speed-up | trend
    comparison = METRIC of SIDE (exceeds | is above | is below) that (of | at) SIDE [by NUMBER] [AT]
    equivalence = METRIC of SIDE is within NUMBER of that (of | at) SIDE
    speed-up   = speed-up of NAME VALUE to VALUE (over | under) FACTOR [AT] [to METRIC NUMBER]
    trend      = METRIC (rises | falls) with NAME [AT]
    METRIC     = error_rate | rmse | mnll | ece | brier | time_s | idle_fraction | bytes |
                 [mean] staleness | time to METRIC NUMBER
    SIDE       = TERM {AT}
    AT         = (at | on) TERM {, TERM}
    TERM       = NAME=VALUE | VALUE | cluster VALUE
    FACTOR     = NUMBER | NUMBER %         (5 % is a factor of 1.05)

A bare value is that of the one varied setting that has it. A setting that one side alone names
holds for the other side, too: in "error_rate of sync at workers=16 is within 0.005 of that at
workers=1" both are sync. A value in single quotes is a text with whatever characters; a quote in
it is doubled.
"""

import math
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from distvi.errors import InputError
from distvi.runs.records import Value
from distvi.studies.outcomes import METRICS, TEST_METRICS, Metric, known_metric

_TOKEN = re.compile(r"\s*('(?:[^']|'')*'|[,=%]|[^\s,=%']+)")
_BARE = re.compile(r"[^\s,=%']+")
_WORDS = {"of", "at", "on", "by", "to", "that", "is", "exceeds", "over", "under", "rises", "falls"}


TIME = Metric("time_s")


class Term(NamedTuple):
    """A setting's value; without the name, until the study's settings are known."""

    name: str | None
    value: Value

    def __str__(self) -> str:
        return f"{self.name}={spell(self.value)}" if self.name else spell(self.value)


Terms = tuple[Term, ...]


@dataclass(frozen=True)
class Comparison:
    """One side's mean is above or below the other's, by an amount perhaps."""

    metric: Metric
    first: Terms
    second: Terms
    above: bool
    by: float | None = None

    def __str__(self) -> str:
        verb = "exceeds" if self.above else "is below"
        by = "" if self.by is None else f" by {self.by!r}"
        return f"{self.metric} of {_side(self.first)} {verb} that of {_side(self.second)}{by}"


@dataclass(frozen=True)
class Equivalence:
    """Two sides' means differ by less than a margin."""

    metric: Metric
    first: Terms
    second: Terms
    margin: float

    def __str__(self) -> str:
        first, second = _side(self.first), _side(self.second)
        return f"{self.metric} of {first} is within {self.margin!r} of that of {second}"


@dataclass(frozen=True)
class SpeedUp:
    """The time at one level over that at another is above or below a factor."""

    setting: str
    start: Value
    end: Value
    above: bool
    factor: float
    metric: Metric = TIME
    at: Terms = ()

    def __str__(self) -> str:
        levels = f"{spell(self.start)} to {spell(self.end)}"
        bound = f"{'over' if self.above else 'under'} {self.factor!r}"
        to = "" if self.metric.to is None else f" to {self.metric.name} {self.metric.to!r}"
        return f"speed-up of {self.setting} {levels} {bound}{_at(self.at)}{to}"


@dataclass(frozen=True)
class Trend:
    """A metric rises or falls over the levels of a setting."""

    metric: Metric
    setting: str
    rises: bool
    at: Terms = ()

    def __str__(self) -> str:
        verb = "rises" if self.rises else "falls"
        return f"{self.metric} {verb} with {self.setting}{_at(self.at)}"


Sentence = Comparison | Equivalence | SpeedUp | Trend


def spell(value: Value) -> str:
    """A value as it is read again."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return repr(value)
    plain = _BARE.fullmatch(value) and value not in _WORDS and isinstance(_value(value), str)
    return value if plain else "'" + value.replace("'", "''") + "'"


def _side(terms: Terms) -> str:
    return f"{terms[0]}{_at(terms[1:])}"


def _at(terms: Terms) -> str:
    return " at " + ", ".join(map(str, terms)) if terms else ""


def _value(text: str) -> Value:
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        return float(text)
    return text


def read(says: str, where: str) -> Sentence:
    """The sentence's meaning.

    Args:
        says: The sentence.
        where: It stands, for the message.

    Raises:
        InputError: it is not of the grammar.
    """
    try:
        return _Reader(says).claim()
    except InputError as error:
        raise InputError(f"{where}: claim {says!r}: {error}") from error


@dataclass
class _Reader:
    """Reads a sentence from left to right; every method takes what it names."""

    says: str
    tokens: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.tokens, at, text = [], 0, self.says.rstrip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if not found:
                raise InputError("a quote is open; a text stands between two of them")
            self.tokens.append(found[1])
            at = found.end()

    def claim(self) -> Sentence:
        if self._took("speed-up"):
            sentence: Sentence = self._speed_up()
        else:
            metric = self._metric()
            sides = self._expect("of", "rises", "falls")
            sentence = self._sides(metric) if sides == "of" else self._trend(metric, sides)
        if self.tokens:
            raise InputError(f"its end, {' '.join(self.tokens)!r}, is not understood")
        return sentence

    def _speed_up(self) -> SpeedUp:
        self._expect("of")
        setting, start = self._next("a setting"), self._read_value()
        self._expect("to")
        end, above = self._read_value(), self._expect("over", "under") == "over"
        factor = self._number()
        if self._took("%"):
            factor = 1 + factor / 100
        if factor <= 0:
            raise InputError(f"a speed-up of {factor:g} is no factor; it must be above 0")
        metric, at = self._target(), self._conditions()
        if metric is None:
            metric = self._target()
        return SpeedUp(setting, start, end, above, factor, metric or TIME, at)

    def _sides(self, metric: Metric) -> Comparison | Equivalence:
        first = self._side()
        verb = self._expect("exceeds", "is")
        if verb == "is":
            verb = self._expect("above", "below", "within")
        if verb == "within":
            margin = self._number()
            if margin <= 0:
                raise InputError(f"a margin of {margin:g} shows nothing; it must be above 0")
            self._expect("of")
            return Equivalence(metric, first, self._that(), margin)
        second = self._that()
        by = self._number() if self._took("by") else None
        return Comparison(metric, first, second + self._conditions(), verb != "below", by)

    def _trend(self, metric: Metric, verb: str) -> Trend:
        self._expect("with")
        return Trend(metric, self._next("a setting"), verb == "rises", self._conditions())

    def _that(self) -> Terms:
        self._expect("that")
        self._expect("of", "at")
        return self._side()

    def _side(self) -> Terms:
        terms = [self._term()]
        while self._took(","):
            terms.append(self._term())
        return (*terms, *self._conditions())

    def _conditions(self) -> Terms:
        terms: list[Term] = []
        while self._took("at", "on"):
            terms.append(self._term())
            while self._took(","):
                terms.append(self._term())
        return tuple(terms)

    def _term(self) -> Term:
        if self.tokens[:1] == ["cluster"] and self.tokens[1:2] != ["="]:
            return Term(self.tokens.pop(0), self._read_value())
        if self.tokens[1:2] == ["="]:
            name = self._next("a setting")
            self._expect("=")
            return Term(name, self._read_value())
        return Term(None, self._read_value())

    def _metric(self) -> Metric:
        if self._took("time"):
            target = self._target()
            if target is None:
                raise InputError(f"expected 'to' after 'time', saw {self._seen()}")
            return target
        self._took("mean")
        return Metric(known_metric(self._next("a metric"), METRICS))

    def _target(self) -> Metric | None:
        if not self._took("to"):
            return None
        name = known_metric(self._next("a metric"), TEST_METRICS)
        return Metric(name, self._number())

    def _read_value(self) -> Value:
        text = self._next("a value")
        if text in _WORDS or text in (",", "=", "%"):
            raise InputError(f"expected a value, saw {text!r}; quote it ('{text}') if it is one")
        return text[1:-1].replace("''", "'") if text.startswith("'") else _value(text)

    def _number(self) -> float:
        text = self._next("a number")
        number = _value(text)
        if isinstance(number, str | bool) or not math.isfinite(number):
            raise InputError(f"expected a number, saw {text!r}")
        return float(number)

    def _next(self, what: str) -> str:
        if not self.tokens:
            raise InputError(f"expected {what}, saw {self._seen()}")
        return self.tokens.pop(0)

    def _took(self, *words: str) -> bool:
        if self.tokens and self.tokens[0] in words:
            self.tokens.pop(0)
            return True
        return False

    def _expect(self, *words: str) -> str:
        if self.tokens and self.tokens[0] in words:
            return self.tokens.pop(0)
        raise InputError(f"expected {' or '.join(map(repr, words))}, saw {self._seen()}")

    def _seen(self) -> str:
        return repr(self.tokens[0]) if self.tokens else "its end"
