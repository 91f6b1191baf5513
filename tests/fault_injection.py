"""Things that happen to a process of the local engine, at a known place and once in a run.

The settings ``fault`` (where), ``once`` (a file that marks that it has happened) and ``signal``
(what happens; ``raise`` for an exception) travel with the problem into every process.
"""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np

from distvi.engines.coordinator.messages import Computed
from distvi.engines.local import server, worker


def prepare(settings: dict[str, Any]) -> None:
    """Lay the fault in this process, if it is a worker or a server."""
    faults = {"writing": _writing, "pushed": _pushed, "updating": _updating, "saving": _saving}
    if settings.get("fault") in faults:
        faults[settings["fault"]](settings)


def strike(settings: dict[str, Any]) -> None:
    """Do it, unless it has been done."""
    try:
        Path(settings["once"]).open("x").close()
    except FileExistsError:
        return
    if settings["signal"] == "raise":
        raise ValueError("this gradient was never meant to be")
    os.kill(os.getpid(), getattr(signal, settings["signal"]))


def _writing(settings: dict[str, Any]) -> None:
    """When half of a gradient, and nonsense, is in its slot."""
    push = worker.push

    def half(gradient: list[np.ndarray], slot: np.ndarray) -> bool:
        if not Path(settings["once"]).exists():
            slot[: len(slot) // 2] = np.nan
        strike(settings)
        return push(gradient, slot)

    worker.push = half


def _pushed(settings: dict[str, Any]) -> None:
    """When the gradient has been delivered."""
    send = worker.send

    def and_die(connection: Any, message: Any) -> None:
        send(connection, message)
        if isinstance(message, Computed):
            strike(settings)

    worker.send = and_die


def _updating(settings: dict[str, Any]) -> None:
    """When a part of an update, and nonsense, is in its slot."""
    _storing(settings, "apply", 15)


def _saving(settings: dict[str, Any]) -> None:
    """When a part of the optimizer's state, and nonsense, is in its slot."""
    _storing(settings, "save", 3)


def _storing(settings: dict[str, Any], what: str, call: int) -> None:
    method, store, done = getattr(server.ShardServer, what), server.store, [0]

    def half(results: list[Any], targets: list[np.ndarray]) -> None:
        if done[0] == call and not Path(settings["once"]).exists():
            targets[-1][...] = 77
            strike(settings)
        store(results, targets)

    def counted(part: server.ShardServer, message: Any) -> None:
        done[0] += 1
        server.store = half
        method(part, message)
        server.store = store

    setattr(server.ShardServer, what, counted)
