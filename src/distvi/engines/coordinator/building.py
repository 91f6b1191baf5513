"""What engines of processes are built of, whatever their fleet is."""

from distvi.algorithms.base import Algorithm, ServerRule, WorkerRule
from distvi.engines.base import Problem, Recipe
from distvi.engines.coordinator.slots import SlotMap, slot_map
from distvi.engines.coordinator.transport import Limits
from distvi.engines.settings import ProcessSettings
from distvi.errors import InputError
from distvi.parameters import layout_of, make_shards, place
from distvi.protocol import Rules


def rules_of(settings: ProcessSettings, problem: Problem, algorithm: Algorithm) -> Rules:
    """The protocol's."""
    return Rules(
        algorithm.scheme,
        updates=problem.updates,
        worker_timeout_s=settings.worker_timeout_s,
        nonfinite_limit=settings.nonfinite_limit,
    )


def limits_of(settings: ProcessSettings) -> Limits:
    """Of the fleet."""
    return Limits(worker_timeout_s=settings.worker_timeout_s, max_restarts=settings.max_restarts)


def recipe_of(problem: Problem, engine: str) -> Recipe:
    """How the processes of an engine build the problem.

    Raises:
        InputError: they cannot.
    """
    if problem.recipe is None:
        raise InputError(
            f"engine {engine!r} has processes of its own, which cannot build this problem: "
            f"{problem.no_recipe}. Or use engine 'mesh' or 'simulated', which have none"
        )
    return problem.recipe


def slots_of(
    problem: Problem, worker: WorkerRule, server: ServerRule, placement: str, servers: int
) -> SlotMap:
    """Where everything lies; the same for the coordinator and in every process.

    Raises:
        InputError: there are more servers than parameters, or the server rule cannot work on them
            in parts.
    """
    layout = layout_of(problem.shapes)
    placed = place(placement, layout.sizes, servers)
    return slot_map(make_shards(layout, placed, server), worker)
