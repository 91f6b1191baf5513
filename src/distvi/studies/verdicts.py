"""What the records of a study say of its claims.

A claim is judged seed by seed. Records are put side by side where all settings that the claim does
not mention agree (a *stratum*), the differences within a stratum are averaged for each seed, and
the mean over seeds is tested. Times are compared by their logarithms, so a ratio and its inverse
weigh the same. Nothing is left out in silence: a training that diverged has the error of a guess,
and one that never reached a target took infinitely long, which decides by rank.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from distvi.evaluation.uncertainty import Estimated, estimated, holm
from distvi.runs.answers import ClaimAnswer
from distvi.runs.records import Measured, Record, Value
from distvi.studies.claims import Claim

ALPHA = 0.05
_TIMES = ("time_s", "time to", "bytes")  # compared as ratios
_ERRORS = ("error_rate", "rmse")
_GUESS = {"error_rate": 1.0, "brier": 2.0}
"""Of a training that diverged; other metrics of it are infinite."""


@dataclass(frozen=True)
class _Evidence:
    """What a claim comes to, before the correction.

    Attributes:
        found: The estimate and its tests; None: it cannot be told.
        cells: That it rests on.
        notes: For the reader.
        verdict: Where ranks decide.
    """

    found: Estimated | None
    cells: tuple[str, ...]
    notes: tuple[str, ...] = ()
    verdict: Literal["holds", "does not hold", "not decided"] | None = None


def answer_all(claims: Sequence[Claim], records: Sequence[Record]) -> tuple[ClaimAnswer, ...]:
    """The records' answer to each claim, corrected for their number.

    Args:
        claims: Of the spec.
        records: Of all its cells that are finished.
    """
    evidence = [_evidence(claim, records) for claim in claims]
    # Both directions of a claim may be found, so each counts as a test.
    p_values = [_p(claim, each) for claim, each in zip(claims, evidence, strict=True)]
    corrected = holm([min(1.0, 2 * min(pair)) for pair in p_values])
    return tuple(
        _answer(claim, each, pair, p)
        for claim, each, pair, p in zip(claims, evidence, p_values, corrected, strict=True)
    )


def _p(claim: Claim, evidence: _Evidence) -> tuple[float, float]:
    """Of the tests for and against a claim."""
    found = evidence.found
    if evidence.verdict is not None or found is None:
        return {"holds": (0.0, 1.0), "does not hold": (1.0, 0.0)}.get(
            evidence.verdict or "", (0.5, 0.5)
        )
    if claim.relation == "is within":
        return _equivalence(claim, found)
    above = claim.relation in ("exceeds", "rises", "over")
    pair = (found.p_above, found.p_below)
    return pair if above else (pair[1], pair[0])


def _equivalence(claim: Claim, found: Estimated) -> tuple[float, float]:
    """Two one-sided tests (Schuirmann 1987), by the interval that Student's t gives."""
    from scipy import stats

    reach = found.high - found.mean
    if found.n < 2:
        return 0.5, 0.5
    quantile = float(stats.t.ppf(0.975, found.n - 1))
    error, margin = reach / quantile, claim.number
    if error <= 0:
        inside = abs(found.mean) < margin
        return (0.0, 1.0) if inside else (1.0, 0.0)
    above = float(stats.t.sf((found.mean + margin) / error, found.n - 1))
    below = float(stats.t.sf((margin - found.mean) / error, found.n - 1))
    outside = float(stats.t.sf((abs(found.mean) - margin) / error, found.n - 1))
    return max(above, below), outside


def _answer(
    claim: Claim, evidence: _Evidence, pair: tuple[float, float], corrected: float
) -> ClaimAnswer:
    found, notes = evidence.found, list(evidence.notes)
    if claim.note:
        notes.insert(0, claim.note)
    verdict = evidence.verdict
    if verdict is None:
        decided = corrected < ALPHA and found is not None
        verdict = (
            "not decided" if not decided else "holds" if pair[0] < pair[1] else "does not hold"
        )
        if found is not None and found.n == 1:
            notes.append("one seed decides nothing")
    estimate, low, high = (np.nan,) * 3 if found is None else found[:3]
    unit, shown = _shown(claim)
    return ClaimAnswer(
        claim.name,
        claim.says,
        verdict,
        estimate=shown(estimate),
        low=shown(low),
        high=shown(high),
        unit=unit,
        p_value=min(1.0, 2 * min(pair)),
        p_adjusted=corrected,
        cells=evidence.cells,
        note="; ".join(notes),
    )


def _shown(claim: Claim) -> tuple[str, Callable[[float], float]]:
    """The unit of a claim's estimate, and how it comes from what was averaged."""
    if claim.relation in ("rises", "falls"):
        return "rank correlation", float
    if claim.metric in _TIMES:
        return "x", _exponential
    return {"error_rate": "percentage points"}.get(claim.metric, ""), (
        lambda value: 100 * value if claim.metric == "error_rate" else value
    )


def _exponential(value: float) -> float:
    return float("inf") if value > 700 else math.exp(value)


# --- evidence ------------------------------------------------------------------------------------


def _evidence(claim: Claim, records: Sequence[Record]) -> _Evidence:
    held = [record for record in records if _has(record, claim.at)]
    if claim.relation in ("rises", "falls"):
        return _trend(claim, held)
    one = [record for record in held if _has(record, claim.one)]
    other = [record for record in held if _has(record, claim.other)]
    mentioned = {*claim.one, *claim.other}
    strata = _strata(claim, one, other, mentioned)
    if not strata:
        return _Evidence(None, (), ("no cells to compare are finished",))
    cells = tuple(record.cell for pairs in strata for pair in pairs for record in pair)
    differences: dict[int, list[float]] = {}
    for pairs in strata:
        for a, b in pairs:
            differences.setdefault(a.seed, []).append(_difference(claim, a, b))
    per_seed = [_mean(each) for each in differences.values()]
    notes = _notes(strata, [r for pairs in strata for pair in pairs for r in pair])
    return _judged(claim, per_seed, cells, notes)


def _judged(
    claim: Claim, per_seed: Sequence[float], cells: tuple[str, ...], notes: tuple[str, ...]
) -> _Evidence:
    """With infinite differences ranks decide: all on one side, or nothing is decided."""
    bound = _bound(claim)
    if all(math.isfinite(value) for value in per_seed):
        return _Evidence(estimated(per_seed, bound), cells, notes)
    known = [value for value in per_seed if not math.isnan(value)]
    above = sum(value > bound for value in known)
    finite = Estimated(_mean(known), min(per_seed), max(per_seed), 0.5, 0.5, len(per_seed))
    upward = claim.relation in ("exceeds", "over")
    verdict: Literal["holds", "does not hold", "not decided"] = "not decided"
    # A sign test of three seeds cannot reach 5 %, so a verdict by ranks asks for all of them.
    if len(known) == len(per_seed) >= 3 and claim.relation != "is within":
        if above == len(known):
            verdict = "holds" if upward else "does not hold"
        elif not above:
            verdict = "does not hold" if upward else "holds"
    return _Evidence(finite, cells, (*notes, "some never got there: judged by rank"), verdict)


def _bound(claim: Claim) -> float:
    if claim.relation in ("over", "under"):
        return math.log(claim.number)
    if claim.metric in _TIMES:
        return math.log1p(claim.number) * (-1 if claim.relation == "is below" else 1)
    return {"exceeds": claim.number, "is below": -claim.number}.get(claim.relation, 0.0)


def _strata(
    claim: Claim, one: Sequence[Record], other: Sequence[Record], mentioned: set[str]
) -> list[list[tuple[Record, Record]]]:
    """Records of both sides with the same seed number, by the settings that are not mentioned."""
    found: dict[tuple[tuple[str, Value], ...], list[tuple[Record, Record]]] = {}
    partners = {(_rest(record, mentioned), record.seed): record for record in other}
    for record in one:
        partner = partners.get((_rest(record, mentioned), record.seed))
        if partner is not None:
            found.setdefault(_rest(record, mentioned), []).append((record, partner))
    return list(found.values())


def _rest(record: Record, mentioned: Iterable[str]) -> tuple[tuple[str, Value], ...]:
    return tuple((n, v) for n, v in sorted(record.settings.items()) if n not in mentioned)


def _has(record: Record, settings: Mapping[str, Value]) -> bool:
    return all(record.settings.get(name) == value for name, value in dict(settings).items())


def _difference(claim: Claim, a: Record, b: Record) -> float:
    one, other = value_of(a, claim.metric, claim.target), value_of(b, claim.metric, claim.target)
    if claim.relation in ("over", "under") or claim.metric in _TIMES:
        if one == other:
            return 0.0 if math.isfinite(one) else math.nan
        if not other or not one:
            return math.inf if one > other else -math.inf
        return math.log(one) - math.log(other)
    return one - other if one != other else 0.0


def value_of(record: Record, metric: str, target: float | None = None) -> float:
    """A number of a record; of a training that did not end well the worst there is.

    Args:
        record: The record.
        metric: See `distvi.studies.claims.METRICS`, or ``time to``.
        target: The error that has to be reached, for ``time to``.
    """
    measured = record.measured
    if metric == "time to":
        return time_to(measured, target or 0.0)
    if record.status != "done":
        return _GUESS.get(metric, math.inf)
    if metric == "staleness":
        total = sum(measured.staleness.values())
        return sum(age * n for age, n in measured.staleness.items()) / total if total else 0.0
    if metric == "bytes":
        return float(sum(measured.bytes.values()))
    if metric in ("time_s", "idle_fraction"):
        return float(getattr(measured, metric) or 0.0)
    return measured.test.get(metric, math.nan)


def time_to(measured: Measured, error: float) -> float:
    """When a test first found an error so low; infinite if none did."""
    for name in _ERRORS:
        column = measured.curve.get(f"test_{name}", [])
        for seconds, found in zip(measured.curve.get("time_s", []), column, strict=False):
            if found is not None and seconds is not None and found <= error:
                return float(seconds)
    return math.inf


def _trend(claim: Claim, records: Sequence[Record]) -> _Evidence:
    """Rank correlation of metric and setting, by seed and stratum (Spearman 1904)."""
    (name,) = claim.one
    found: dict[tuple[tuple[str, Value], ...], dict[int, list[Record]]] = {}
    for record in records:
        if isinstance(record.settings.get(name), int | float):
            found.setdefault(_rest(record, [name]), {}).setdefault(record.seed, []).append(record)
    per_seed: dict[int, list[float]] = {}
    cells: list[str] = []
    strata = 0
    for seeds in found.values():
        if all(len(several) > 1 for several in seeds.values()):
            strata += 1
            for seed, several in seeds.items():
                cells += [record.cell for record in several]
                levels = [float(record.settings[name]) for record in several]
                values = [value_of(record, claim.metric, claim.target) for record in several]
                per_seed.setdefault(seed, []).append(_rank_correlation(levels, values))
    if not per_seed:
        return _Evidence(None, (), ("no cells to compare are finished",))
    notes = (f"{strata} strata",) if strata > 1 else ()
    return _Evidence(estimated([_mean(each) for each in per_seed.values()]), tuple(cells), notes)


def _rank_correlation(levels: Sequence[float], values: Sequence[float]) -> float:
    from scipy import stats

    if len(set(values)) == 1 or any(math.isnan(value) for value in values):
        return 0.0
    ranks = stats.rankdata(values)
    return float(np.corrcoef(stats.rankdata(levels), ranks)[0, 1])


def _notes(strata: Sequence[object], records: Sequence[Record]) -> tuple[str, ...]:
    notes = [f"{len(strata)} strata"] if len(strata) > 1 else []
    if bad := {record.cell for record in records if record.status != "done"}:
        notes.append(f"{len(bad)} cells diverged or failed and count as the worst")
    return tuple(notes)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan
