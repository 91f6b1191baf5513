"""What the settings of engines have in common; each engine has its own in its folder.

The command line reads these modules for its help, so none of them imports JAX or NumPy.
"""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from pydantic import Field

from distvi.aggregation.liveness import check_liveness
from distvi.protocol import Scheme
from distvi.system.settings import KindSettings

NONFINITE_LIMIT = 20
"""Contributions in a row that are not finite, of each worker, after which a run has failed."""


class EngineSettings(KindSettings):
    """Of any engine."""

    schemes: ClassVar[Collection[str] | None] = None
    """The schemes that the engine can do; None: all."""

    workers: int | None = Field(default=None, gt=0, description="How many compute gradients.")

    @property
    def answering(self) -> int:
        """Workers that answer requests by themselves, each with a memory of its own."""
        return self.workers or 1

    def written_out(self) -> "EngineSettings":
        """With every default that depends on the machine written out; checked against it.

        Raises:
            InputError: the machine cannot do it.
        """
        return self

    def scheme_defaults(self, scheme: str) -> Mapping[str, Any]:
        """Options that this engine gives a scheme where the user gives none, by its name."""
        return {}

    def contributions_per_update(self, scheme: Scheme) -> int:
        """While all workers are equally fast.

        Raises:
            InputError: the scheme can make no update with these workers.
        """
        return 1

    def requests_per_update(self, scheme: Scheme) -> float:
        """That a worker answers, in the mean."""
        return 1.0


class ParameterServerSettings(EngineSettings):
    """Of an engine with workers and parameter servers that the protocol drives."""

    default_workers: ClassVar[int]

    servers: int | None = Field(default=None, gt=0, description="Parameter servers (default: 1).")
    placement: str = Field(
        default="ranges",
        description="What each server holds: ranges, round-robin or greedy (whole tensors).",
    )
    nonfinite_limit: int | None = Field(
        default=None,
        gt=0,
        description="Gradients in a row that are not finite, that end the run (20 per worker).",
    )
    journal: bool = Field(default=False, description="Write the protocol's events: journal.jsonl.")
    trace: bool = Field(default=False, description="Write a timeline for Perfetto: trace.json.")

    def written_out(self) -> EngineSettings:
        """See `EngineSettings.written_out`."""
        workers = self.workers or self.default_workers
        settled = {
            "workers": workers,
            "servers": self.servers or 1,
            "nonfinite_limit": self.nonfinite_limit or NONFINITE_LIMIT * workers,
        }
        return self.model_copy(update=settled)

    def contributions_per_update(self, scheme: Scheme) -> int:
        """See `EngineSettings.contributions_per_update`."""
        return check_liveness(scheme, self.workers or self.default_workers)

    def requests_per_update(self, scheme: Scheme) -> float:
        """See `EngineSettings.requests_per_update`."""
        return self.contributions_per_update(scheme) / (self.workers or self.default_workers)
