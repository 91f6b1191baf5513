"""Claims against studies whose truth is known."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distvi.errors import InputError
from distvi.runs.answers import ClaimAnswer
from distvi.runs.records import Measured, Record, Value
from distvi.studies.claims import answer_all, axes_of, check, claims_of, parse
from distvi.studies.outcomes import METRICS, TEST_METRICS, Metric
from distvi.studies.sentences import (
    Comparison,
    Equivalence,
    SpeedUp,
    Term,
    Trend,
    read,
)
from tests.study_records import record, study

STUDY = study()
SMALL = study(scheme=["sync", "async"], workers=[1, 4, 16])


def answers(*sentences: str, records: Iterable[Record] = SMALL) -> list[ClaimAnswer]:
    records = list(records)
    claims = [check(parse(each, "a spec"), axes_of(STUDY + records)) for each in sentences]
    return list(answer_all(claims, records))


def verdict(sentence: str, records: Iterable[Record] = SMALL) -> str:
    return answers(sentence, records=records)[0].verdict


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("error_rate of async exceeds that of sync at workers=16", "holds"),
        ("error_rate of sync exceeds that of async at workers=16", "does not hold"),
        ("error_rate of sync is below that of async at workers=16", "holds"),
        ("error_rate of async is above that of sync by 0.01 at workers=16", "holds"),
        ("error_rate of async exceeds that of sync by 0.5 at workers=16", "does not hold"),
        ("speed-up of workers 1 to 16 over 4 at scheme=async", "holds"),
        ("speed-up of workers 1 to 16 over 10 at scheme=sync", "does not hold"),
        ("speed-up of workers 1 to 16 under 900 % at scheme=sync", "holds"),
        ("speed-up of workers 1 to 16 over 4 at scheme=sync to error_rate 0.1", "holds"),
        ("time to error_rate 0.1 of workers=16 is below that of workers=1 at scheme=sync", "holds"),
        ("error_rate of sync at workers=16 is within 0.05 of that at workers=1", "holds"),
        ("error_rate of async at workers=16 is within 0.05 of that at workers=1", "does not hold"),
        ("error_rate rises with workers at scheme=async", "holds"),
        ("error_rate falls with workers at scheme=async", "does not hold"),
        ("time_s falls with workers", "holds"),
        ("mean staleness of async exceeds that of sync at workers=16", "holds"),
        ("idle_fraction of sync exceeds that of async at workers=16", "holds"),
        ("bytes of sync exceeds that of async at workers=16", "not decided"),
    ],
)
def test_known_truths(sentence: str, expected: str) -> None:
    assert verdict(sentence) == expected


def test_cluster_is_a_setting_like_others() -> None:
    records = study(cluster=["compute-bound", "network-bound"], servers=[1, 4])
    claim = "speed-up of servers 1 to 4 under 5 % on cluster compute-bound"
    found = check(parse(claim, "a spec"), axes_of(records))
    assert str(found) == "speed-up of servers 1 to 4 under 1.05 at cluster=compute-bound"
    (answer,) = answer_all([found], records)
    assert len(answer.cells) == 6
    assert answer.unit == "x"
    assert answer.low < 1 < answer.high


def test_estimates_have_the_size_that_they_should() -> None:
    speed_up, slope = answers(
        "speed-up of workers 1 to 16 over 4 at scheme=async",
        "error_rate rises with workers at scheme=async",
    )
    assert speed_up.estimate == pytest.approx(16, rel=0.03)
    assert speed_up.low < speed_up.estimate < speed_up.high < 17
    assert slope.estimate == pytest.approx(0.15 / 4, rel=0.05)  # (0, .03, .15) at 2 doublings each
    assert slope.unit == "per doubling of workers"


def null_study(random: np.random.Generator, claims: int, seeds: int = 3) -> list[Record]:
    def one(scheme: str, workers: int, seed: int) -> Record:
        test = {"error_rate": 0.1 + 0.01 * float(random.normal())}
        settings: dict[str, Value] = {"scheme": scheme, "workers": workers}
        cell = f"{scheme}/{workers}/{seed}"
        return Record(cell, "main", settings, seed, "done", "", Measured(test=test))

    schemes, sizes = ("sync", "async"), range(1, claims + 1)
    return [one(s, w, seed) for s in schemes for w in sizes for seed in range(seeds)]


@pytest.mark.parametrize("claims", [1, 5])
def test_few_studies_of_nothing_find_something(seed: int, claims: int) -> None:
    """The family-wise error: any claim that holds, and any that does not, with no difference."""
    random, studies = np.random.default_rng(seed), 250
    text = "error_rate of async exceeds that of sync at workers={}"
    says = [parse(text.format(n), "a spec") for n in range(1, claims + 1)]
    found = {"holds": 0, "does not hold": 0}
    for _ in range(studies):
        verdicts = {answer.verdict for answer in answer_all(says, null_study(random, claims))}
        for each in found:
            found[each] += each in verdicts
    # 4 standard errors of the binomial count
    assert found["holds"] / studies <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / studies)
    assert found["does not hold"] / studies <= 0.025 + 4 * math.sqrt(0.025 * 0.975 / studies)
    assert sum(found.values()) > 0 or claims > 1


def test_nothing_is_decided_of_no_difference(seed: int) -> None:
    records = null_study(np.random.default_rng(seed), 1)
    (answer,) = answer_all([parse("error_rate of async exceeds that of sync", "a")], records)
    assert answer.verdict == "not decided"
    assert "noise" in answer.note
    assert answer.low < 0 < answer.high


def test_more_claims_make_each_harder() -> None:
    claim = "error_rate of async exceeds that of sync at workers=16"
    alone, among = (
        answers(claim)[0],
        answers(claim, *["bytes of sync exceeds that of async"] * 4)[0],
    )
    assert among.p_value == alone.p_value
    assert among.p_adjusted == pytest.approx(5 * alone.p_adjusted)


def test_strata_are_averaged_and_counted() -> None:
    (answer,) = answers("error_rate of async exceeds that of sync")
    assert "mean of 3 strata" in answer.note
    assert answer.estimate == pytest.approx((0 + 0.03 + 0.15) / 3, abs=0.005)
    assert len(answer.cells) == len(SMALL)


def test_strata_that_lack_a_side_are_left_out_aloud() -> None:
    records = [r for r in SMALL if r.key != (("scheme", "sync"), ("workers", 4))]
    (answer,) = answers("error_rate of async exceeds that of sync", records=records)
    assert "left out: 1 strata" in answer.note


def test_seeds_that_differ_are_not_paired() -> None:
    records = [r for r in SMALL if r.seed or r.settings["scheme"] == "sync"]
    (answer,) = answers("error_rate of async exceeds that of sync at workers=16", records=records)
    assert answer.verdict == "holds"
    assert "unpaired" in answer.note


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([r for r in SMALL if r.seed == 0], "not decided: one seed"),
        ([], "no records yet"),
        ([r for r in SMALL if r.settings["workers"] == 1], "no cell has workers=16"),
        ([replace(r, status="failed") for r in SMALL], "unfinished cells: scheme=async"),
        ([replace(r, measured=Measured()) for r in SMALL], "has no error_rate"),
    ],
)
def test_what_is_missing_is_named(records: list[Record], reason: str) -> None:
    (answer,) = answers("error_rate of async exceeds that of sync at workers=16", records=records)
    assert answer.verdict == "not decided"
    assert reason in answer.note
    assert answer.p_adjusted == 1


def test_what_never_gets_there_is_infinitely_slow() -> None:
    slower = "time to error_rate 0.05 of workers=16 exceeds that of workers=1 at scheme=async"
    faster = slower.replace("exceeds", "is below")
    one, other = answers(slower)[0], answers(faster)[0]
    assert (one.verdict, other.verdict) == ("holds", "does not hold")
    assert one.estimate == one.high == math.inf
    assert "3 of 6 trainings never got there" in one.note


def test_if_neither_side_gets_there_nothing_is_decided() -> None:
    (answer,) = answers("time to error_rate 0.001 of async exceeds that of sync at workers=16")
    assert answer.verdict == "not decided"
    assert "both sides never got there" in answer.note


def test_what_diverged_is_worst() -> None:
    claim = "error_rate of async exceeds that of sync at workers=32"
    (answer,) = answers(claim, records=STUDY)
    assert (answer.verdict, answer.estimate) == ("holds", math.inf)
    (answer,) = answer_all([check(parse(claim, "a"), axes_of(STUDY))], STUDY, classes=10)
    assert answer.estimate == pytest.approx(0.9 - 0.03, abs=0.01)
    assert verdict("time_s of async is below that of sync at workers=32", STUDY) == "does not hold"
    idle = answers("idle_fraction of async is below that of sync at workers=32", records=STUDY)[0]
    assert (idle.verdict, "diverged" in idle.note) == ("not decided", True)


def test_a_diverged_seed_among_others_is_not_dropped() -> None:
    bad = replace(record({"scheme": "sync", "workers": 16}, 1), status="diverged")
    records = [bad if r.cell == bad.cell else r for r in SMALL]
    (answer,) = answers("error_rate of sync is below that of async at workers=16", records=records)
    assert answer.verdict == "not decided"
    assert "1 of 6 trainings never got there" in answer.note


@pytest.mark.parametrize(
    ("sentence", "complaint"),
    [
        ("", "expected a metric, saw its end"),
        ("error_rat of async exceeds that of sync", "did you mean 'error_rate'"),
        ("error_rate of asnc exceeds that of sync", "did you mean 'async'"),
        ("error_rate of async exceeds sync", "expected 'that', saw 'sync'"),
        ("error_rate of async exceeds that of sync at worker=4", "did you mean 'workers'"),
        ("error_rate of async exceeds that of sync at workers=5", r"no cell has workers=5 \(known"),
        ("error_rate of async exceeds that of sync at workers=4 please", "'please'"),
        ("error_rate of async exceeds that of async", "both sides are the same"),
        ("error_rate of async exceeds that of sync by much", "expected a number, saw 'much'"),
        ("error_rate of async is within 0 of that of sync", "margin of 0"),
        ("error_rate of async, sync exceeds that of mesh", "given twice"),
        ("error_rate of 'async exceeds that of sync", "quote is open"),
        ("error_rate of by exceeds that of sync", "quote it"),
        ("error_rate rises with scheme", "a trend needs two numbers"),
        ("error_rate rises with workers at workers=4", "both compared and fixed"),
        ("speed-up of workers 1 to 1 over 2", "to itself"),
        ("speed-up of workers 1 to 3 over 2", "no cell has workers=3"),
        ("speed-up of workers 1 to 4 over -1", "must be above 0"),
        ("time of async exceeds that of sync", "expected 'to' after 'time'"),
        ("error_rate of 1 exceeds that of async", "several settings; write workers=1 or servers=1"),
    ],
)
def test_what_is_refused_is_quoted(sentence: str, complaint: str) -> None:
    axes = {"scheme": ["sync", "async", "mesh"], "workers": [1, 4], "servers": [1, 2]}
    with pytest.raises(InputError, match=complaint) as refused:
        check(parse(sentence, "spec.toml: claims[1]"), axes)
    assert str(refused.value).startswith("spec.toml: claims[1]: claim ")
    assert "\n" not in str(refused.value)


def test_tables_of_a_spec() -> None:
    says = "time_s falls with workers"
    (claim,) = claims_of([{"name": "C3", "says": says, "note": "as published"}], "spec.toml")
    (answer,) = answer_all([claim], SMALL)
    assert (answer.name, answer.text) == ("C3", says)
    assert answer.note.endswith("as published")
    for table in ({"name": "C1"}, {"says": says}, {"name": "C1", "says": says, "sys": 1}):
        with pytest.raises(InputError, match=r"spec.toml: claims\[1\]: "):
            claims_of([table], "spec.toml")


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(min_value=1e-9, max_value=1e9)
VALUES = st.one_of(st.integers(), NUMBERS, st.booleans(), st.text(min_size=1))
NAMES = st.sampled_from(["scheme", "workers", "scheme_options.n", "model.width", "cluster"])
TERMS = st.lists(st.builds(Term, st.none() | NAMES, VALUES), min_size=1, max_size=3).map(tuple)
ANY_TERMS = st.just(()) | TERMS
TO = st.builds(Metric, st.sampled_from(TEST_METRICS), NUMBERS)
METRIC = TO | st.sampled_from([Metric(name) for name in METRICS])
PARTS = st.one_of(
    st.tuples(st.just(Comparison), METRIC, TERMS, TERMS, st.booleans(), st.none() | NUMBERS),
    st.tuples(st.just(Equivalence), METRIC, TERMS, TERMS, POSITIVE),
    st.tuples(
        st.just(SpeedUp), NAMES, VALUES, VALUES, st.booleans(), POSITIVE,
        TO | st.just(Metric("time_s")), ANY_TERMS,
    ),
    st.tuples(st.just(Trend), METRIC, NAMES, st.booleans(), ANY_TERMS),
)  # fmt: skip


@given(PARTS)
def test_what_is_written_is_read_again(parts: Any) -> None:
    kind, *fields = parts  # made here: type checks draw numbers, which strategies may not
    sentence = kind(*fields)
    assert read(str(sentence), "here") == sentence


@given(st.text(alphabet="of at that is exceeds=,'%1.time to error_rate", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = read(text, "here")
    except InputError:
        return
    assert read(str(found), "here") == found
