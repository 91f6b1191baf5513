"""Options of schemes: defaults that work for any number of workers, types, one's own."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distvi.aggregation import (
    RATES,
    SCHEMES,
    ByWorkers,
    Option,
    Scheme,
    SchemeEntry,
    asynchronous,
    k_batch_async,
    k_sync,
    register,
    registry,
    scheme_named,
    staleness_aware,
    sync,
    typed_options,
)
from distvi.config.algorithm import AlgorithmSettings
from distvi.config.resolve import resolve
from distvi.errors import InputError
from distvi.protocol import (
    GradientArrived,
    Joined,
    Rules,
    SendParameters,
    Stage,
    Ticket,
    initial_state,
    react,
)
from distvi.training.plan import Plan
from distvi.training.prepare import prepare

PUBLISHED = tuple(SCHEMES)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``register``, forgotten after the test."""
    known = dict(SCHEMES)
    monkeypatch.setattr(registry, "_KNOWN", known)
    monkeypatch.setattr(registry, "SCHEMES", known)
    return register


def updates_of(scheme: Scheme, workers: int, gradients: int) -> int:
    """Updates that equally fast workers make of so many gradients."""
    state = initial_state(Rules(scheme))
    events: list = [Joined(worker) for worker in range(workers)]
    for event in itertools.islice(events, workers + gradients):
        state, commands = react(Rules(scheme), state, event, 0.0)
        events += [
            GradientArrived(Ticket(sent.worker, sent.incarnation, sent.sequence, sent.version))
            for sent in commands
            if isinstance(sent, SendParameters)
        ]
    return state.version


@pytest.mark.parametrize("name", PUBLISHED)
def test_defaults_are_live_for_few_workers(name: str) -> None:
    for workers in range(1, 17):
        scheme_named(name, workers)  # checks it


@settings(max_examples=30)
@given(st.sampled_from(PUBLISHED), st.integers(17, 64))
@example("backup", 64)
@example("k-sync", 64)
def test_defaults_are_live_for_more_workers(name: str, workers: int) -> None:
    scheme_named(name, workers)


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("workers", [1, 2, 3, 16])
def test_defaults_go_on_making_updates(name: str, workers: int) -> None:
    assert updates_of(scheme_named(name, workers), workers, 6 * workers) >= 3


def planned(engine: str, scheme: str, workers: int, options: dict[str, Any] | None = None) -> Plan:
    """A run of the digits, planned."""
    settings = {"engine": engine, "scheme": scheme, "workers": workers}
    return prepare(resolve("digits", settings=settings | {"scheme_options": options or {}}))


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("engine", ["local", "simulated"])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_engines_run_every_name_as_it_stands(name: str, engine: str, workers: int) -> None:
    plan = planned(engine, name, workers)
    assert plan.config.algorithm.scheme_options == {}  # other workers would have other numbers
    ahead = engine == "local" and name == "async" and workers > 1
    assert plan.scheme.pacing.in_flight == (2 if ahead else 1)


@pytest.mark.parametrize(
    ("name", "workers", "shown"),
    [
        ("backup", 1, "backup(n=1)"),
        ("backup", 2, "backup(n=1)"),
        ("backup", 100, "backup(n=95)"),
        ("backup-gradients", 8, "backup(n=7, count=gradients)"),
        ("dynamic-backup", 8, "dynamic-backup(least=1, noise=8)"),
        ("ssp", 8, "ssp(bound=3)"),
        ("softsync", 8, "softsync(n=1)"),
        ("k-sync", 8, "k-sync(k=6)"),
        ("k-batch-sync", 1, "k-batch-sync(k=1)"),
        ("k-async", 9, "k-async(k=4)"),
        ("k-batch-async", 8, "k-batch-async(k=4)"),
        ("drop-stale", 8, "drop-stale(bound=16)"),
    ],
)
def test_names_show_the_numbers_in_force(name: str, workers: int, shown: str) -> None:
    assert scheme_named(name, workers).name == shown


def test_drop_stale_passes_the_staleness_of_equal_workers() -> None:
    for workers in (1, 2, 7, 16):
        assert updates_of(scheme_named("drop-stale", workers), workers, 100) == 100


def test_only_sync_is_in_lockstep() -> None:
    lockstep = {name for name in PUBLISHED if scheme_named(name, 1).is_lockstep}
    assert lockstep == {"sync"}
    assert staleness_aware(sync()).is_lockstep


def test_options_are_typed() -> None:
    given_as_text = {"n": "3", "combine": "add", "max-staleness": "6", "rate": "1/tau"}
    typed = {"n": 3, "combine": "add", "max_staleness": 6, "rate": "1/tau"}
    assert typed_options("softsync", given_as_text) == typed
    assert typed_options("softsync", typed) == typed
    plan = planned("local", "async", 2, {"in-flight": "1"})
    assert plan.scheme.pacing.in_flight == 1
    assert plan.config.algorithm.scheme_options == {"in_flight": 1}


@pytest.mark.parametrize("bad", [True, None, [1]])
def test_settings_take_numbers_and_text_alone(bad: object) -> None:
    with pytest.raises(ValueError, match="scheme_options"):
        AlgorithmSettings.model_validate({"scheme": "backup", "scheme_options": {"n": bad}})


def discounted(
    n: int, decay: float = 0.5, shape: Literal["power", "none"] = "power", note: str = ""
) -> Scheme:
    """Late gradients count less."""
    factor = decay if shape == "power" else 1.0
    scheme = staleness_aware(k_batch_async(n), lambda tau: factor**tau)
    return Scheme(f"{n} {factor} {note}", scheme.stage, scheme.pacing)


def test_a_scheme_of_ones_own_has_typed_options(own: Callable[..., None]) -> None:
    own("discounted", discounted)
    assert registry.SCHEMES["discounted"].summary == "Late gradients count less."
    assert scheme_named("discounted", 4, {"n": 3}).name == "3 0.5 "
    text = {"n": "2", "decay": "0.25", "note": "7"}
    assert scheme_named("discounted", 4, text).name == "2 0.25 7"
    assert scheme_named("discounted", 4, {"n": 2, "decay": 1}).name == "2 1.0 "
    assert scheme_named("discounted", 4, {"n": 2, "shape": "none"}).name == "2 1.0 "


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "scheme discounted needs the option 'n', a whole number: --scheme-options.n"),
        ({"n": 2, "decay": "half"}, "discounted: decay is 'half'; it must be a number"),
        ({"n": 2, "decay": "nan"}, "decay is 'nan'; it must be a number"),
        ({"n": 2, "decay": 10**400}, "it must be a number"),
        ({"n": 2, "decay": False}, "decay is False; it must be a number"),
        ({"n": "9" * 5000}, "it must be a whole number"),
        ({"n": 2, "note": 7}, "note is 7; it must be a text"),
        ({"n": 2, "shape": "pwoer"}, "discounted has no shape 'pwoer' .did you mean 'power'"),
    ],
)
def test_complaints_about_ones_own(
    own: Callable[..., None], options: dict[str, object], told: str
) -> None:
    own("discounted", discounted)
    with pytest.raises(InputError, match=told):
        scheme_named("discounted", 4, options)


def test_options_are_read_off_any_signature(own: Callable[..., None]) -> None:
    def later(
        count=2,
        *,
        share=0.5,
        limit: int | None = None,
        combine: Stage = RATES,  # type: ignore[assignment]
        spare: "float" = 1.0,
        unknown: "Nowhere" = 3,  # type: ignore[name-defined]
        **others: int,
    ) -> Scheme:
        return asynchronous()

    own("later", later)
    options = {option.name: option.kind for option in registry.SCHEMES["later"].options}
    assert list(options) == ["count", "share", "limit", "combine", "spare"]
    assert [options[name] for name in ("count", "share", "limit", "spare")] == [
        int, float, int, float
    ]  # fmt: skip
    own("partial", partial(k_sync, k=2))
    assert scheme_named("partial", 4, {"combine": "add"}).name == "k-sync(k=2)"
    assert scheme_named("partial", 4, {"k": "3"}).name == "k-sync(k=3)"


def test_functions_that_a_run_cannot_call_are_refused(own: Callable[..., None]) -> None:
    with pytest.raises(InputError, match="parameter 'names' cannot be given by a run"):
        own("listed", _of_a_list)
    with pytest.raises(InputError, match="every scheme has the option 'rate'"):
        own("rated", _with_a_rate)


def _of_a_list(names: list[str]) -> Scheme:
    return asynchronous()


def _with_a_rate(rate: float = 1.0) -> Scheme:
    return asynchronous()


def test_ones_own_options_may_follow_the_workers(own: Callable[..., None]) -> None:
    own("mine", k_sync, [Option("k", int, "Workers.", ByWorkers("all", lambda workers: workers))])
    assert isinstance(registry.SCHEMES["mine"], SchemeEntry)
    assert scheme_named("mine", 7).name == "k-sync(k=7)"
