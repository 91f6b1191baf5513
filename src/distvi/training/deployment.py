"""From the engine's settings to a parameter server that trains, checked before anything runs."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from distvi.aggregation import check_liveness, scheme_named
from distvi.config.run import EngineSettings
from distvi.engines import Problem
from distvi.engines.local import Limits, LocalEngine, Processes, Recipe, cores
from distvi.engines.simulated import (
    NO_TIMELINE,
    Cluster,
    ClusterSettings,
    SimulatedEngine,
    Timeline,
    cluster_named,
)
from distvi.errors import InputError
from distvi.parameters import layout_of, make_shards, place
from distvi.protocol import Rules, Scheme
from distvi.system.compilation_cache import compilation_cache

DEFAULT_WORKERS = {"local": 2, "simulated": 4}
DEFAULT_SERVERS = 1

PROCESSES_PER_CORE = 16
"""Of the engine `local`: more would do nothing but wait for one another."""

AHEAD = {"async": 2}
"""Orders that each of several workers of the engine `local` has at a time, by scheme: it is pointed
to its next parameters while it computes, and so never waits for its own update."""

UNUSABLE_LIMIT = 20
"""Gradients in a row that are not finite, of each worker, after which a run has failed."""


@dataclass(frozen=True, eq=False)
class Deployment:
    """A parameter server: its processes, real or simulated, and how they are kept in step.

    Attributes:
        settings: With every default written out.
        scheme: How workers and updates are kept in step.
        cluster: What everything costs, where it is simulated.
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

    def rules(self, last: int) -> Rules:
        """What the protocol is told of a run with so many updates."""
        settings = self.settings
        is_local = settings.engine == "local"
        return Rules(
            self.scheme,
            updates=last,
            worker_timeout_s=settings.worker_timeout_s if is_local else None,
            nonfinite_limit=settings.nonfinite_limit,
        )


def prepare_deployment(settings: EngineSettings) -> Deployment:
    """The parameter server that settings describe.

    Raises:
        InputError: an unknown scheme or cluster, a scheme that could make no progress, or a
            system on which processes cannot share memory.
    """
    workers = settings.workers or DEFAULT_WORKERS[settings.engine]
    servers = DEFAULT_SERVERS if settings.servers is None else settings.servers
    limit = settings.nonfinite_limit or UNUSABLE_LIMIT * workers
    options = settings.scheme_options
    if settings.engine == "local":
        _check_machine(workers, servers)
        if workers > 1 and settings.scheme in AHEAD:
            options = {"in_flight": AHEAD[settings.scheme], **options}
    scheme = scheme_named(settings.scheme, workers, options)
    written_out = {"workers": workers, "servers": servers, "nonfinite_limit": limit}
    return Deployment(
        settings=settings.model_copy(update=written_out),
        scheme=scheme,
        cluster=cluster_named(settings.cluster),
        gradients_per_update=check_liveness(scheme, workers),
    )


def _check_machine(workers: int, servers: int) -> None:
    if os.name != "posix":
        raise InputError("engine 'local' needs Linux or macOS; use --engine mesh")
    most = PROCESSES_PER_CORE * len(cores())
    for name, number in (("workers", workers), ("servers", servers)):
        if number > most:
            raise InputError(
                f"{name} is {number}, but this machine has {len(cores())} cores: start at most "
                f"{most} processes, or use --engine simulated"
            )


def simulated_engine(
    deployment: Deployment,
    problem: Problem,
    params: Any,
    *,
    last: int,
    seed: int,
    opt_state: Any = None,
    update: int = 0,
    counters: dict[str, Any] | None = None,
    start_s: float = 0.0,
) -> SimulatedEngine:
    """An engine on a simulated cluster.

    Args:
        deployment: Workers, servers, scheme, costs.
        problem: What to optimize.
        params: Parameters to start from.
        last: Updates of the whole run.
        seed: Of all times that are drawn.
        opt_state: Of the unsharded optimizer, to go on from.
        update: Updates that have been made already.
        counters: Of the engine that made them.
        start_s: Virtual time of them.

    Raises:
        InputError: there are more servers than parameters, or the optimizer cannot work on them
            in parts.
    """
    layout = layout_of(params)
    placement = place(deployment.settings.placement, layout.sizes, deployment.servers)
    shards = make_shards(layout, placement, problem.optimizer, problem.freeze_until)
    timeline = Timeline() if deployment.settings.trace else NO_TIMELINE
    cluster = Cluster(
        deployment.cluster,
        deployment.workers,
        placement.bytes,
        problem.batch_size,
        f"{seed}" if not update else f"{seed}, resumed at {update}",
        timeline=timeline,
        start_s=start_s,
    )
    return SimulatedEngine(
        problem,
        params,
        deployment.rules(last),
        cluster,
        shards,
        opt_state=opt_state,
        update=update,
        counters=counters,
    )


def local_engine(
    deployment: Deployment,
    problem: Problem,
    params: Any,
    recipe: Recipe,
    *,
    last: int,
    draw: Callable[[], Any] | None = None,
    opt_state: Any = None,
    update: int = 0,
    counters: Mapping[str, Any] | None = None,
) -> LocalEngine:
    """An engine of processes on this machine.

    Args:
        deployment: Workers, servers, scheme, limits.
        problem: What to optimize.
        params: Parameters to start from; of shapes with ``draw``.
        recipe: Builds the same problem in every process.
        last: Updates of the whole run.
        draw: Draws the parameters, while the processes get ready.
        opt_state: Of the unsharded optimizer, to go on from.
        update: Updates that have been made already.
        counters: Of the engine that made them.

    Raises:
        InputError: as `simulated_engine`.
    """
    settings = deployment.settings
    limits = Limits(worker_timeout_s=settings.worker_timeout_s, max_restarts=settings.max_restarts)
    processes = Processes(
        deployment.workers,
        deployment.servers,
        settings.placement,
        deployment.gradients_per_update,
        pin=settings.pin,
        limits=limits,
        cache=compilation_cache(),
    )
    rules = deployment.rules(last)
    engine = LocalEngine(
        problem,
        params,
        rules,
        recipe,
        processes,
        draw=draw,
        opt_state=opt_state,
        update=update,
        counters=counters,
    )
    if settings.trace:
        engine.keep_timeline()
    return engine
