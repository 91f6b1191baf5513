"""Who is told how a run goes."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from distvi.engines.base import Engine
from distvi.engines.status import EngineStatus


@runtime_checkable
class Watchable(Protocol):
    """An engine whose workers and servers can be looked at from any thread while it trains."""

    def status(self) -> EngineStatus:
        """What they do at this moment, and did lately."""
        ...


@runtime_checkable
class Progress(Protocol):
    """Who is told how a run goes; a context that lasts as long as the training does."""

    def __enter__(self) -> "Progress": ...

    def __exit__(self, *exception: object) -> None: ...

    def described(self, lines: Sequence[str]) -> None:
        """What is to be learnt from which data; comes first, before the context is entered."""

    def attached(self, engine: Engine) -> None:
        """Here is what trains; one that is `Watchable` may be asked at any time until the exit."""

    def started(self, run: Path, update: int, updates: int) -> None:
        """Training begins, or goes on, after ``update`` of ``updates``."""

    def reported(self, update: int, neg_elbo: float, training_time_s: float) -> None:
        """The mean negative ELBO per example since the last report, in nats."""

    def tested(self, update: int, metrics: Mapping[str, float]) -> None:
        """Metrics of the test part."""

    def warned(self, message: str) -> None:
        """Something went wrong, and training goes on."""

    def finished(self, run: Path, summary: Mapping[str, Any]) -> None:
        """All updates are made and the folder is complete."""


class Silent(Progress):
    """Tells nobody, unless something goes wrong: that is a Python warning."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def warned(self, message: str) -> None:
        """Warn as Python does."""
        warnings.warn(message, RuntimeWarning, stacklevel=2)


class Callbacks(Progress):
    """Several who are told, in this order.

    Args:
        members: Such as ``Lines()`` and a `distvi.dashboard.Dashboard`.
    """

    def __init__(self, *members: Progress) -> None:
        self.members = members

    def __enter__(self) -> "Callbacks":
        with ExitStack() as stack:
            for member in self.members:
                stack.enter_context(member)
            self._contexts = stack.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._contexts.__exit__(*exception)

    def described(self, lines: Sequence[str]) -> None:
        """Tell all."""
        for member in self.members:
            member.described(lines)

    def attached(self, engine: Engine) -> None:
        """Tell all."""
        for member in self.members:
            member.attached(engine)

    def started(self, run: Path, update: int, updates: int) -> None:
        """Tell all."""
        for member in self.members:
            member.started(run, update, updates)

    def reported(self, update: int, neg_elbo: float, training_time_s: float) -> None:
        """Tell all."""
        for member in self.members:
            member.reported(update, neg_elbo, training_time_s)

    def tested(self, update: int, metrics: Mapping[str, float]) -> None:
        """Tell all."""
        for member in self.members:
            member.tested(update, metrics)

    def warned(self, message: str) -> None:
        """Tell all."""
        for member in self.members:
            member.warned(message)

    def finished(self, run: Path, summary: Mapping[str, Any]) -> None:
        """Tell all."""
        for member in self.members:
            member.finished(run, summary)
