"""The processes of the benchmark of tables end with the one that started them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IDLE = """
import multiprocessing, os, signal
from concurrent.futures import ProcessPoolExecutor
from benchmarks.uci import begin

def wait():
    os.write(1, b"ready\\n")
    signal.pause()

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    cores = context.Queue()
    cores.put(min(os.sched_getaffinity(0)))
    with ProcessPoolExecutor(1, context, begin, (cores,)) as pool:
        pool.submit(wait).result()
"""
TRAINING = """
import multiprocessing, os, sys
from pathlib import Path
from benchmarks import uci
from distvi import progress
from distvi.training import start
from tests.small_run import TINY

class Ready(progress.Silent):
    def started(self, run, update, updates):
        os.write(1, f"{run}\\n".encode())

start.Silent = Ready

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    settings = [*TINY[1:8:2], "training.updates=1000000000", "training.batch_size=16"]
    cells = [uci.Cell("power", split, folder, folder, tuple(settings)) for split in (0, 1)]
    uci.fill(folder / "ledger.jsonl", cells, 1)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_idle_process_ends_with_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path, IDLE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.send_signal(number)
        # The pipe ends when the last process that holds it has.
        assert parent.communicate(timeout=60)[0] == ""


def test_a_training_process_ends_and_leaves_nothing(tmp_path: Path) -> None:
    table(tmp_path)
    with started(tmp_path, TRAINING) as parent:
        assert parent.stdout is not None
        run = Path(parent.stdout.readline().strip())
        assert run.is_dir()
        parent.terminate()
        assert parent.communicate(timeout=60)[0] == ""
    assert not run.parent.exists()
    assert (tmp_path / "ledger.jsonl").read_text() == ""


def started(folder: Path, code: str) -> subprocess.Popen[str]:
    script = folder / "main.py"
    script.write_text(code)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(script), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def table(folder: Path) -> None:
    (folder / "uci").mkdir()
    rows = "\n".join(f"{row},{row % 7},{row % 5}" for row in range(60))
    (folder / "uci/power.csv").write_text(f"a,b,y\n{rows}\n")
    (folder / "uci/power.splits.json").write_text('{"test": [[1, 2], [3, 4]]}')
    (folder / "power.toml").write_text("")
