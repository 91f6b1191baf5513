"""Schemes by name; what is refused before anything runs."""

import re

import pytest

from distvi.aggregation import (
    SCHEMES,
    Scheme,
    after_own_update,
    asynchronous,
    at_once,
    bounded_lead,
    chain,
    check_liveness,
    collect,
    drop_stale,
    k_batch_async,
    register,
    registry,
    scheme_named,
    stage_of,
    staleness_aware,
)
from distvi.aggregation.liveness import mean_staleness
from distvi.errors import InputError
from distvi.protocol import Refusal


def test_every_name_builds_its_scheme() -> None:
    for name in (name for name in SCHEMES if ":" not in name):  # those may be other tests'
        assert scheme_named(name, 4).name.startswith(name.removesuffix("-gradients"))
        assert "staleness-aware" in scheme_named(name, 4, {"rate": "1/tau"}).name


@pytest.mark.parametrize(
    ("name", "workers", "settings", "told"),
    [
        ("snyc", 2, {}, "did you mean 'sync'"),
        ("sync", 0, {}, "a run needs at least 1"),
        ("backup", 4, {"n": 5}, "needs 5 workers and the run has 4"),
        ("backup", 4, {"n": 0}, "n is 0; it must be a whole number of at least 1"),
        ("backup", 4, {"m": 3}, "scheme backup has no option 'm'"),
        ("backup", 4, {"n": "three"}, "scheme backup: n is 'three'; it must be a whole number"),
        ("backup", 4, {"n": "2.5"}, "n is '2.5'; it must be a whole number"),
        ("backup", 4, {"n": True}, "n is True; it must be a whole number"),
        ("backup", 4, {"n": None}, "n is None; it must be a whole number"),
        ("async", 4, {"in-flight": 1, "in_flight": 2}, "option 'in_flight' is given twice"),
        ("async", 4, {"in_fligt": 1}, "did you mean 'in_flight'"),
        ("dynamic-backup", 4, {"least": 5}, "needs 5 workers and the run has 4"),
        ("dynamic-backup", 4, {"least": 0}, "least is 0; it must be a whole number of at least 1"),
        ("dynamic-backup", 4, {"noise": "loud"}, "noise is 'loud'; it must be a number of at"),
        ("dynamic-backup", 4, {"noise": -1.0}, "noise is -1.0; it must be a number of at least 0"),
        ("ssp", 4, {"bound": -1}, "bound is -1; it must be a whole number of at least 0"),
        ("softsync", 4, {"n": 5}, "needs 5 workers"),
        ("softsync", 4, {"n": 0}, "n is 0"),
        ("k-sync", 4, {"k": 9}, "needs 9 workers"),
        ("k-async", 4, {"k": 9}, "needs 9 workers"),
        ("drop-stale", 4, {"bound": -2}, "bound is -2"),
        ("sync", 4, {"combine": "averge"}, "did you mean 'average'"),
        ("sync", 4, {"combine": 3}, "no combine 3 (known: average"),
        ("async", 4, {"rate": "1/taw"}, "did you mean '1/tau'"),
        ("async", 4, {"in_flight": 0}, "in_flight is 0; it must be"),
    ],
)
def test_bad_input_is_refused_with_the_reason(
    name: str, workers: int, settings: dict[str, object], told: str
) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        scheme_named(name, workers, settings)


def test_a_composition_that_can_make_no_progress_is_refused() -> None:
    everybody_waits = Scheme("four of three", chain(collect(4)), after_own_update())
    check_liveness(everybody_waits, workers=4)
    with pytest.raises(InputError, match="four of three can never make an update with 3 workers"):
        check_liveness(everybody_waits, workers=3)

    refuse_all = stage_of(lambda lot, view: ((), tuple(Refusal(p.ticket, "no") for p in lot)))
    with pytest.raises(InputError, match="the last was refused: no"):
        check_liveness(Scheme("never", refuse_all, at_once()), workers=2)


def test_large_updates_are_progress() -> None:
    check_liveness(k_batch_async(1500), workers=2)
    check_liveness(Scheme("mixed", chain(drop_stale(3), collect(9)), bounded_lead(2)), workers=3)


def test_a_scheme_of_ones_own_has_a_name() -> None:
    def mine(n: int) -> Scheme:
        return staleness_aware(k_batch_async(n), lambda tau: 0.5**tau)

    try:
        register("mine", mine)
        register("mine", mine)  # once more is no harm
        assert scheme_named("mine", 4, {"n": 2}).name == "k-batch-async(k=2) staleness-aware"
        with pytest.raises(InputError, match="no option 'm'"):
            scheme_named("mine", 4, {"m": 2})
        with pytest.raises(InputError, match="'mine' exists already"):
            register("mine", lambda: asynchronous())
        with pytest.raises(InputError, match="'sync' exists already"):
            register("sync", mine)
    finally:
        registry._KNOWN.pop("mine", None)


@pytest.mark.parametrize(
    ("name", "workers", "settings", "staleness"),
    [
        ("sync", 8, {}, 0),
        ("backup", 8, {}, 0),
        ("k-sync", 8, {}, 0),
        ("async", 1, {}, 0),
        ("async", 8, {}, 7),  # Dean et al. (2012): workers - 1
        ("async", 2, {"in_flight": 2}, 3),
        ("softsync", 8, {"n": 2}, 7 / 4),  # (workers - 1) / gradients of an update
        ("k-async", 8, {}, 1),
    ],
)
def test_staleness_is_known_before_anything_runs(
    name: str, workers: int, settings: dict[str, int], staleness: float
) -> None:
    assert mean_staleness(scheme_named(name, workers, settings), workers) == staleness
