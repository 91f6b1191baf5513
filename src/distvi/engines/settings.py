"""What the settings of engines have in common; each engine has its own in its folder.

The command line reads these modules for its help, so none of them imports JAX or NumPy.
"""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from pydantic import Field

from distvi.aggregation.liveness import check_liveness, mean_staleness
from distvi.protocol import Scheme
from distvi.system.settings import KindSettings

NONFINITE_LIMIT = 20
"""Contributions in a row that are not finite, of each worker, after which a run has failed."""


class EngineSettings(KindSettings):
    """Of any engine."""

    schemes: ClassVar[Collection[str] | None] = None
    """The schemes that the engine can do; None: all."""

    workers: int | None = Field(default=None, gt=0, description="How many compute gradients.")

    def written_out(self) -> "EngineSettings":
        """With every default that depends on the machine written out; checked against it.

        Raises:
            InputError: the machine cannot do it.
        """
        return self

    @property
    def leads(self) -> bool:
        """Whether the run is this command's, and not that of another host, which this one assists.

        Raises:
            InputError: that cannot be told.
        """
        return True

    def assist(self, examples: Any) -> None:
        """Compute for the command that leads, until its run is over.

        Args:
            examples: The training set, a `distvi.engines.base.Examples`.

        Raises:
            RunFailed: the run has failed, or cannot be reached.
            KeyboardInterrupt: a signal came.
        """
        raise AssertionError(f"engine {self.kind!r} has one command alone")

    def scheme_defaults(self, scheme: str) -> Mapping[str, Any]:
        """Options that this engine gives a scheme where the user gives none, by its name."""
        return {}

    @property
    def contributors(self) -> int:
        """Workers that answer requests, each by itself."""
        return 1

    def contributions_per_update(self, scheme: Scheme) -> int:
        """While all workers are equally fast.

        Raises:
            InputError: the scheme can make no update with these workers.
        """
        return 1

    def requests_per_update(self, scheme: Scheme) -> float:
        """That a worker answers, in the mean."""
        return 1.0

    def mean_staleness(self, scheme: Scheme) -> float:
        """Of a gradient, in updates, while all workers are equally fast."""
        return 0.0


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

    @property
    def contributors(self) -> int:
        """See `EngineSettings.contributors`."""
        return self.workers or self.default_workers

    def contributions_per_update(self, scheme: Scheme) -> int:
        """See `EngineSettings.contributions_per_update`."""
        return check_liveness(scheme, self.contributors)

    def requests_per_update(self, scheme: Scheme) -> float:
        """See `EngineSettings.requests_per_update`."""
        return self.contributions_per_update(scheme) / self.contributors

    def mean_staleness(self, scheme: Scheme) -> float:
        """See `EngineSettings.mean_staleness`."""
        return mean_staleness(scheme, self.contributors)


class ProcessSettings(ParameterServerSettings):
    """Of an engine whose workers and servers are processes."""

    default_workers: ClassVar[int] = 2

    workers: int | None = Field(default=None, gt=0, description="Worker processes (default: 2).")
    worker_timeout_s: float = Field(
        default=60.0,
        gt=0,
        description="A worker that owes an answer for longer is given up until it comes.",
    )
    max_restarts: int = Field(
        default=16, ge=0, description="Processes that were lost and are replaced, in all."
    )

    def scheme_defaults(self, scheme: str) -> Mapping[str, Any]:
        """An asynchronous worker is pointed to its next parameters while it computes.

        So it never waits for its own update (docs/decisions/0200-local-engine.md).
        """
        workers = self.workers or self.default_workers
        return {"in_flight": 2} if scheme == "async" and workers > 1 else {}
