"""The settings of the engine of processes."""

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from distvi.engines.coordinator.environment import cores
from distvi.engines.settings import EngineSettings, ParameterServerSettings
from distvi.errors import InputError

PROCESSES_PER_CORE = 16
"""More would do nothing but wait for one another."""


class LocalSettings(ParameterServerSettings):
    """Worker and server processes of this machine."""

    default_workers: ClassVar[int] = 2

    kind: str = "local"
    workers: int | None = Field(default=None, gt=0, description="Worker processes (default: 2).")
    pin: bool = Field(default=True, description="A core for each worker, where there are enough.")
    worker_timeout_s: float = Field(
        default=60.0,
        gt=0,
        description="A worker that is silent for longer is given up until it wakes.",
    )
    max_restarts: int = Field(
        default=16, ge=0, description="Processes that died and are replaced, in all."
    )

    def written_out(self) -> EngineSettings:
        """See `distvi.engines.settings.EngineSettings.written_out`."""
        settled = super().written_out()
        if os.name != "posix":
            raise InputError("engine 'local' needs Linux or macOS; use --engine mesh")
        most = PROCESSES_PER_CORE * len(cores())
        for name in ("workers", "servers"):
            if (number := getattr(settled, name)) > most:
                raise InputError(
                    f"{name} is {number}, but this machine has {len(cores())} cores: start at most "
                    f"{most} processes, or use --engine simulated"
                )
        return settled

    def scheme_defaults(self, scheme: str) -> Mapping[str, Any]:
        """An asynchronous worker is pointed to its next parameters while it computes.

        So it never waits for its own update (docs/decisions/0200-local-engine.md).
        """
        workers = self.workers or self.default_workers
        return {"in_flight": 2} if scheme == "async" and workers > 1 else {}
