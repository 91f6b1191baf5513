"""A study whose processes are killed at any moment ends as one that was left alone."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from distvi.runs.records import repeatable
from distvi.studies.ledger import Counts, Ledger
from distvi.studies.runner import study_of
from tests.small_study import write_study

BLOCKS = """
[[blocks]]
name = "main"
axes = { learning_rate = [0.001, 0.003, 0.01, 0.03] }
"""
KILLS = 4

Wait = Callable[[subprocess.Popen[bytes], Path, int], bool]


def start(spec: Path, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "distvi", "study", "run", str(spec), "--out", str(folder)]
    log = folder.with_suffix(".log").open("wb")
    with log:
        return subprocess.Popen([*command, "--parallel", "2"], stderr=log)


def begun(folder: Path) -> Counts:
    if not (folder / "ledger.sqlite").exists():
        return Counts(0, 0, 0, 0, 0)
    with Ledger(folder, create=True) as ledger:  # which may be about to be made
        return ledger.counts()


def wait_for(process: subprocess.Popen[bytes], folder: Path, cells: int) -> bool:
    """Until so many cells are finished or begun; false: the study has ended before."""
    while process.poll() is None:
        counts = begun(folder)
        if counts.finished + counts.running >= cells:
            return True
    return False


def workers_of(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(number) for number in children.read_text().split()] if children.exists() else []


@pytest.mark.xdist_group("studies")
def test_killed_at_any_moment(tmp_path: Path, seed: int) -> None:
    spec = write_study(tmp_path / "s.toml", BLOCKS, seeds=2, updates=30)
    calm = study_of(spec, tmp_path / "calm")
    assert start(spec, calm.folder).wait() == 0  # by processes of as many threads
    folder, draw, begin = tmp_path / "shaken", random.Random(seed), 0
    for kill in range(KILLS):
        process = start(spec, folder)
        begin = min(begin + draw.randint(1, 2), len(calm.cells))
        if wait_for(process, folder, begin):
            workers = workers_of(process.pid)
            victims = [process.pid] if kill % 2 or not workers else [draw.choice(workers)]
            for victim in victims:
                os.kill(victim, signal.SIGKILL)
        process.wait()
    assert start(spec, folder).wait() == 0
    with Ledger(calm.folder) as one, Ledger(folder) as two:
        expected = [repeatable(record) for record in one.records()]
        assert [repeatable(record) for record in two.records()] == expected
        assert two.counts() == one.counts() == (0, 0, len(calm.cells), 0, 0)


@pytest.mark.xdist_group("studies")
def test_an_interrupted_study_goes_on(tmp_path: Path) -> None:
    spec = write_study(tmp_path / "s.toml", BLOCKS, seeds=2, updates=30)
    process = start(spec, tmp_path / "study")
    assert wait_for(process, tmp_path / "study", 1)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    said = (tmp_path / "study.log").read_text()
    assert said.endswith(f"distvi study run {spec} --out {tmp_path / 'study'}\n")
    assert begun(tmp_path / "study").running == 0
    assert start(spec, tmp_path / "study").wait() == 0
    assert begun(tmp_path / "study") == (0, 0, 8, 0, 0)


@pytest.mark.xdist_group("studies")
def test_two_runners_share_a_study(tmp_path: Path) -> None:
    spec = write_study(tmp_path / "s.toml", BLOCKS, seeds=2, updates=30)
    processes = [start(spec, tmp_path / "study") for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert begun(tmp_path / "study") == (0, 0, 8, 0, 0)
