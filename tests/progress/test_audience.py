"""Several who are told at once."""

from pathlib import Path
from typing import Any

import pytest

from distvi.progress import Callbacks, Progress, Silent
from tests.progress.fake_engines import METRICS, Bare


class Diary(Silent):
    """Writes down what it is told."""

    def __init__(self, name: str, entries: list[tuple[Any, ...]]) -> None:
        self._name, self._entries = name, entries

    def __enter__(self) -> "Diary":
        self._entries.append((self._name, "enter"))
        return self

    def __exit__(self, *exception: object) -> None:
        self._entries.append((self._name, "exit", exception[0]))

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name not in dir(Progress):
            return super().__getattribute__(name)
        return lambda *arguments: self._entries.append((self._name, name, *arguments))


def test_everybody_hears_everything_in_order() -> None:
    entries: list[tuple[Any, ...]] = []
    told = [
        ("described", ("60 rows", "regression of y")),
        ("attached", Bare()),
        ("started", Path("run"), 0, 9),
        ("reported", 1, 2.0, 3.0),
        ("tested", 1, METRICS),
        ("warned", "a worker was replaced"),
        ("finished", Path("run"), {"status": "done"}),
    ]
    methods = [name for name in vars(Progress) if not name.startswith("_")]
    assert methods == [name for name, *_ in told]
    with Callbacks(Diary("first", entries), Diary("second", entries)) as audience:
        for name, *arguments in told:
            getattr(audience, name)(*arguments)
    heard = [(who, *entry) for entry in told for who in ("first", "second")]
    assert entries == [
        ("first", "enter"),
        ("second", "enter"),
        *heard,
        ("second", "exit", None),
        ("first", "exit", None),
    ]


def test_an_exception_reaches_everybody_and_goes_on() -> None:
    entries: list[tuple[Any, ...]] = []
    with pytest.raises(KeyError), Callbacks(Diary("first", entries), Diary("second", entries)):
        raise KeyError
    assert entries[2:] == [("second", "exit", KeyError), ("first", "exit", KeyError)]


def test_whoever_has_entered_leaves_if_the_next_cannot_enter() -> None:
    class Late(Silent):
        def __enter__(self) -> "Late":
            raise OSError("no")

    entries: list[tuple[Any, ...]] = []
    with pytest.raises(OSError, match="no"), Callbacks(Diary("first", entries), Late()):
        pass
    assert entries == [("first", "enter"), ("first", "exit", OSError)]
