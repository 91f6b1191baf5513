"""A cluster in virtual time, driven by the protocol; with gradients computed for real."""

from distvi.engines.simulated.cluster import Cluster
from distvi.engines.simulated.engine import SimulatedEngine
from distvi.engines.simulated.settings import (
    CLUSTERS,
    ClusterSettings,
    cluster_named,
    cluster_of,
)
from distvi.engines.simulated.timeline import NO_TIMELINE, Span, Timeline, perfetto
from distvi.engines.simulated.timing import Timing, time_rules

__all__ = [
    "CLUSTERS",
    "NO_TIMELINE",
    "Cluster",
    "ClusterSettings",
    "SimulatedEngine",
    "Span",
    "Timeline",
    "Timing",
    "cluster_named",
    "cluster_of",
    "perfetto",
    "time_rules",
]
