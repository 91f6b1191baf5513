"""The settings of the engine of JAX devices."""

from collections.abc import Collection
from typing import Any, ClassVar, Literal

from pydantic import Field

from distvi.engines.coordinator.environment import gpus
from distvi.engines.mesh.address import hosts_of
from distvi.engines.settings import EngineSettings
from distvi.errors import InputError


class MeshSettings(EngineSettings):
    """The JAX devices of this process, or of processes on several hosts."""

    schemes: ClassVar[Collection[str] | None] = ("sync",)

    kind: str = "mesh"
    workers: int | None = Field(
        default=None, gt=0, description="Devices that share a batch (default: all)."
    )
    data_on_device: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Keep the training set in the device's memory; auto: on GPU and TPU.",
    )
    hosts: str | None = Field(
        default=None,
        description="A process on each of these hosts, where the same command is given: "
        "HOST:PORT,HOST,...; the first writes the run folder; auto: as SLURM or MPI say.",
    )
    host: int | None = Field(
        default=None,
        ge=0,
        description="Which of the hosts this is, from 0 (default: told by its addresses).",
    )
    silence_s: float = Field(
        default=10.0, gt=0, description="A process that gives no sign of life for longer is lost."
    )
    worker_timeout_s: float = Field(
        default=60.0, gt=0, description="If hosts make no update for longer, all begin anew."
    )
    max_restarts: int = Field(
        default=16, ge=0, description="Times that all hosts begin anew because one was lost."
    )

    def written_out(self) -> EngineSettings:
        """See `distvi.engines.settings.EngineSettings.written_out`."""
        if self.hosts is None:
            if self.host is not None:
                raise InputError(f"host is {self.host}, but no hosts are named: --hosts HOST,HOST")
            from distvi.engines.mesh.devices import devices  # loads JAX, which settles how many

            return self.model_copy(update={"workers": len(devices(self.workers))})
        found = hosts_of(self.hosts, self.host)
        workers = self.workers or found.processes * max(1, len(gpus()) // len(found.own))
        if workers % found.processes:
            raise InputError(
                f"workers is {workers}, which cannot be spread evenly over {found.processes} "
                f"processes; choose a multiple of {found.processes}"
            )
        return self.model_copy(update={"workers": workers})

    @property
    def leads(self) -> bool:
        """See `distvi.engines.settings.EngineSettings.leads`."""
        return self.hosts is None or hosts_of(self.hosts, self.host).leads

    def assist(self, examples: Any) -> None:
        """See `distvi.engines.settings.EngineSettings.assist`."""
        from distvi.engines.mesh.hosts.assist import assist  # loads JAX

        assert self.hosts is not None
        assist(hosts_of(self.hosts, self.host), self.silence_s, examples)
