"""An engine that stands still, to be looked at."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from distvi.config.resolve import resolve
from distvi.engines import TrainState
from distvi.engines.base import Devices
from distvi.engines.status import EngineStatus, ServerStatus, WorkerStatus
from distvi.engines.trace import Span
from distvi.system.settings import write_toml

METRICS = {"error_rate": 0.0281, "mnll": 0.0913, "ece": 0.01}
STATES = ("computing", "waiting", "starting", "gone", "dismissed")
STATISTICS: dict[str, Any] = {
    "clock": "wall",
    "workers": 1,
    "servers": 0,
    "scheme": "sync",
    "gradients_used": 612,
    "gradients_refused": 0,
    "examples": 2448,
    "staleness": {"histogram": {"0": 612}},
    "bytes": {"pushed": 0, "pulled": 0},
}


class Bare:
    """An engine without processes."""

    deterministic = True
    compile_time_s = waiting_s = 0.0
    update, examples = 612, 2448
    state = TrainState({}, ())

    def __init__(self) -> None:
        self.counters: dict[str, Any] = {}
        self.params: Any = {}
        self.statistics = STATISTICS
        self.devices: Devices = []

    def now_s(self) -> float:
        return 0.0

    def advance(self, until: int, interrupted: Any = None) -> np.ndarray:
        return np.zeros(0, np.float32)

    def __enter__(self) -> "Bare":
        return self

    def __exit__(self, *exception: object) -> None: ...


class Scene(Bare):
    """An engine with processes; each worker has computed ``gradients`` gradients lately."""

    def __init__(self, workers: int = 2, servers: int = 1, gradients: int = 3) -> None:
        super().__init__()
        histogram = {"0": 100, "1": 500, "2": 12}
        self.statistics = STATISTICS | {
            "workers": workers,
            "servers": servers,
            "scheme": "async",
            "gradients_refused": 4,
            "staleness": {"histogram": histogram},
        }
        spans = [
            Span("worker", n, what, at + begin, at + begin + 0.5, at)
            for at in range(gradients)
            for n in range(workers)
            for what, begin in (("pull", 0.0), ("compute", 0.5))
        ]
        for n in range(servers):
            spans += [
                Span("server", n, "save", 0.8, 0.9, 0),
                Span("server", n, "apply", 1, 1.25, 0),
            ]
        self.now = EngineStatus(
            tuple(
                WorkerStatus(n, STATES[n % 5], 100 + n, 1204 - 3 * n, n % 4, int(n == 1), 12.0)
                for n in range(workers)
            ),
            tuple(
                ServerStatus(n, 2_210_304, "ready", 90 + n, 612, 0, 1.5, 5_410_824_192)
                for n in range(servers)
            ),
            tuple(spans),
        )

    def status(self) -> EngineStatus:
        return deepcopy(self.now)


def run_folder(path: Path, dataset: str = "digits") -> Path:
    """A folder with the configuration of a run, and no more."""
    path.mkdir()
    (path / "run.toml").write_text(write_toml(resolve(dataset).model_dump()))
    return path
