"""Training with workers and servers that are processes of this machine."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from distvi.engines.base import Halted, Params, Problem, TrainState
from distvi.engines.coordinator.membership import WorkerRecord
from distvi.engines.coordinator.messages import Apply, Begin, Save
from distvi.engines.coordinator.requests import Versions
from distvi.engines.coordinator.servers import STATE_SLOTS
from distvi.engines.coordinator.slots import memory_of, parts_of, state_pieces
from distvi.engines.coordinator.status import StatusTracker
from distvi.engines.coordinator.transport import FleetTransport, Limits
from distvi.engines.local.doorbell import Doorbell, new_doorbell, published_in
from distvi.engines.local.environment import cores, gpus, server_environment, worker_environment
from distvi.engines.local.fleet import Fleet, Process
from distvi.engines.local.memory import shared
from distvi.engines.local.process import Assignment
from distvi.engines.local.recipe import Recipe
from distvi.engines.local.server import ShardServer
from distvi.engines.statistics import Record, summary_fields
from distvi.engines.status import EngineStatus, ServerStatus, WorkerStatus
from distvi.engines.trace import Span
from distvi.parameters import layout_of
from distvi.protocol import Observer, Rules, initial_state
from distvi.protocol import drive as drive_protocol

_KEPT, _KEPT_BYTES = 32, 1 << 27
"""Gradients that are kept for servers that die, until they save; fewer where they are large."""

_REDONE = STATE_SLOTS
"""A slot of the optimizer's state that no server writes."""


class Processes(NamedTuple):
    """How a run is spread over processes.

    Attributes:
        workers: How many compute gradients.
        servers: How many share the parameters.
        placement: Which server holds what.
        lot: Gradients that most updates are made of: programs for those are compiled at the start.
        pin: Whether each worker has a core to itself, where there are enough.
        limits: In time, and of max_restarts.
        cache: Folder of compiled programs, which are compiled once for all; None: none is kept.
    """

    workers: int
    servers: int
    placement: str = "ranges"
    lot: int = 1
    pin: bool = True
    limits: Limits = Limits()
    cache: Path | None = None


class LocalEngine:
    """Training with processes of this machine; see `distvi.engines.base.Engine`.

    Processes are started when the ``with`` block is entered and ended when it is left. Batches and
    noise are those of `distvi.engines.simulated.SimulatedEngine`.

    Args:
        problem: What to optimize; ``batch_size`` is that of one gradient.
        params: Parameters to start from; of shapes (``jax.ShapeDtypeStruct``) with ``draw``.
        rules: The scheme and the limits.
        recipe: Builds the same problem in the processes.
        processes: How many of them, and how they are run.
        draw: Draws the parameters, while the processes get ready: both take a while.
        opt_state: Of the unsharded optimizer, to go on from.
        update: Updates that have been made already.
        counters: What ``counters`` said after those.

    Raises:
        InputError: there are more servers than parameters, or the optimizer cannot work on them
            in parts.
    """

    def __init__(
        self,
        problem: Problem,
        params: Params,
        rules: Rules,
        recipe: Recipe,
        processes: Processes,
        *,
        draw: Callable[[], Params] | None = None,
        opt_state: Any = None,
        update: int = 0,
        counters: Mapping[str, Any] | None = None,
    ) -> None:
        counters = counters or {}
        self.observers: list[Observer] = []
        self.logs: Path | None = None
        self._recipe, self._processes, self._rules = recipe, processes, rules
        self._batch_size = problem.batch_size
        self._examples = problem.examples
        self._layout = layout_of(params)
        self._shards = parts_of(problem, self._layout, processes)
        self._placement = self._shards.placement
        self._pieces, _ = state_pieces(self._shards)
        self._memory = memory_of(self._shards)
        self._record = Record(counters)
        self._before = {name: int(counters.get(name, 0)) for name in ("pushed", "pulled")}
        self._bells: list[Doorbell] = []
        self._start_s = self._advanced_s = 0.0
        placement = self._placement
        self.tracker = StatusTracker(
            [WorkerStatus(number) for number in range(processes.workers)],
            [ServerStatus(number, size) for number, size in enumerate(placement.bytes)],
        )
        first_batch = self._record.used // processes.workers
        self._transport = FleetTransport(
            fleet=Fleet(),
            start=self._start,
            limits=processes.limits,
            versions=Versions(update),
            members=[WorkerRecord(batch=first_batch) for _ in range(processes.workers)],
            batch_size=problem.batch_size,
            servers=processes.servers,
            most_kept=max(1, min(_KEPT, _KEPT_BYTES // (4 * self._layout.size))),
            tracker=self.tracker,
        )
        self._start_from = draw or (lambda: params), opt_state
        self._state = initial_state(rules, version=update, examples=self.examples)

    # The numbers

    def _write(self) -> None:
        """Put the numbers to start from into their slots, and keep them nowhere else."""
        draw, opt_state = self._start_from
        params = draw()
        del self._start_from
        layout, shards, transport = self._layout, self._shards, self._transport
        flat = self._memory.parameters.floats(transport.versions.slot)
        for tensor, leaf in zip(
            layout.tensors, layout.structure.flatten_up_to(params), strict=True
        ):
            flat[tensor.start : tensor.stop] = np.ravel(leaf)
        states = jax.jit(shards.init)(flat) if opt_state is None else shards.scatter(opt_state)
        published_in(self._memory.published)[:] = transport.versions.newest
        slot = self._memory.states.bytes(transport.recovery[0].state)
        for pieces, state in zip(self._pieces, states, strict=True):
            for piece, leaf in zip(pieces, jax.tree.leaves(state), strict=True):
                piece.view(slot)[...] = leaf

    @property
    def state(self) -> TrainState:
        """The state after ``update`` updates, from when the ``with`` block was entered."""
        transport = self._transport
        flat = np.array(self._memory.parameters.floats(transport.versions.slot))
        begin, updates = transport.recovery
        slot = self._memory.states.bytes(self._redone(begin, updates) if updates else begin.state)
        like = jax.eval_shape(self._shards.init, flat)
        leaves = [[np.array(piece.view(slot)) for piece in own] for own in self._pieces]
        states = tuple(
            jax.tree.unflatten(jax.tree.structure(tree), own)
            for tree, own in zip(like, leaves, strict=True)
        )
        return TrainState(self._layout.unflatten(flat), self._shards.gather(states))

    def _redone(self, begin: Begin, updates: list[Apply]) -> int:
        """Make updates again in this process; where a run breaks off, a server may be dead."""
        with jax.default_device(jax.local_devices(backend="cpu")[0]):  # as the servers have done
            for number in range(self._processes.servers):
                part = ShardServer(self._shards, number, self._memory)
                part.begin(begin)
                for update in updates:
                    part.apply(update)
                part.save(Save(updates[-1].version, _REDONE))
        return _REDONE

    # What it has done

    @property
    def update(self) -> int:
        """Updates made since the run began."""
        return self._transport.versions.newest

    @property
    def examples(self) -> int:
        """Examples in all updates since the run began."""
        return self._record.used * self._batch_size

    @property
    def compile_time_s(self) -> float:
        """Time that the compiler took in the slowest process."""
        return self.tracker.compile_time_s

    @property
    def waiting_s(self) -> float:
        """Time of training in which a worker did not compute, in the mean over the workers."""
        workers = self.tracker.workers
        return self._advanced_s - sum(worker.computing_s for worker in workers) / len(workers)

    def now_s(self) -> float:
        """Wall-clock time, without the time in which processes were started."""
        return time.perf_counter() - self._start_s

    @property
    def spans(self) -> list[Span]:
        """What the processes did lately, or all of it if ``keep_timeline`` was called."""
        return list(self.tracker.spans)

    def keep_timeline(self) -> None:
        """Keep all spans, for a file."""
        self.tracker.keep_all()

    def status(self) -> EngineStatus:
        """What the processes do at this moment."""
        return self.tracker.snapshot()

    @property
    def counters(self) -> dict[str, Any]:
        """What a checkpoint keeps of the gradients so far."""
        pushed = self._before["pushed"] + self.tracker.pushes
        pulled = self._before["pulled"] + self.tracker.pulls
        return self._record.as_json() | {"pushed": pushed, "pulled": pulled}

    @property
    def statistics(self) -> dict[str, Any]:
        """Its fields of summary.json."""
        counters, placement = self.counters, self._placement
        scheme = self._rules.scheme
        return summary_fields(self._record, scheme, placement, counters, self._batch_size) | {
            "clock": "wall",
            "workers": self._processes.workers,
            "restarts": self._transport.replaced,
            "incidents": list(self.tracker.incidents),
        }

    # What it does

    def advance(
        self, until: int, interrupted: Callable[[], bool] = lambda: False
    ) -> Float[np.ndarray, " updates"]:
        """Make updates up to number ``until``; see `distvi.engines.base.Engine`.

        Raises:
            Halted: the run cannot go on; the state is that of the last update.
        """
        transport = self._transport
        transport.interrupted, transport.neg_elbos = interrupted, []
        self._begin()
        before_s = time.perf_counter()
        transport.go_on()
        try:
            self._state = drive_protocol(
                self._rules,
                transport,
                state=self._state,
                observers=(self._record, *self.observers),
                pause=lambda state: state.version >= until or interrupted(),
            )
            transport.settle()
        finally:
            transport.pause()
            self._record.take_back(transport.commits)  # of a run that has come to its end
            self._advanced_s += time.perf_counter() - before_s
        if self._state.outcome is not None and self.update < until and not interrupted():
            raise Halted(transport.end)
        return np.asarray(transport.neg_elbos, np.float32)

    def _begin(self) -> None:
        """Wait for the processes, the first time."""
        before_s = time.perf_counter()
        self._transport.begin()
        self._start_s += time.perf_counter() - before_s

    def __enter__(self) -> "LocalEngine":
        workers = range(self._processes.workers)
        servers = range(self._processes.servers)
        self._transport.fleet.logs = self.logs
        if self._processes.cache is not None:
            self._processes.cache.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            for slots in self._memory:
                stack.callback(slots.close)
            self._x, self._y = (
                stack.enter_context(shared(rows)) for rows in (self._examples.x, self._examples.y)
            )
            self._cores, self._gpus = cores(), gpus()
            for _ in workers:
                self._bells.append(new_doorbell())
                stack.callback(self._bells[-1].close)
            stack.callback(self._transport.fleet.end)
            try:
                for worker in workers:
                    self._start("worker", worker)
                for server in servers:
                    self._start("server", server)
            except Halted:
                self._write()  # of that a checkpoint is made
                raise
            self._write()
            self._open = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        if any(isinstance(value, KeyboardInterrupt) for value in exception):
            self._transport.fleet.kill()  # a second Ctrl-C waits for nobody
        self._open.close()

    def _start(self, role: str, number: int) -> Process:
        is_worker = role == "worker"
        environment = worker_environment(number, self._gpus) if is_worker else server_environment()
        assignment = self._assignment(role, number)
        process = self._transport.fleet.start(assignment, environment)
        self.tracker.started(process)
        return process

    def _assignment(self, role: str, number: int) -> Assignment:
        processes = self._processes
        batch = self._transport.members[number].batch if role == "worker" else 0
        return Assignment(
            role=role,
            number=number,
            workers=processes.workers,
            servers=processes.servers,
            placement=processes.placement,
            recipe=(self._recipe.factory, self._recipe.settings),
            x=tuple(self._x),
            y=tuple(self._y),
            parameters=self._memory.parameters.descriptor,
            gradients=self._memory.gradients.descriptor,
            states=self._memory.states.descriptor,
            published=self._memory.published.descriptor,
            doorbells=self._bells_of(role, number),
            cores=self._cores_of(role, number),
            first_batch=batch,
            lot=processes.lot,
            cache=str(processes.cache or ""),
        )

    def _bells_of(self, role: str, number: int) -> tuple[int, ...]:
        if role == "worker":
            return (self._bells[number].read_end,)
        return tuple(doorbell.write_end for doorbell in self._bells)

    def _cores_of(self, role: str, number: int) -> tuple[int, ...]:
        """A core for each worker, and the rest for the servers; empty: wherever there is time."""
        workers = self._processes.workers
        if not self._processes.pin or self._gpus or workers > len(self._cores):
            return ()
        return (self._cores[number],) if role == "worker" else tuple(self._cores[workers:])
