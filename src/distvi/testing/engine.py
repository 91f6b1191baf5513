"""An engine on a played fleet: it trains by the coordinator's code, without a process.

Register it where it is to have a name, such as in a test:
``register_engine("played", PlayedSettings, build)``.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np
from pydantic import Field

from distvi.algorithms.base import Algorithm
from distvi.engines.base import Built, Problem, Start
from distvi.engines.coordinator.clock import Clock, MachineClock
from distvi.engines.coordinator.engine import Deployment, FleetEngine
from distvi.engines.coordinator.fleet import Post, Role
from distvi.engines.coordinator.messages import (
    Applied,
    Apply,
    Begin,
    Compute,
    Computed,
    Save,
    Saved,
)
from distvi.engines.coordinator.server import ShardServer
from distvi.engines.coordinator.slots import ArrayAt, ArraySlots, Numbers, SlotMap, slot_map, views
from distvi.engines.coordinator.transport import Limits
from distvi.engines.coordinator.worker import Worker
from distvi.engines.settings import ParameterServerSettings
from distvi.parameters import layout_of, make_shards, place
from distvi.protocol import Rules
from distvi.testing.fleet import Actor, Cast, Odds, PlayedFleet, Task


class PlayedSettings(ParameterServerSettings):
    """Workers and servers that are only played; for tests."""

    default_workers: ClassVar[int] = 2

    kind: str = "played"
    workers: int | None = Field(default=None, gt=0, description="Played workers (default: 2).")
    play: int = Field(default=0, description="Seed of what happens when.")
    worker_timeout_s: float = Field(default=60.0, gt=0, description="In virtual time.")
    max_restarts: int = Field(default=16, ge=0, description="Processes that are replaced.")


class PlayedEngine(FleetEngine):
    """Training by a fleet that is only played.

    Attributes:
        fleet: The fleet.
    """

    fleet: PlayedFleet


def build(
    settings: PlayedSettings, problem: Problem, algorithm: Algorithm, start: Start
) -> PlayedEngine:
    """An engine on a played fleet; see `distvi.engines.registry`.

    Raises:
        InputError: see `played_engine`.
    """
    assert settings.workers is not None
    assert settings.servers is not None
    engine = played_engine(
        problem,
        algorithm,
        start,
        workers=settings.workers,
        servers=settings.servers,
        placement=settings.placement,
        seed=settings.play,
        limits=Limits(
            worker_timeout_s=settings.worker_timeout_s, max_restarts=settings.max_restarts
        ),
        nonfinite_limit=settings.nonfinite_limit,
    )
    if settings.trace:
        engine.keep_timeline()
    return engine


def played_engine(
    problem: Problem,
    algorithm: Algorithm,
    start: Start,
    *,
    workers: int = 2,
    servers: int = 1,
    placement: str = "ranges",
    seed: int = 0,
    odds: Mapping[Role, Odds] | None = None,
    limits: Limits | None = None,
    nonfinite_limit: int | None = None,
) -> PlayedEngine:
    """An engine on a played fleet.

    Args:
        problem: What to optimize.
        algorithm: How.
        start: Where to begin.
        workers: How many compute.
        servers: How many share the parameters.
        placement: Which server holds what.
        seed: Of what happens when.
        odds: Of faults, by role; by default there are none.
        limits: In virtual time, and of restarts.
        nonfinite_limit: Unusable contributions in a row after which the run has failed.

    Raises:
        InputError: there are more servers than parameters, or the server rule cannot work on them
            in parts.
    """
    limits = limits or Limits()
    layout = layout_of(problem.shapes)
    shards = make_shards(layout, place(placement, layout.sizes, servers), algorithm.server)
    slots = slot_map(shards, algorithm.worker)
    numbers = Numbers(*(ArraySlots(size) for size in slots.sizes))
    built = Built(problem, algorithm.worker, algorithm.server)
    fleet = PlayedFleet(computing(built, slots, numbers, workers), numbers, seed)
    fleet.odds |= odds or {}
    rules = Rules(
        algorithm.scheme,
        updates=problem.updates,
        worker_timeout_s=limits.worker_timeout_s,
        nonfinite_limit=nonfinite_limit,
    )
    deployment = Deployment(fleet, numbers, slots, workers)
    clock = Clock(fleet.now_s)
    engine = PlayedEngine(problem, algorithm, rules, deployment, limits, start, clock)
    engine.fleet = fleet
    return engine


def computing(built: Built, slots: SlotMap, numbers: Numbers, workers: int) -> Cast:
    """Processes that do what the real ones do.

    Args:
        built: The problem and the rules.
        slots: Where everything lies.
        numbers: In which they read and write.
        workers: How many there are.
    """

    def cast(post: Post, clock: MachineClock) -> Actor:
        with _on_cpu():
            if post.role == "server":
                server = ShardServer(post.number, slots, numbers, built, clock)
                return ComputingServer(server, slots, numbers)
            worker = Worker(post.number, workers, slots, numbers, built, post.memory, clock)
            worker.compile()
            return ComputingWorker(worker, slots, numbers, clock)

    return cast


class ComputingWorker(Actor):
    """A worker that computes.

    Args:
        worker: Does it.
        slots: Where everything lies.
        numbers: In which it reads and writes.
        clock: The virtual one.
    """

    def __init__(self, worker: Worker, slots: SlotMap, numbers: Numbers, clock: MachineClock):
        self._worker, self._slots, self._numbers, self._clock = worker, slots, numbers, clock

    def take(self, message: Begin) -> None:
        """Nothing that a worker is told."""
        raise AssertionError(f"a worker is told {message}")

    def begin(self, task: Task) -> None:
        """Spoil what it will write, and look at what it reads."""
        assert isinstance(task, Compute)
        numbers, slots = self._numbers, self._slots
        self._began_s = self._clock()
        self._read = numbers.parameters.bytes(task.parameters).copy()
        _spoil(slots.targets, numbers.payloads.bytes(task.payload))
        if slots.has_memory:
            _spoil(slots.memory, numbers.memories.bytes(task.memory))

    def end(self, task: Task) -> Computed:
        """Compute."""
        assert isinstance(task, Compute)
        now = self._numbers.parameters.bytes(task.parameters)
        assert np.array_equal(now, self._read), "somebody has written what a worker reads"
        with _on_cpu():
            answer = self._worker.answer(task, self._worker.batch(task.turn), self._began_s)
        self._worker.pushed()
        return answer


class ComputingServer(Actor):
    """A server that computes.

    Args:
        server: Does it.
        slots: Where everything lies.
        numbers: In which it reads and writes.
    """

    def __init__(self, server: ShardServer, slots: SlotMap, numbers: Numbers) -> None:
        self._server, self._slots, self._numbers = server, slots, numbers

    def take(self, message: Begin) -> None:
        """Begin with a version."""
        with _on_cpu():
            self._server.handle(message)

    def begin(self, task: Task) -> None:
        """Spoil what it will write, unless that is published: then it writes the same again."""
        assert isinstance(task, Apply | Save)
        number, numbers = self._server.number, self._numbers
        if isinstance(task, Save):
            _spoil(self._slots.states[number], numbers.states.bytes(task.state))
        elif task.target is not None and numbers.published_versions[number] < task.version:
            _spoil(self._slots.parts[number], numbers.parameters.bytes(task.target))

    def end(self, task: Task) -> Applied | Saved | None:
        """Make the update, or save."""
        with _on_cpu():
            return self._server.handle(task)


def _on_cpu() -> Any:
    """Where the servers of other fleets compute, too."""
    return jax.default_device(jax.local_devices(backend="cpu")[0])


def _spoil(arrays: list[ArrayAt], slot: np.ndarray) -> None:
    """What is half-written is nonsense: all bits are ones, which is NaN in every float type."""
    for view in views(arrays, slot):
        view.reshape(-1).view(np.uint8)[:] = 255
