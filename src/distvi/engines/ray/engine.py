"""Training with workers and servers on the machines of a Ray cluster."""

import os

from distvi.aggregation import check_liveness
from distvi.algorithms.base import Algorithm
from distvi.engines.base import Problem, Start
from distvi.engines.coordinator.clock import Clock
from distvi.engines.coordinator.engine import Deployment, FleetEngine
from distvi.engines.coordinator.slots import ArraySlots, Numbers, slot_map
from distvi.engines.coordinator.transport import Limits
from distvi.engines.ray.settings import RaySettings
from distvi.errors import InputError
from distvi.parameters import layout_of, make_shards, place
from distvi.protocol import Rules

_ON_OTHERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Whether an instance of Ray is to be reached from other machines; with 0 it is on loopback."""


def build(
    settings: RaySettings, problem: Problem, algorithm: Algorithm, start: Start
) -> FleetEngine:
    """An engine of a cluster as settings describe it; see `distvi.engines.registry`.

    Raises:
        InputError: there are more servers than parameters, the server rule cannot work on them in
            parts, or the problem cannot be built by another process.
    """
    if problem.recipe is None:
        raise InputError(
            "engine 'ray' has processes of its own, which cannot build this problem: "
            f"{problem.no_recipe}. Or use engine 'mesh' or 'simulated', which have none"
        )
    if settings.address == "local":
        os.environ.setdefault(_ON_OTHERS, "0")
    from distvi.engines.ray.fleet import RayFleet, Topology  # loads Ray, which reads that

    assert settings.workers is not None
    assert settings.servers is not None
    rules = Rules(
        algorithm.scheme,
        updates=problem.updates,
        worker_timeout_s=settings.worker_timeout_s,
        nonfinite_limit=settings.nonfinite_limit,
    )
    limits = Limits(worker_timeout_s=settings.worker_timeout_s, max_restarts=settings.max_restarts)
    layout = layout_of(problem.shapes)
    placement = place(settings.placement, layout.sizes, settings.servers)
    slots = slot_map(make_shards(layout, placement, algorithm.server), algorithm.worker)
    numbers, clock = Numbers(*(ArraySlots(size) for size in slots.sizes)), Clock()
    topology = Topology(settings, check_liveness(algorithm.scheme, settings.workers))
    fleet = RayFleet(topology, problem.recipe, problem.examples, slots, numbers, clock)
    deployment = Deployment(fleet, numbers, slots, settings.workers)
    engine = FleetEngine(problem, algorithm, rules, deployment, limits, start, clock)
    if settings.trace:
        engine.keep_timeline()
    return engine
