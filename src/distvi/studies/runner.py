"""Runs a study: processes that work through its cells, and what is told meanwhile.

Cells on the simulated clock run side by side, each process on cores of its own. Those that are
timed by the wall's clock run after them, one at a time, with the whole machine to themselves.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from distvi.errors import InputError, RunFailed
from distvi.studies.cells import Cell, cells_of
from distvi.studies.claims import axes_of, check
from distvi.studies.ledger import Counts, Ledger
from distvi.studies.reporting import claims_in, this_machine
from distvi.studies.spec import SpecFile
from distvi.system.signals import Interruption

LOOK_S = 0.2  # between two looks at the ledger
GRACE_S = 10.0  # for a process to stop at the next update


class Study(NamedTuple):
    """A study that is about to be run.

    Attributes:
        file: Its spec.
        cells: All of them.
        folder: Where the ledger is.
    """

    file: SpecFile
    cells: tuple[Cell, ...]
    folder: Path


class StudyInterrupted(KeyboardInterrupt):
    """The study was stopped by a signal; finished cells stay finished."""

    def __init__(self, study: Study, signum: int) -> None:
        path, folder = study.file.path, study.folder
        out = "" if folder == path.with_suffix("") else f" --out {folder}"
        super().__init__(f"interrupted; go on with: distvi study run {path}{out}")
        self.signum = signum


def study_of(path: Path, folder: Path | None = None) -> Study:
    """The study of a TOML file, checked.

    Args:
        path: The file.
        folder: Of its ledger; by default beside the file, by its name.

    Raises:
        InputError: see `cells_of`.
    """
    file = SpecFile(path)
    cells = cells_of(file)
    axes = axes_of(cells)
    for number, claim in enumerate(claims_in(file.spec, str(path))):
        try:
            check(claim, axes)
        except InputError as error:
            reason = str(error).removeprefix(f"{path}: ")
            raise file.wrong(["claims", str(number), "says"], reason) from error
    folder = folder or path.with_suffix("")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; choose another folder with --out")
    return Study(file, cells, folder)


def run_study(
    study: Study,
    *,
    parallel: int | None = None,
    retry: bool = False,
    tell: Callable[[Counts], None] = lambda counts: None,
) -> Counts:
    """Run all cells of a study that are not finished.

    Args:
        study: From `study_of`.
        parallel: Processes at a time; by default one for each core.
        retry: Run cells again that failed.
        tell: Told now and then how far it is.

    Raises:
        InputError: the ledger is of another version, or none.
        RunFailed: a process ended though there was work for it.
        StudyInterrupted: a signal of `distvi.system.signals.ENDING` came.
    """
    with Ledger(study.folder, create=True) as ledger, Interruption() as interruption:
        ledger.put_fact("spec", study.file.text)
        ledger.put_fact("spec_path", str(study.file.path))
        ledger.put_fact("measuring", study.file.spec.measuring.model_dump(mode="json"))
        ledger.put_fact("machine", this_machine())
        ledger.enter(study.cells)
        if retry:
            ledger.forget(["failed"])
        cores, shares = _cores(), processes_of(study, parallel)
        for clock, several in (("virtual", shares), ("wall", 1)):
            processes = min(several, ledger.waiting(virtual=clock == "virtual"))
            groups = [cores[n::several] for n in range(processes)]
            with _Crew(study.folder, clock, groups) as crew:
                while crew.is_at_work() and not interruption():
                    tell(ledger.counts())
                    time.sleep(LOOK_S)
            if interruption.signum is not None:
                raise StudyInterrupted(study, interruption.signum)
            crew.check()
        counts = ledger.counts()
        tell(counts)
        return counts


def processes_of(study: Study, parallel: int | None) -> int:
    """How many processes work on cells in virtual time, if there is work for them."""
    cores = len(_cores())
    return min(parallel or cores, cores, max(1, sum(cell.is_virtual for cell in study.cells)))


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


class _Crew:
    """The processes of one kind of cells."""

    def __init__(self, folder: Path, clock: str, groups: Sequence[Sequence[int]]) -> None:
        self._folder, self._clock, self._groups = folder, clock, groups
        self._processes: list[subprocess.Popen[bytes]] = []
        self._logs: list[Path] = []
        self._stack = ExitStack()

    def __enter__(self) -> "_Crew":
        logs = self._folder / "logs"
        logs.mkdir(exist_ok=True)
        for number, cores in enumerate(self._groups):
            log = logs / f"{self._clock}-{number}.log"
            file = self._stack.enter_context(log.open("wb"))
            command = [sys.executable, "-m", "distvi.studies.worker", str(self._folder)]
            command += [self._clock, ",".join(map(str, cores))]
            started = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
            self._processes.append(started)
            self._logs.append(log)
        return self

    def is_at_work(self) -> bool:
        """Whether any of them runs."""
        return any(process.poll() is None for process in self._processes)

    def check(self) -> None:
        """See whether all of them ended well.

        Raises:
            RunFailed: one did not.
        """
        for process, log in zip(self._processes, self._logs, strict=True):
            if process.returncode:
                lines = log.read_text(errors="replace").strip().splitlines()
                said = f": {lines[-1]}" if lines else ""
                raise RunFailed(
                    f"a process of the study ended with status {process.returncode}{said}; "
                    f"see {log}, and run the study again to go on"
                )

    def __exit__(self, *exception: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        deadline_s = time.monotonic() + GRACE_S
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._stack.close()
