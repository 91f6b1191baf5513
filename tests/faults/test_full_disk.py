"""A disk that cannot be written to for a while costs checkpoints, not the run."""

import errno
import io
import json
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from distvi import api
from distvi.aggregation import sync
from distvi.errors import RunFailed
from distvi.progress import Lines, Live, Silent
from distvi.protocol import Rules, StopRequested, initial_state
from distvi.runs.recording import journal_file, trace_file
from distvi.system.files import replace_bytes
from tests.small_run import MODEL, UPDATES, write_table

TASK: dict[str, Any] = {
    "batch_size": 16,
    "updates": UPDATES,
    "seed": 3,
    "target": "y",
    "model": MODEL,
}
SETTINGS: dict[str, Any] = TASK | {"engine": "mesh"}
NO_SPACE = os.strerror(errno.ENOSPC)

pytestmark = pytest.mark.xdist_group("full disk")  # they share a run


class Events(Silent):
    """Does something after some updates; remembers the warnings."""

    def __init__(self, events: dict[int, Callable[[], object]]) -> None:
        self.events, self.warnings = events, []

    def reported(self, update: int, neg_elbo: float, training_time_s: float) -> None:
        self.events.get(update, lambda: None)()

    def warned(self, message: str) -> None:
        self.warnings.append(message)


class Disk:
    """Every file is written through ``fsync``: a full disk refuses there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    def fill(self) -> None:
        def fsync(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, NO_SPACE)

        self._patch.setattr("distvi.system.files.os.fsync", fsync)

    def free(self) -> None:
        self._patch.undo()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("data") / "numbers.csv")


@pytest.fixture(scope="module")
def undisturbed(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return api.train(table, out=tmp_path_factory.mktemp("runs") / "run", **SETTINGS).path


def is_like(run: Path, undisturbed: Path) -> None:
    """The run is done, has the checkpoints of an undisturbed one, and nothing lies about."""
    assert json.loads((run / "summary.json").read_text())["status"] == "done"
    assert names(run) == names(undisturbed)
    file = Path("checkpoints", str(UPDATES), "params.safetensors")
    assert (run / file).read_bytes() == (undisturbed / file).read_bytes()


def names(run: Path) -> set[Path]:
    return {path.relative_to(run) for path in run.rglob("*")}


@pytest.mark.parametrize("engine", ["mesh", "simulated", "local"])
def test_a_disk_that_is_full_for_a_while(
    disk: Disk, table: Path, tmp_path: Path, engine: str
) -> None:
    out = tmp_path / "run"
    progress = Events({3: disk.fill, 5: disk.free})
    run = api.train(table, out=out, progress=progress, engine=engine, **TASK)
    assert run.summary["status"] == "done"
    kept = f"the last good checkpoint is {out}/checkpoints/2"
    assert progress.warnings == [f"cannot write {out}: {NO_SPACE}; {kept}"] * 2
    assert {path.name for path in run.checkpoint_folder.iterdir()} == {"6", "7"}
    assert run.metrics.num_rows == UPDATES


def test_a_disk_that_stays_full_fails_the_run_which_can_go_on_later(
    disk: Disk, table: Path, tmp_path: Path, undisturbed: Path
) -> None:
    out = tmp_path / "run"
    progress = Events({UPDATES - 1: disk.fill})
    with pytest.raises(RunFailed) as failure:
        api.train(table, out=out, progress=progress, **SETTINGS)
    assert failure.value.exit_status == 1
    kept = f"the last good checkpoint is {out}/checkpoints/{UPDATES - 2}"
    again = f"mend that, then: distvi resume {out}"
    assert str(failure.value) == f"cannot write {out}: {NO_SPACE}; {kept}; {again}"
    assert not [path for path in names(out) if path.name.endswith(".part")]
    disk.free()
    api.resume(out)
    is_like(out, undisturbed)


def test_an_interruption_that_cannot_be_kept_says_so(
    disk: Disk, table: Path, tmp_path: Path
) -> None:
    def stop() -> None:
        disk.fill()
        signal.raise_signal(signal.SIGTERM)

    progress = Events({4: stop})
    with pytest.raises(RunFailed, match=f"{NO_SPACE}; the last good checkpoint is .*/3; mend"):
        api.train(table, out=tmp_path / "run", progress=progress, **SETTINGS)


def test_a_folder_of_checkpoints_that_was_removed_is_made_again(
    table: Path, tmp_path: Path, undisturbed: Path
) -> None:
    out = tmp_path / "run"
    progress = Events({4: lambda: shutil.rmtree(out / "checkpoints")})
    api.train(table, out=out, progress=progress, **SETTINGS)
    assert progress.warnings == []
    is_like(out, undisturbed)


def test_a_folder_of_checkpoints_that_cannot_be_written_for_a_while(
    table: Path, tmp_path: Path, undisturbed: Path
) -> None:
    out = tmp_path / "run"
    folder = out / "checkpoints"

    def block() -> None:
        shutil.rmtree(folder)
        folder.write_text("no folder")  # what permissions forbid, root may still do

    progress = Events({3: block, 5: folder.unlink})
    api.train(table, out=out, progress=progress, **SETTINGS)
    where = [f"{folder}/.{update}.part" for update in (3, 4)]
    reason = os.strerror(errno.ENOTDIR)
    assert progress.warnings == [
        f"cannot write {w}: {reason}; there is no checkpoint" for w in where
    ]
    is_like(out, undisturbed)


def test_processes_do_not_mind_a_folder_of_checkpoints_that_was_removed(
    table: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run" / "checkpoints"
    progress = Events({4: lambda: shutil.rmtree(folder)})
    run = api.train(table, out=tmp_path / "run", progress=progress, engine="local", **TASK)
    assert (run.summary["status"], progress.warnings) == ("done", [])
    assert run.newest_checkpoint().update == UPDATES


def test_a_run_folder_that_was_removed(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    progress = Events({3: lambda: shutil.rmtree(out)})
    with pytest.raises(RunFailed, match=r"No such file or directory; there is no checkpoint"):
        api.train(table, out=out, progress=progress, **SETTINGS)
    assert len(progress.warnings) == UPDATES - 3 + 2
    assert not out.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of half a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_real_full_disk(small_disk: Path, table: Path, undisturbed: Path) -> None:
    ballast = small_disk / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    out = small_disk / "run"
    progress = Events({3: fill, 5: ballast.unlink})
    api.train(table, out=out, progress=progress, **SETTINGS)
    assert len(progress.warnings) == 2
    assert all(NO_SPACE in warning for warning in progress.warnings)
    is_like(out, undisturbed)


def test_a_journal_and_a_timeline_that_cannot_be_written_fail_by_name(
    disk: Disk, tmp_path: Path
) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    state = initial_state(Rules(sync(), updates=1))
    with (
        pytest.raises(RunFailed, match=f"cannot write /dev/full: {NO_SPACE}"),
        journal_file(full) as write,
    ):
        write(0.0, StopRequested(), state, ())
    disk.fill()
    with (
        pytest.raises(RunFailed, match=f"trace.json: {NO_SPACE}"),
        trace_file(tmp_path / "trace.json", str),
    ):
        pass


def test_warnings_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    Lines().warned("cannot write")
    assert capsys.readouterr().err == "distvi: warning: cannot write\n"
    text = io.StringIO()
    with Live(Console(file=text, force_terminal=True, width=60)) as live:
        live.started(Path("run"), 0, 9)
        live.warned("cannot [write]")
    assert "distvi: warning: cannot [write]" in text.getvalue()
    with pytest.warns(RuntimeWarning, match="cannot write"):
        Silent().warned("cannot write")


def test_a_file_system_that_cannot_sync_folders_is_told_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fsync = os.fsync

    def of_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr("distvi.system.files.os.fsync", of_files)
    with pytest.warns(RuntimeWarning, match="cannot sync folders"):
        replace_bytes(tmp_path / "file", b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_a_picture_that_cannot_be_drawn_costs_a_warning(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Path
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ValueError("no such\nfont")

    monkeypatch.setattr("distvi.report.figures.run_figure", fail)
    run = api.train(table, out=tmp_path / "run", progress=(told := Events({})), **SETTINGS)
    assert told.warnings == ["no figure.png: ValueError: no such font"]
    assert run.summary["status"] == "done"
    assert names(undisturbed) - names(run.path) == {Path("figure.png")}
