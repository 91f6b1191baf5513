"""Ways to ask a run to end, and streams and limits that it may find."""

import errno
import mmap
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from distvi import Interrupted, api
from distvi.engines.local.memory import SharedSlots, new_memory
from distvi.errors import InputError
from distvi.progress import Silent
from distvi.system.signals import ENDING, Interruption
from distvi.system.streams import Enduring
from tests.small_run import MODEL, UPDATES, write_table


class Strike(Silent):
    """Sends this process a signal after an update, twice, as a terminal that closes does."""

    def __init__(self, number: signal.Signals, times: int) -> None:
        self.number, self.times = number, times

    def reported(self, update: int, neg_elbo: float, training_time_s: float) -> None:
        if update == 3:
            for _ in range(self.times):
                signal.raise_signal(self.number)


@pytest.mark.parametrize("number", ENDING)
def test_a_run_that_is_asked_to_end_leaves_a_checkpoint(
    number: signal.Signals, tmp_path: Path
) -> None:
    table = write_table(tmp_path / "numbers.csv")
    progress = Strike(number, 2 if number in (signal.SIGHUP, signal.SIGUSR1) else 1)
    settings = {"engine": "mesh", "target": "y", "batch_size": 16, "updates": UPDATES}
    with pytest.raises(Interrupted) as stop:
        api.train(table, out=tmp_path / "run", progress=progress, model=MODEL, **settings)
    assert stop.value.signum == number
    run = stop.value.run
    assert (run.summary["status"], run.summary["updates"]) == ("interrupted", 3)
    assert (run.checkpoint_folder / "3").is_dir()


@pytest.fixture
def _nohup() -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_nohup")
def test_under_nohup_a_terminal_that_closes_is_nothing() -> None:
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGHUP)
        assert not interruption()


def test_a_second_ctrl_c_is_not_held_up() -> None:
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGUSR1)
        assert interruption()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_nothing_is_taken_for_a_standard_stream_that_is_closed() -> None:
    program = (
        "import os; os.close(0); os.close(2);"
        "from distvi.system.streams import open_standard_streams as tidy; tidy();"
        "print(os.open(os.devnull, os.O_RDONLY))"
    )
    command = [sys.executable, "-c", program]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(answer.stdout) > 2


def test_what_is_said_to_a_terminal_that_has_gone_is_said_to_nobody() -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "w") as stream:
        os.close(read_end)
        print("update 3", file=Enduring(stream), flush=True)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def _small_files() -> Iterator[None]:
    """As after ``ulimit -f``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("_small_files")
def test_a_limit_of_files_is_named() -> None:
    with pytest.raises(InputError, match=r"cannot share 0\.0021 GB .* \(ulimit -f\), or use --eng"):
        new_memory(2 << 20)


def test_a_limit_of_addresses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(InputError, match=r"Cannot allocate memory; raise the limit \(ulimit -v\)"):
        SharedSlots(100)
