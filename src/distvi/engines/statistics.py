"""What a run of the protocol did with its gradients, counted from its events and commands."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from distvi.parameters import Placement
from distvi.protocol import Cancel, Command, Commit, Event, Free, GradientArrived, Scheme, State


class Record:
    """An observer of `distvi.protocol.drive` that counts.

    Args:
        before: What `as_json` said in an earlier part of the same run.
    """

    def __init__(self, before: Mapping[str, Any] | None = None) -> None:
        before = before or {}
        histogram = before.get("staleness", {})
        self.staleness = Counter({int(tau): number for tau, number in histogram.items()})
        self.arrived = int(before.get("arrived", 0))
        self.refused = int(before.get("refused", 0))
        self.cancelled = int(before.get("cancelled", 0))

    def __call__(
        self, now_s: float, event: Event, state: State, commands: tuple[Command, ...]
    ) -> None:
        """Take notice of one event."""
        self.arrived += isinstance(event, GradientArrived)
        for command in commands:
            if isinstance(command, Commit):
                self.staleness.update(command.staleness())
            elif isinstance(command, Free):
                self.refused += 1
            elif isinstance(command, Cancel):
                self.cancelled += 1

    def take_back(self, commits: Iterable[Commit]) -> None:
        """Updates that could not be made after all."""
        for commit in commits:
            self.staleness.subtract(commit.staleness())

    @property
    def used(self) -> int:
        """Gradients in updates."""
        return self.staleness.total()

    def as_json(self) -> dict[str, Any]:
        """All counts, as the argument ``before`` takes them."""
        histogram = {str(tau): number for tau, number in sorted(self.staleness.items())}
        return {
            "staleness": histogram,
            "arrived": self.arrived,
            "refused": self.refused,
            "cancelled": self.cancelled,
        }


def summary_fields(
    record: Record,
    scheme: Scheme,
    placement: Placement,
    counts: Mapping[str, Any],
    batch_size: int,
) -> dict[str, Any]:
    """What the parameter servers of every engine say of themselves in summary.json.

    Args:
        record: Of the gradients.
        scheme: How they become updates.
        placement: What each server holds.
        counts: Gradients ``pushed`` and parameters ``pulled``.
        batch_size: Examples in a gradient.
    """
    return {
        "scheme": scheme.name,
        "in_flight": scheme.pacing.in_flight,
        "servers": len(placement.shards),
        "placement": placement.name,
        "gradients_used": record.used,
        "gradients_refused": record.refused,
        "gradients_cancelled": record.cancelled,
        "examples": record.used * batch_size,
        "staleness": describe_staleness(record.staleness),
        "bytes": {
            "pushed": counts["pushed"] * sum(placement.bytes),
            "pulled": counts["pulled"] * sum(placement.bytes),
            "largest_server_share": placement.largest_share,
        },
    }


def describe_staleness(histogram: Mapping[int, int]) -> dict[str, Any]:
    """Mean, quantiles and maximum of a histogram, and itself; in updates.

    Example:
        >>> describe_staleness({0: 1, 2: 3})["mean"]
        1.5
    """
    total = sum(histogram.values())
    values = sorted(histogram.items())

    def quantile(share: float) -> int:
        seen = 0
        for tau, number in values:
            seen += number
            if seen >= share * total:
                return tau
        return 0

    return {
        "mean": sum(tau * number for tau, number in values) / total if total else 0.0,
        "p50": quantile(0.5),
        "p99": quantile(0.99),
        "max": values[-1][0] if values else 0,
        "histogram": {str(tau): number for tau, number in values},
    }
