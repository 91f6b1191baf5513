"""The settings of the engine of JAX devices."""

from collections.abc import Collection
from typing import ClassVar, Literal

from pydantic import Field

from distvi.engines.settings import EngineSettings


class MeshSettings(EngineSettings):
    """The JAX devices of this process."""

    schemes: ClassVar[Collection[str] | None] = ("sync",)

    kind: str = "mesh"
    workers: int | None = Field(
        default=None, gt=0, description="Devices that share a batch (default: all)."
    )
    data_on_device: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Keep the training set in the device's memory; auto: on GPU and TPU.",
    )

    @property
    def answering(self) -> int:
        """One worker, over whose devices a batch is cut; it has all examples for its share."""
        return 1

    def written_out(self) -> EngineSettings:
        """See `distvi.engines.settings.EngineSettings.written_out`."""
        from distvi.engines.mesh.devices import devices  # imports JAX, which settles how many

        return self.model_copy(update={"workers": len(devices(self.workers))})
