"""Training with workers and servers on the machines of a Ray cluster."""

import os

from distvi.aggregation import check_liveness
from distvi.algorithms.base import Algorithm
from distvi.engines.base import Problem, Start
from distvi.engines.coordinator.building import limits_of, recipe_of, rules_of, slots_of
from distvi.engines.coordinator.clock import Clock
from distvi.engines.coordinator.engine import Deployment, FleetEngine
from distvi.engines.coordinator.slots import ArraySlots, Numbers
from distvi.engines.ray.settings import RaySettings
from distvi.errors import InputError
from distvi.system.memmap import place_in_file

_ON_OTHERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Whether an instance of Ray is to be reached from other machines; with 0 it is on loopback."""


def build(
    settings: RaySettings, problem: Problem, algorithm: Algorithm, start: Start
) -> FleetEngine:
    """An engine of a cluster as settings describe it; see `distvi.engines.registry`.

    Raises:
        InputError: there are more servers than parameters, the server rule cannot work on them in
            parts, the problem cannot be built by another process, or the training inputs are to be
            read from a file and are not mapped from one.
    """
    recipe = recipe_of(problem, "ray")
    if settings.data_from == "file" and place_in_file(problem.examples.x) is None:
        raise InputError(
            "data_from is 'file', but the training inputs are not mapped from one: use "
            "coordinator, or train from a folder of arrays"
        )
    if settings.address == "local":
        os.environ.setdefault(_ON_OTHERS, "0")
    from distvi.engines.ray.fleet import RayFleet, Topology  # loads Ray, which reads that

    assert settings.workers is not None
    assert settings.servers is not None
    rules, limits = rules_of(settings, problem, algorithm), limits_of(settings)
    servers, placement = settings.servers, settings.placement
    slots = slots_of(problem, algorithm.worker, algorithm.server, placement, servers)
    numbers, clock = Numbers(*(ArraySlots(size) for size in slots.sizes)), Clock()
    topology = Topology(settings, check_liveness(algorithm.scheme, settings.workers))
    fleet = RayFleet(topology, recipe, problem.examples, slots, numbers, clock)
    deployment = Deployment(fleet, numbers, slots, settings.workers)
    engine = FleetEngine(problem, algorithm, rules, deployment, limits, start, clock)
    if settings.trace:
        engine.keep_timeline()
    return engine
