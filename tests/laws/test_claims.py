"""Claims: what sentences mean, and what records say of them."""

import math
from random import Random

import pytest

from distvi.errors import InputError
from distvi.runs.answers import ClaimAnswer
from distvi.runs.records import Record, Value
from distvi.studies.claims import Claim, axes_of, parse
from distvi.studies.verdicts import answer_all, time_to, value_of
from tests.study_records import record, study

AXES: dict[str, list[Value]] = {
    "scheme": ["sync", "async"],
    "workers": [1, 4, 16],
    "servers": [1, 4],
    "cluster": ["compute-bound", "network-bound"],
    "learning_rate": [0.01, "tuned"],
}


def answer(records: list[Record], *sentences: str) -> list[ClaimAnswer]:
    axes = axes_of(each.settings for each in records)
    claims = [parse(f"C{n}", says, axes) for n, says in enumerate(sentences)]
    return list(answer_all(claims, records))


def test_the_sentences() -> None:
    claim = parse("C", "error_rate of async exceeds that of sync by 0.01 at workers=16", AXES)
    assert (claim.metric, claim.relation, claim.number) == ("error_rate", "exceeds", 0.01)
    assert (claim.one, claim.other, claim.at) == (
        {"scheme": "async"},
        {"scheme": "sync"},
        {"workers": 16},
    )
    claim = parse("C", "speed-up of servers 1 to 4 under 5 % on cluster compute-bound", AXES)
    assert (claim.relation, claim.number) == ("under", 1.05)
    assert (claim.one, claim.other) == ({"servers": 1}, {"servers": 4})
    assert claim.at == {"cluster": "compute-bound"}
    claim = parse("C", "time to 5 % of async is below that of sync at workers=4, servers=1", AXES)
    assert (claim.metric, claim.target) == ("time to", 0.05)
    assert claim.at == {"workers": 4, "servers": 1}
    claim = parse("C", "mnll of workers=4 is within 0.02 of that of workers=1", AXES)
    assert (claim.relation, claim.number, claim.at) == ("is within", 0.02, {})
    claim = parse("C", "idle_fraction rises with workers at scheme=sync, learning_rate=tuned", AXES)
    assert claim.one.keys() == {"workers"}
    assert claim.at == {"scheme": "sync", "learning_rate": "tuned"}


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ("async is worse", "cannot be read"),
        ("error_rat of async exceeds that of sync", "did you mean 'error_rate'"),
        ("error_rate of asinc exceeds that of sync", "did you mean 'async'"),
        ("error_rate of async exceeds that of sync at workers=8", "no cell has workers=8"),
        ("error_rate of async exceeds that of sync at batch_size=8", "'batch_size' is not varied"),
        ("error_rate of 4 exceeds that of 1", "may be workers or servers; write workers=4"),
        ("error_rate of async exceeds that of sync at scheme=sync", "compared and held"),
        ("speed-up of servers 1 to 4 over x", "cannot be read"),
    ],
)
def test_what_no_cell_has_is_refused(says: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse("C1", says, AXES)
    assert words in str(caught.value)
    assert "C1" in str(caught.value)


def test_what_is_true_by_construction_is_found() -> None:
    answers = answer(
        study(),
        "error_rate of async exceeds that of sync at workers=16",
        "error_rate of sync exceeds that of async at workers=16",
        "error_rate of async is below that of sync at workers=16",
        "time_s of async is below that of sync at workers=16",
        "speed-up of workers 1 to 16 over 10 at scheme=async",
        "speed-up of workers 1 to 16 over 10 at scheme=sync",
        "speed-up of workers 1 to 16 under 10 at scheme=sync",
        "error_rate of sync is within 0.02 of that of mesh at workers=16",
        "error_rate of async is within 0.02 of that of sync at workers=16",
        "time_s falls with workers at scheme=sync",
        "time_s rises with workers at scheme=sync",
    )
    verdicts = [each.verdict for each in answers]
    yes, no = "holds", "does not hold"
    assert verdicts == [yes, no, no, yes, yes, no, yes, yes, no, yes, no]
    assert answers[0].unit == "percentage points"
    assert answers[0].low < 15 < answers[0].high
    assert 15 < answers[4].low < answers[4].high < 17
    assert len(answers[0].cells) == 6


def test_settings_that_are_not_mentioned_are_strata() -> None:
    records = study(3, scheme=["sync", "async"], workers=[1, 16], servers=[1, 2])
    (found,) = answer(records, "error_rate of async exceeds that of sync at workers=16")
    assert "2 strata" in found.note
    assert len(found.cells) == 12


def test_one_seed_decides_nothing() -> None:
    (found,) = answer(study(1), "error_rate of async exceeds that of sync at workers=16")
    assert found.verdict == "not decided"
    assert "one seed" in found.note


def test_what_is_not_there_decides_nothing() -> None:
    records = [each for each in study() if each.settings["scheme"] != "mesh"]
    axes = axes_of(each.settings for each in study())
    claim = parse("C", "time_s of mesh is below that of sync", axes)
    (found,) = answer_all([claim], records)
    assert found.verdict == "not decided"
    assert "no cells" in found.note
    assert math.isnan(found.estimate)


def test_a_diverged_cell_counts_as_the_worst() -> None:
    (found,) = answer(study(), "error_rate of async exceeds that of sync at workers=32")
    assert found.verdict == "holds"
    assert "3 cells diverged" in found.note
    (found,) = answer(study(), "time to 5 % of sync is below that of async at workers=32")
    assert found.verdict == "holds"
    assert "by rank" in found.note


def test_a_target_that_one_side_alone_reaches_decides_by_rank() -> None:
    (found,) = answer(study(), "time to 6 % of sync is below that of async at workers=16")
    assert found.verdict == "holds"
    (found,) = answer(study(2), "time to 6 % of sync is below that of async at workers=16")
    assert found.verdict == "not decided"


def test_a_target_that_nobody_reaches_decides_nothing() -> None:
    (found,) = answer(study(), "time to 0.1 % of sync is below that of async at workers=4")
    assert found.verdict == "not decided"


def test_values_of_records() -> None:
    done = record({"scheme": "async", "workers": 4}, 0)
    assert value_of(done, "bytes") == 1_920_000_000
    assert value_of(done, "staleness") == pytest.approx((3 * 200 + 2 * 40) / 240)
    assert value_of(done, "idle_fraction") == 0.02
    target = done.measured.curve["test_error_rate"][5]
    assert target is not None
    assert time_to(done.measured, target) == done.measured.curve["time_s"][5]
    assert time_to(done.measured, 0.0) == math.inf


def test_where_nothing_is_true_little_is_found(seed: int) -> None:
    """The chance to find anything among many claims at once is what was asked for."""
    random, rounds, wrong = Random(seed), 300, 0
    settings: list[dict[str, Value]] = [{"scheme": "sync"}, {"scheme": "async"}]
    plain = {name: record(each, 0) for name, each in zip("so", settings, strict=True)}
    claims = [
        Claim("C", "", metric, "exceeds", settings[1], settings[0])
        for metric in ("error_rate", "mnll", "ece", "brier")
    ]
    for _ in range(rounds):
        records = []
        for each in settings:
            for number in range(4):
                test = {claim.metric: random.gauss(0.1, 0.01) for claim in claims}
                measured = plain["s"].measured
                measured = type(measured)(**{**vars(measured), "test": test})
                records.append(Record("c", "b", each, number, "done", "", measured))
        wrong += any(found.verdict != "not decided" for found in answer_all(claims, records))
    # 5 % and three standard errors of a share of so many rounds.
    assert wrong / rounds < 0.05 + 3 * math.sqrt(0.05 * 0.95 / rounds)
