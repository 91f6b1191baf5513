"""Claims of a spec: read, checked against the study's settings, and answered from its records.

The grammar is that of `distvi.studies.sentences`. What a claim is about is always a weighted sum of
means over seeds: a difference of two sides, of logarithms where times are compared (so the estimate
is a ratio), or the slope over the logarithms of a setting's levels. It is compared with a bound.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from distvi.errors import InputError, nearest
from distvi.evaluation.uncertainty import holm
from distvi.runs.answers import ClaimAnswer
from distvi.runs.records import Record, Value
from distvi.studies.contrasts import ALPHA, Finding, find, question
from distvi.studies.outcomes import Unmeasured
from distvi.studies.sentences import (
    Comparison,
    Equivalence,
    Sentence,
    SpeedUp,
    Term,
    Terms,
    read,
    spell,
)

Axes = Mapping[str, Sequence[Value]]


@runtime_checkable
class Varied(Protocol):
    """A cell, or its record."""

    @property
    def settings(self) -> Mapping[str, Value]: ...


@dataclass(frozen=True)
class Claim:
    """A sentence of a spec.

    Attributes:
        sentence: What it means.
        name: Of the claim, such as ``"C3"``.
        note: For the reader.
        where: It stands, for messages.
    """

    sentence: Sentence
    name: str = ""
    note: str = ""
    where: str = "the study"

    def __str__(self) -> str:
        return str(self.sentence)


def parse(says: str, where: str, *, name: str = "", note: str = "") -> Claim:
    """The claim of a sentence.

    Raises:
        InputError: it is not of the grammar; the message quotes it and tells what was expected.

    Example:
        >>> str(parse("speed-up of servers 1 to 4 under 5 % on cluster compute-bound", "a spec"))
        'speed-up of servers 1 to 4 under 1.05 at cluster=compute-bound'
    """
    return Claim(read(says, where), name, note, where)


def claims_of(tables: Iterable[Mapping[str, Any]], where: str) -> tuple[Claim, ...]:
    """The claims of a spec's ``[[claims]]``: tables with ``name``, ``says`` and perhaps ``note``.

    Raises:
        InputError: a table lacks a key or has an unknown one, or a sentence is not of the grammar.
    """
    claims = []
    for number, table in enumerate(tables, start=1):
        place = f"{where}: claims[{number}]"
        for key in table:
            if key not in ("name", "says", "note"):
                raise InputError(f"{place}: unknown key '{key}'{nearest(key, ['name', 'says'])}")
        for key in ("name", "says"):
            if not isinstance(table.get(key), str):
                raise InputError(f"{place}: {key} is {table.get(key)!r}; it must be a text")
        note = str(table.get("note", ""))
        claims.append(parse(table["says"], place, name=table["name"], note=note))
    return tuple(claims)


def axes_of(records: Iterable[Varied]) -> dict[str, list[Value]]:
    """All settings of records, and their values as they come."""
    axes: dict[str, list[Value]] = {}
    for record in records:
        for name, value in record.settings.items():
            if value not in axes.setdefault(name, []):
                axes[name].append(value)
    return axes


def check(claim: Claim, axes: Axes) -> Claim:
    """The claim with the name of the setting beside each bare value.

    Args:
        claim: As parsed; one that was checked comes back unchanged.
        axes: Values of each setting that some cell has; those of the base included.

    Raises:
        InputError: it names a setting or a level that no cell has, or a bare value that none or
            several settings have, or the two sides are the same.
    """
    try:
        sentence = _resolved(claim.sentence, axes)
    except InputError as error:
        raise InputError(f"{claim.where}: claim {str(claim)!r}: {error}") from error
    return replace(claim, sentence=sentence)


def _resolved(sentence: Sentence, axes: Axes) -> Sentence:
    if isinstance(sentence, Comparison | Equivalence):
        first, second = _terms(sentence.first, axes), _terms(sentence.second, axes)
        if {**dict(second), **dict(first)} == {**dict(first), **dict(second)}:
            raise InputError("both sides are the same settings; name one in which they differ")
        return replace(sentence, first=first, second=second)
    at = _terms(sentence.at, axes)
    levels = _levels(sentence.setting, axes)
    if sentence.setting in dict(at):
        raise InputError(f"{sentence.setting} is both compared and fixed")
    if isinstance(sentence, SpeedUp):
        for value in (sentence.start, sentence.end):
            _one_of(sentence.setting, value, levels)
        if sentence.start == sentence.end:
            raise InputError(f"{sentence.setting} goes from {spell(sentence.start)} to itself")
    elif any(isinstance(level, str | bool) for level in levels) or len(set(levels)) < 2:
        shown = ", ".join(map(spell, levels))
        raise InputError(f"a trend needs two numbers at least; {sentence.setting} has {shown}")
    return replace(sentence, at=at)


def _terms(terms: Terms, axes: Axes) -> Terms:
    found = tuple(Term(term.name or _owner(term.value, axes), term.value) for term in terms)
    for name, value in found:
        _one_of(name, value, _levels(name, axes))
    names = [name for name, _ in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{name} is given twice for one side")
    return found


def _owner(value: Value, axes: Axes) -> str:
    """The setting that a bare value is of: a varied one, or, where none is, one of the base."""
    owners = [name for name, levels in axes.items() if _among(value, levels)]
    owners = [name for name in owners if len(axes[name]) > 1] or owners
    if len(owners) > 1:
        choices = " or ".join(f"{name}={spell(value)}" for name in owners)
        raise InputError(f"{spell(value)} is a value of several settings; write {choices}")
    if not owners:
        texts = [level for ls in axes.values() for level in ls if isinstance(level, str)]
        raise InputError(f"no setting has the value {spell(value)}{nearest(str(value), texts)}")
    return owners[0]


def _levels(name: str | None, axes: Axes) -> Sequence[Value]:
    if name is None or name not in axes:
        raise InputError(f"no cell has a setting '{name}'{nearest(str(name), axes)}")
    return axes[name]


def _one_of(name: str | None, value: Value, levels: Sequence[Value]) -> None:
    if not _among(value, levels):
        known = ", ".join(map(spell, levels))
        raise InputError(f"no cell has {name}={spell(value)} (known: {known})")


def _among(value: Value, levels: Sequence[Value]) -> bool:
    """Membership; for Python, but not here, ``true`` is 1."""
    return any(v == value and isinstance(v, bool) == isinstance(value, bool) for v in levels)


def answer_all(
    claims: Sequence[Claim], records: Sequence[Record], *, classes: int | None = None
) -> tuple[ClaimAnswer, ...]:
    """What the records say of each claim.

    A claim **holds** if the test of its opposite rejects that, after Holm's correction over all
    claims, at 5 %; it **does not hold** if the test of the claim rejects it so. Both are possible,
    so p-values are two-sided, and a claim that holds has its bound outside the 95 % interval. Else
    it is **not decided**, and the note says
    why. The interval in the answer is that of the claim by itself; the p-value is of the test for
    the claim. Claims that cannot be tested count in the correction, with a p-value of 1.

    Args:
        claims: Checked, or with no bare values that these records leave open.
        records: All of the study; see `distvi.studies.outcomes.outcome` for those that diverged.
        classes: Of the data; with it a diverged training has the error rate of guessing.
    """
    findings = [_finding(claim, records, classes) for claim in claims]
    for_it = holm([min(1.0, 2 * each.p_for) for each in findings])
    against = holm([min(1.0, 2 * each.p_against) for each in findings])
    rows = zip(claims, findings, for_it, against, strict=True)
    return tuple(_answer(*row, len(claims)) for row in rows)


def _finding(claim: Claim, records: Sequence[Record], classes: int | None) -> Finding:
    try:
        asked = question(check(claim, axes_of(records)).sentence, records)
        return find(asked, records, classes)
    except InputError as error:
        why = str(error).split(f"{str(claim)!r}: ")[-1]
        return Finding.of_nothing(f"no records yet: {why}" if records else "no records yet")
    except Unmeasured as reason:
        return Finding.of_nothing(str(reason))


def _answer(
    claim: Claim, finding: Finding, adjusted: float, against: float, claims: int
) -> ClaimAnswer:
    notes = [*finding.notes]
    if adjusted <= ALPHA:
        verdict = "holds"
    elif against <= ALPHA:
        verdict = "does not hold"
    else:
        verdict = "not decided"
        reason = finding.reason or f"the noise over seeds leaves it open ({claims} claims)"
        notes.insert(0, f"not decided: {reason}")
    estimate, low, high = finding.interval
    return ClaimAnswer(
        name=claim.name,
        text=str(claim),
        verdict=verdict,
        estimate=estimate,
        low=low,
        high=high,
        unit=finding.unit,
        p_value=min(1.0, 2 * finding.p_for),
        p_adjusted=adjusted,
        cells=finding.cells,
        note="; ".join([*notes, *([claim.note] if claim.note else [])]),
    )
