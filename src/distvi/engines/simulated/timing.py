"""A scheme on a cluster in time alone: the whole protocol, no gradients."""

from typing import Any, NamedTuple

from distvi.engines.simulated.cluster import Cluster
from distvi.engines.statistics import Record, describe_staleness
from distvi.protocol import Outcome, Rules, drive


class Timing(NamedTuple):
    """What came of it; times are virtual.

    Attributes:
        time_s: Length of the run.
        updates: Made.
        gradients: Used in updates.
        gradients_refused: Arrived and not used.
        gradients_cancelled: Abandoned.
        examples_per_s: In updates.
        staleness: See `describe_staleness`.
        worker_idle_fraction: Share of the workers' time in which they did not compute.
        server_receiving: Share of the time that each server's interface was receiving.
        server_sending: The same for sending.
        server_applying: Share of the time that each server computed updates.
        largest_server_share: Share of the bytes on the fullest server.
        failure: Why the run ended early; empty where it did not.
    """

    time_s: float
    updates: int
    gradients: int
    gradients_refused: int
    gradients_cancelled: int
    examples_per_s: float
    staleness: dict[str, Any]
    worker_idle_fraction: float
    server_receiving: tuple[float, ...]
    server_sending: tuple[float, ...]
    server_applying: tuple[float, ...]
    largest_server_share: float
    failure: str


def time_rules(rules: Rules, cluster: Cluster) -> Timing:
    """Run rules with a limit on a cluster until it is reached, or nothing can happen any more."""
    record, reasons = Record(), []
    state = drive(
        rules, cluster, observers=(record, lambda *seen: reasons.extend(_reason(seen[3])))
    )
    now_s, servers = cluster.now_s, cluster.servers
    span_s = now_s or 1.0
    sizes = [server.part_bytes for server in servers]
    return Timing(
        time_s=now_s,
        updates=state.version,
        gradients=record.used,
        gradients_refused=record.refused,
        gradients_cancelled=record.cancelled,
        examples_per_s=state.examples / span_s,
        staleness=describe_staleness(record.staleness),
        worker_idle_fraction=1 - cluster.computing_s / (cluster.present_s or 1.0),
        server_receiving=tuple(s.receives.busy_until_s(now_s) / span_s for s in servers),
        server_sending=tuple(s.sends.busy_until_s(now_s) / span_s for s in servers),
        server_applying=tuple(
            (s.applying_s - max(0.0, s.ready_s - now_s)) / span_s for s in servers
        ),
        largest_server_share=max(sizes) / sum(sizes),
        failure="" if state.outcome is Outcome.DONE else "; ".join(reasons),
    )


def _reason(commands: tuple[Any, ...]) -> list[str]:
    return [command.reason for command in commands if type(command).__name__ == "Stop"]
