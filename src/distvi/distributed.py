"""From the engine's settings to a parameter server that trains, checked before anything runs."""

from dataclasses import dataclass
from typing import Any

from distvi.aggregation import check_progress, scheme_named
from distvi.config import EngineSettings
from distvi.engines import Problem
from distvi.engines.simulated import (
    NO_TIMELINE,
    Cluster,
    ClusterSettings,
    SimulatedEngine,
    Timeline,
    cluster_named,
)
from distvi.parameters import Layout, layout_of, make_shards, place
from distvi.protocol import Rules, Scheme

DEFAULT_WORKERS, DEFAULT_SERVERS = 4, 1

UNUSABLE_LIMIT = 20
"""Gradients in a row that are not finite, of each worker, after which a run has failed."""


@dataclass(frozen=True, eq=False)
class Simulation:
    """A simulated cluster to train on.

    Attributes:
        settings: With every default written out.
        scheme: How workers and updates are kept in step.
        cluster: What everything costs.
        gradients_per_update: While all workers are equally fast.
    """

    settings: EngineSettings
    scheme: Scheme
    cluster: ClusterSettings
    gradients_per_update: int

    @property
    def workers(self) -> int:
        """How many begin."""
        assert self.settings.workers is not None
        return self.settings.workers

    @property
    def servers(self) -> int:
        """How many share the parameters."""
        assert self.settings.servers is not None
        return self.settings.servers


def prepare_simulation(settings: EngineSettings) -> Simulation:
    """The simulation that settings describe.

    Raises:
        InputError: an unknown scheme or cluster, or a scheme that could make no progress.
    """
    workers = settings.workers or DEFAULT_WORKERS
    servers = DEFAULT_SERVERS if settings.servers is None else settings.servers
    scheme = scheme_named(settings.scheme, workers, settings.scheme_options)
    return Simulation(
        settings=settings.model_copy(update={"workers": workers, "servers": servers}),
        scheme=scheme,
        cluster=cluster_named(settings.cluster),
        gradients_per_update=check_progress(scheme, workers),
    )


def simulated_engine(
    simulation: Simulation,
    problem: Problem,
    params: Any,
    *,
    last: int,
    seed: int,
    opt_state: Any = None,
    update: int = 0,
    counts: dict[str, Any] | None = None,
    start_s: float = 0.0,
) -> SimulatedEngine:
    """An engine on a simulated cluster.

    Args:
        simulation: Workers, servers, scheme, costs.
        problem: What to optimize.
        params: Parameters to start from.
        last: Updates of the whole run.
        seed: Of all times that are drawn.
        opt_state: Of the unsharded optimizer, to go on from.
        update: Updates that have been made already.
        counts: Of the engine that made them.
        start_s: Virtual time of them.

    Raises:
        InputError: there are more servers than parameters, or the optimizer cannot work on them
            in parts.
    """
    layout = layout_of(params)
    placement = place(simulation.settings.placement, tensor_sizes(layout), simulation.servers)
    shards = make_shards(layout, placement, problem.optimizer, problem.hold_until)
    timeline = Timeline() if simulation.settings.trace else NO_TIMELINE
    cluster = Cluster(
        simulation.cluster,
        simulation.workers,
        placement.bytes,
        problem.batch_size,
        f"{seed}" if not update else f"{seed}, resumed at {update}",
        timeline=timeline,
        start_s=start_s,
    )
    rules = Rules(
        simulation.scheme, updates=last, unusable_limit=UNUSABLE_LIMIT * simulation.workers
    )
    return SimulatedEngine(
        problem, params, rules, cluster, shards, opt_state=opt_state, update=update, counts=counts
    )


def tensor_sizes(layout: Layout) -> list[int]:
    """Entries of each tensor."""
    return [tensor.stop - tensor.start for tensor in layout.tensors]
