"""``distvi --help`` says what each command is for, in the words of the command itself."""

from importlib import import_module

import pytest
from cyclopts import App

from distvi.cli import COMMANDS
from tests.small_run import Distvi


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_every_command_says_what_it_is_for(distvi: Distvi) -> None:
    text = distvi("--help").out
    for name, purpose in COMMANDS.items():
        summary = purpose.splitlines()[0]
        assert summary in text
        module = import_module(f"distvi.cli.{name}")
        own = getattr(module, name, None) or module.app
        assert (own.help if isinstance(own, App) else own.__doc__.splitlines()[0]) == summary


@pytest.mark.parametrize("flag", ["--help-model", "--help-schemes", "--help-rules"])
def test_lists_need_no_command(distvi: Distvi, flag: str) -> None:
    assert flag in distvi("--help").out
    assert distvi(flag).out == distvi("train", flag).out != ""


def test_numbers_of_a_list_of_schemes_follow_the_workers(distvi: Distvi) -> None:
    asked = ("--help-schemes", "--workers", 40)
    assert distvi(*asked).out == distvi("train", *asked).out != distvi(asked[0]).out
