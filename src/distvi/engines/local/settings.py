"""The settings of the engine of processes."""

import os

from pydantic import Field

from distvi.engines.coordinator.environment import cores
from distvi.engines.settings import EngineSettings, ProcessSettings
from distvi.errors import InputError

PROCESSES_PER_CORE = 16
"""More would do nothing but wait for one another."""


class LocalSettings(ProcessSettings):
    """Worker and server processes of this machine."""

    kind: str = "local"
    pin: bool = Field(default=True, description="A core for each worker, where there are enough.")

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
