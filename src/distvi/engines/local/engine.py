"""Training with workers and servers that are processes of this machine."""

from distvi.aggregation import check_liveness
from distvi.algorithms.base import Algorithm
from distvi.engines.base import Problem, Start
from distvi.engines.coordinator.building import limits_of, recipe_of, rules_of, slots_of
from distvi.engines.coordinator.clock import Clock
from distvi.engines.coordinator.engine import Deployment, FleetEngine
from distvi.engines.coordinator.transport import Limits
from distvi.engines.local.fleet import LocalFleet, Topology
from distvi.engines.local.memory import shared_numbers
from distvi.engines.local.settings import LocalSettings
from distvi.protocol import Rules
from distvi.system.compilation_cache import compilation_cache
from distvi.system.streams import occupy_standard_descriptors


def build(
    settings: LocalSettings, problem: Problem, algorithm: Algorithm, start: Start
) -> FleetEngine:
    """An engine of processes as settings describe them; see `distvi.engines.registry`.

    Raises:
        InputError: there are more servers than parameters, the server rule cannot work on them in
            parts, or the problem cannot be built by another process.
    """
    assert settings.workers is not None
    assert settings.servers is not None
    topology = Topology(
        settings.workers,
        settings.servers,
        settings.placement,
        check_liveness(algorithm.scheme, settings.workers),
        pin=settings.pin,
        cache=compilation_cache(),
    )
    rules = rules_of(settings, problem, algorithm)
    engine = local_engine(topology, problem, algorithm, rules, limits_of(settings), start)
    if settings.trace:
        engine.keep_timeline()
    return engine


def local_engine(
    topology: Topology,
    problem: Problem,
    algorithm: Algorithm,
    rules: Rules,
    limits: Limits,
    start: Start,
) -> FleetEngine:
    """An engine of processes, with everything given.

    Raises:
        InputError: see `build`.
    """
    recipe = recipe_of(problem, "local")
    servers, placement = topology.servers, topology.placement
    slots = slots_of(problem, algorithm.worker, algorithm.server, placement, servers)
    occupy_standard_descriptors()
    numbers, clock = shared_numbers(slots), Clock()
    fleet = LocalFleet(topology, recipe, problem.examples, numbers, clock)
    deployment = Deployment(fleet, numbers, slots, topology.workers)
    return FleetEngine(problem, algorithm, rules, deployment, limits, start, clock)
