"""Processes that this one starts, and that do not outlive it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from distvi.system.signals import ENDING

# It asks the kernel to end it with the main process, even while it is stopped, before the imports
# that take their time; and looks whether that has ended already. 1 is PR_SET_PDEATHSIG.
_PROGRAM = """
import ctypes, os, signal, sys
for ending in sys.argv[4].split(","):  # a whole group may hear of it, but
    signal.signal(int(ending), signal.SIG_IGN)  # the main process decides when to end
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[2]):
    os._exit(1)
from importlib import import_module
import_module(sys.argv[3]).main()
"""

_ENDING = ",".join(str(int(number)) for number in ENDING)


class Child(NamedTuple):
    """A process, and a connection to it whose descriptor is its first argument."""

    process: subprocess.Popen[bytes]
    connection: Connection


def start_child(
    module: str,
    environment: Mapping[str, str],
    log: Path | None,
    descriptors: Collection[int] = (),
    *,
    quiet: bool = True,
) -> Child:
    """Start a process that runs ``main()`` of a module.

    Args:
        module: Its name.
        environment: What it finds beside this process's environment.
        log: Where it writes what it prints.
        descriptors: Files that it is to have open.
        quiet: Whether what it prints goes nowhere if there is no log, or where this process's goes.

    Raises:
        OSError: the system has no room for another process, or the log cannot be opened.
    """
    ours, theirs = Pipe()
    output = None
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.open("ab")
    elsewhere = subprocess.DEVNULL if quiet else None
    try:
        with theirs:
            process = subprocess.Popen(
                # -P: the working folder's modules are none of ours, unless our path says so
                [
                    *(sys.executable, "-P", "-c", _PROGRAM),
                    *(str(theirs.fileno()), str(os.getpid()), module, _ENDING),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output or elsewhere,
                stderr=output or elsewhere,
                env={**os.environ, **environment, "PYTHONPATH": _module_path()},
                pass_fds=[theirs.fileno(), *descriptors],
                start_new_session=True,  # the terminal's Ctrl-C is for the main process
            )
    finally:
        if output is not None:
            output.close()
    return Child(process, ours)


def tell(connection: Connection, order: Any) -> None:
    """Tell a process what it is to do, as JSON; one that has died does not hear it."""
    try:
        connection.send_bytes(json.dumps(order).encode())
    except OSError:
        return


def how_it_ended(name: str, process: subprocess.Popen[bytes]) -> str:
    """In words, of a process that has ended."""
    status = process.wait()
    how = f"ended with status {status}" if status >= 0 else f"was killed by {_signal(-status)}"
    return f"{name} (process {process.pid}) {how}"


def see(log: Path | None) -> str:
    """The end of a message about a process: where it said more, if it did."""
    if log is None or not log.exists() or not log.stat().st_size:
        return ""
    return f"; see {log}"


def _module_path() -> str:
    """Where this process finds modules; what it can import, its children can."""
    return os.pathsep.join(entry or os.getcwd() for entry in sys.path)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
