"""The command line called in this process, in an empty folder, and a finished run to copy."""

import shutil
from pathlib import Path

import pytest

from distvi import cli
from tests.compilation import compile_once
from tests.small_run import TINY, Answer, Distvi, write_table

__all__ = ["compile_once"]  # the runs of these tests have a few programs in common


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the marks in its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests on finished runs in one process, which makes these runs once."""
    for item in items:
        if {"finished", "classifier"} & {*getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.xdist_group("finished runs"))


@pytest.fixture
def distvi(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Distvi:
    """``distvi(*arguments)``, as if typed in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISTVI_DATA", raising=False)

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        status = cli.run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Answer(status, str(out), str(err))

    return call


@pytest.fixture(scope="session")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of numbers."""
    return write_table(tmp_path_factory.mktemp("data") / "numbers.csv")


@pytest.fixture(scope="session")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with a text column, kind."""
    return write_table(tmp_path_factory.mktemp("data") / "kinds.csv", "a,b,kind")


@pytest.fixture(scope="session")
def finished(numbers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the table of numbers; not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    arguments = ("train", numbers, "--target", "y", *TINY, "--keep-checkpoints", 3)
    assert cli.run([str(argument) for argument in (*arguments, "--out", out)]) == 0
    return out


@pytest.fixture(scope="session")
def classifier(kinds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a classifier; not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "classifier"
    arguments = ("train", kinds, "--target", "kind", *TINY, "--out", out)
    assert cli.run([str(argument) for argument in arguments]) == 0
    return out


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be harmed."""
    return shutil.copytree(finished, tmp_path / "copied")
