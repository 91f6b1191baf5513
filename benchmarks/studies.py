"""What a study costs beyond its trainings, and what it survives.

    python -m benchmarks.studies              1,000 tiny cells
    python -m benchmarks.studies --kills 20   a runner killed at random moments

The first prints, for each cell, the time of the processes that was neither training nor tests; and
how large the page is and how long it takes to write. The second compares the ledger of a study
whose runner was killed again and again with that of one that was left alone.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from distvi.report.study import write_page
from distvi.runs.records import repeatable
from distvi.studies.ledger import Ledger
from distvi.studies.reporting import content_of, this_machine
from distvi.studies.runner import processes_of, run_study, study_of

SPEC = """
title = "Tiny cells"
seeds = 4

[base.data]
dataset = "digits"

[base.model]
hidden_layers = 1
width = 2
features = 4
test_samples = 2

[base.training]
batch_size = 16

[base.engine]
kind = "simulated"
workers = 2

[stop]
updates = {updates}

[tests]
number = 2
samples = 1

[[blocks]]
name = "rates"
axes = {{ learning_rate = [{rates}] }}
"""


def write_spec(path: Path, rates: int, updates: int) -> Path:
    """A study of four cells for each of some learning rates, all of one shape."""
    values = ", ".join(f"{0.001 * 1.01**n:.8g}" for n in range(rates))
    path.write_text(SPEC.format(rates=values, updates=updates))
    return path


def overhead(folder: Path, cells: int) -> None:
    """Run many tiny cells, and say what they cost beyond their trainings."""
    study = study_of(write_spec(folder / "tiny.toml", cells // 4, updates=20))
    begun_s = time.perf_counter()
    counts = run_study(study)
    whole_s = time.perf_counter() - begun_s
    processes = processes_of(study, None)
    with Ledger(study.folder) as ledger:
        parts = [record.measured.parts_s for record in ledger.records()]
    spent_s = sum(part["training"] + part["evaluation"] for part in parts)
    beyond_ms = 1e3 * (whole_s * processes - spent_s) / counts.total
    print(f"{counts.total} cells by {processes} processes in {whole_s:.1f} s ({counts.done} done)")
    print(f"training and tests {1e3 * spent_s / counts.total:.1f} ms a cell")
    print(f"beyond them        {beyond_ms:.1f} ms a cell (goal: 50)")
    begun_s = time.perf_counter()
    page = study.folder / "report.html"
    write_page(page, content_of(study.folder))
    size_mb, took_s = page.stat().st_size / 1e6, time.perf_counter() - begun_s
    print(f"page of {size_mb:.2f} MB written in {took_s:.1f} s (goal: 5 MB)")


def killed(folder: Path, kills: int, seed: int) -> bool:
    """Kill a study's runner at random moments, and compare it with one that was left alone.

    A study that ends before it was killed often enough is begun anew.
    """
    spec = write_spec(folder / "killed.toml", rates=6, updates=400)
    calm = study_of(spec, folder / "calm")
    run_study(calm)
    with Ledger(calm.folder) as ledger:
        expected = [repeatable(record) for record in ledger.records()]
    draw, done, rounds = random.Random(seed), 0, 0
    while done < kills:
        rounds += 1
        shaken = folder / f"shaken-{rounds}"
        done += _killed_until_done(spec, shaken, kills - done, draw)
        with Ledger(shaken) as ledger:
            if [repeatable(record) for record in ledger.records()] != expected:
                print(f"study {rounds} is NOT EQUAL to the one that was left alone")
                return False
    print(f"{done} kills, {rounds} studies of {len(expected)} cells, all equal to the calm one")
    return True


def _killed_until_done(spec: Path, folder: Path, kills: int, draw: random.Random) -> int:
    """Run a study until it ends by itself; how often it was killed before, at most ``kills``."""
    command = [sys.executable, "-m", "distvi", "study", "run", str(spec), "--out", str(folder)]
    done = 0
    while True:
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                status = process.wait(draw.uniform(0.5, 6.0) if done < kills else None)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                done += 1
                continue
        if status:
            raise RuntimeError(f"the study ended with status {status}")
        return done


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description="What a study costs, and what it survives.")
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for name, value in this_machine().items():
        print(f"{name}: {value}")
    with tempfile.TemporaryDirectory() as name:
        if given.kills:
            return 0 if killed(Path(name), given.kills, given.seed) else 1
        overhead(Path(name), given.cells)
    return 0


if __name__ == "__main__":
    sys.exit(main())
