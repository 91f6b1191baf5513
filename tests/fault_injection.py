"""Things that happen to a process of the local engine, at a known place and once in a run.

The settings ``fault`` (where), ``once`` (a file that marks that it has happened) and ``signal``
(what happens; ``raise`` for an exception) travel with the problem into every process. For the
places see `distvi.engines.base.Built`.
"""

import os
import signal
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

_CALLS = {"writing": 1, "pushed": 1, "updating": 15, "saving": 3}
"""The call at which it happens, by place."""


def fault_of(settings: dict[str, Any]) -> Callable[[str, Sequence[np.ndarray]], None]:
    """What goes wrong in a process: half of what it was to write, and nonsense, is in its slot."""
    calls = count(1)

    def fault(point: str, targets: Sequence[np.ndarray]) -> None:
        if point != settings.get("fault"):
            return
        if next(calls) == _CALLS[point] and not Path(settings["once"]).exists():
            for target in targets[: -(-len(targets) // 2)]:
                target[...] = 77
            strike(settings)

    return fault


def strike(settings: dict[str, Any]) -> None:
    """Do it, unless it has been done."""
    try:
        Path(settings["once"]).open("x").close()
    except FileExistsError:
        return
    if settings["signal"] == "raise":
        raise ValueError("this gradient was never meant to be")
    os.kill(os.getpid(), getattr(signal, settings["signal"]))
