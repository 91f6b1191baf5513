"""What a run of the protocol did with its gradients, counted from its events and commands."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from distvi.algorithms.base import Algorithm
from distvi.parameters import Placement, Shards
from distvi.protocol import Cancel, Command, Commit, Event, Free, GradientArrived, State


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


class Traffic(NamedTuple):
    """What travels between a worker and the servers, in bytes.

    Attributes:
        pushed: To each server, of a payload.
        pulled: From each server, of the parameters.
    """

    pushed: tuple[int, ...]
    pulled: tuple[int, ...]


def traffic_of(shards: Shards, algorithm: Algorithm) -> Traffic:
    """What the rule of the workers has them push, and what they pull."""
    return Traffic(shards.pushed_bytes(algorithm.worker.wire), shards.placement.bytes)


def summary_fields(
    record: Record,
    algorithm: Algorithm,
    placement: Placement,
    traffic: Traffic,
    counters: Mapping[str, Any],
    batch_size: int,
) -> dict[str, Any]:
    """What the parameter servers of every engine say of themselves in summary.json.

    Args:
        record: Of the contributions.
        algorithm: Where they come from, and how they become updates.
        placement: What each server holds.
        traffic: What travels for each of them.
        counters: Payloads ``pushed``, parameters ``pulled``; ``memories_lost`` of workers.
        batch_size: Examples in a batch.
    """
    scheme, worker = algorithm.scheme, algorithm.worker
    fields = {
        "scheme": scheme.name,
        "in_flight": scheme.pacing.in_flight,
        "servers": len(placement.shards),
        "placement": placement.name,
        "gradients_used": record.used,
        "gradients_refused": record.refused,
        "gradients_cancelled": record.cancelled,
        "examples": record.used * batch_size * worker.batches,
        "staleness": describe_staleness(record.staleness),
        "bytes": {
            "pushed": counters["pushed"] * sum(traffic.pushed),
            "pulled": counters["pulled"] * sum(traffic.pulled),
            "largest_server_share": placement.largest_share,
        },
    }
    return fields | (
        {"memories_lost": counters["memories_lost"]} if "memories_lost" in counters else {}
    )


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
