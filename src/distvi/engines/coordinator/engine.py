"""Training with workers and servers that are processes, whatever the fleet is made of."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from distvi.algorithms.base import Algorithm, Keep, Memory, Params
from distvi.engines.base import Built, Devices, Halted, Problem, Start, TrainState
from distvi.engines.coordinator.clock import Clock
from distvi.engines.coordinator.fleet import Fleet, Wanted
from distvi.engines.coordinator.membership import WorkerRecord
from distvi.engines.coordinator.messages import Apply, Begin
from distvi.engines.coordinator.requests import Memories, Requests, Versions
from distvi.engines.coordinator.server import ShardServer
from distvi.engines.coordinator.servers import STATE_SLOTS
from distvi.engines.coordinator.slots import Numbers, SlotMap, views
from distvi.engines.coordinator.status import StatusTracker
from distvi.engines.coordinator.transport import FleetTransport, Limits
from distvi.engines.statistics import Record, summary_fields, traffic_of
from distvi.engines.status import EngineStatus, ServerStatus, WorkerStatus
from distvi.engines.trace import Span
from distvi.protocol import Observer, Rules, drive, initial_state

_KEPT, _KEPT_BYTES = 32, 1 << 27
"""Contributions that are kept for servers that die, until they save; fewer where they are large."""

_REDONE = STATE_SLOTS
"""A slot of the servers' state that no server writes."""

_COUNTED = ("pushed", "pulled", "restarts", "memories_lost")


class Deployment(NamedTuple):
    """A fleet, and what its processes are to do.

    Attributes:
        fleet: Starts them.
        numbers: That they share.
        slots: Where everything lies in those.
        workers: How many compute.
    """

    fleet: Fleet
    numbers: Numbers
    slots: SlotMap
    workers: int


class FleetEngine:
    """Training by a fleet of processes; see `distvi.engines.base.Engine`.

    Processes are started when the ``with`` block is entered and ended when it is left. A run that
    is resumed asks anew for whatever was on its way.

    Args:
        problem: What to optimize.
        algorithm: How.
        rules: The scheme and the limits.
        deployment: The fleet, and what it works on.
        limits: In time, and of restarts.
        start: Where to begin.
        clock: By which workers are judged.
    """

    def __init__(
        self,
        problem: Problem,
        algorithm: Algorithm,
        rules: Rules,
        deployment: Deployment,
        limits: Limits,
        start: Start,
        clock: Clock | None = None,
    ) -> None:
        self.observers: list[Observer] = []
        self._problem, self._algorithm, self._rules = problem, algorithm, rules
        self._fleet, self._numbers, self._slots, self._workers = deployment
        self._shards = self._slots.shards
        self._traffic = traffic_of(self._shards, algorithm)
        self._record = Record(start.counters)
        self._before = {name: int(start.counters.get(name, 0)) for name in _COUNTED}
        self._clock = clock or Clock()
        self._start_s = self._advanced_s = 0.0
        self.tracker = StatusTracker(
            [WorkerStatus(number) for number in range(self._workers)],
            [ServerStatus(n, size) for n, size in enumerate(self._shards.placement.bytes)],
            self._traffic,
        )
        self.tracker.go_on_from(start.counters)
        self._memories = None
        if self._slots.has_memory:
            begun = [w for w in range(self._workers) if start.memory(w) is not None]
            self._memories = Memories(begun)
        versions = Versions(start.update)
        turn = self._record.used // self._workers
        keeps_base = algorithm.server.keeps is Keep.BASE
        parameters, payload, *_ = self._slots.sizes
        kept_bytes = payload + (parameters if keeps_base else 0)
        self._transport = FleetTransport(
            fleet=self._fleet,
            limits=limits,
            versions=versions,
            members=[WorkerRecord(turn=turn) for _ in range(self._workers)],
            requests=Requests(
                versions,
                keeps_base=keeps_base,
                memories=self._memories,
            ),
            request_size=problem.batch_size * algorithm.worker.batches,
            servers=len(self._shards.each),
            most_kept=max(1, min(_KEPT, _KEPT_BYTES // max(kept_bytes, 1))),
            tracker=self.tracker,
            clock=self._clock,
        )
        self._start: Start | None = start
        self._state = initial_state(rules, version=start.update, examples=self.examples)

    # The numbers

    def _write(self) -> None:
        """Put the numbers to start from into their slots, and keep them nowhere else."""
        start, self._start = self._start, None
        assert start is not None
        layout, shards, numbers = self._shards.layout, self._shards, self._numbers
        transport, params = self._transport, start.params()
        flat = numbers.parameters.bytes(transport.versions.slot).view(np.float32)
        for tensor, leaf in zip(
            layout.tensors, layout.structure.flatten_up_to(params), strict=True
        ):
            flat[tensor.start : tensor.stop] = np.ravel(leaf)
        states = jax.jit(shards.init)(flat) if start.state is None else shards.scatter(start.state)
        numbers.published_versions[:] = transport.versions.newest
        slot = numbers.states.bytes(transport.recovery[0].state)
        for arrays, state in zip(self._slots.states, states, strict=True):
            _store(state, views(arrays, slot))
        if self._memories is not None:
            for worker in range(self._workers):
                if (memory := start.memory(worker)) is not None:
                    kept = numbers.memories.bytes(self._memories.slot(worker))
                    _store(memory, views(self._slots.memory, kept))

    @property
    def state(self) -> TrainState:
        """The state after ``update`` updates, from when the ``with`` block was entered."""
        numbers = self._numbers
        begin, updates = self._transport.recovery
        self._fleet.bring(self._wanted)
        slot = numbers.states.bytes(self._redone(begin, updates) if updates else begin.state)
        flat = jax.ShapeDtypeStruct((self._shards.layout.size,), np.float32)
        like = jax.eval_shape(self._shards.init, flat)
        states = tuple(
            jax.tree.unflatten(jax.tree.structure(tree), [np.array(a) for a in views(arrays, slot)])
            for tree, arrays in zip(like, self._slots.states, strict=True)
        )
        return TrainState(self.params, self._shards.gather(states), self._remembered())

    @property
    def _wanted(self) -> Wanted:
        """Slots that the state is made of."""
        begin, updates = self._transport.recovery
        return Wanted(
            [
                self._transport.versions.slot,
                begin.parameters,
                *(base for update in updates for base in update.bases),
            ],
            [payload for update in updates for payload in update.payloads],
            [begin.state],
            {worker: slot for worker, slot in enumerate(self._memory_slots()) if slot >= 0},
        )

    @property
    def params(self) -> Params:
        """The parameters after ``update`` updates."""
        newest = self._transport.versions.slot
        self._fleet.bring(Wanted(parameters=[newest]))
        slot = self._numbers.parameters.bytes(newest)
        return self._shards.layout.unflatten(np.array(slot.view(np.float32)))

    def _redone(self, begin: Begin, updates: list[Apply]) -> int:
        """Make updates again in this process; where a run breaks off, a server may be dead."""
        built = Built(self._problem, self._algorithm.worker, self._algorithm.server)
        with jax.default_device(jax.local_devices(backend="cpu")[0]):  # as the servers have done
            for number in range(len(self._shards.each)):
                server = ShardServer(number, self._slots, self._numbers, built)
                for message in (begin, *updates):
                    server.handle(message)
                server.save(_REDONE)
        return _REDONE

    def _memory_slots(self) -> list[int]:
        """Of what each worker remembers; -1: nothing."""
        if self._memories is None:
            return []
        return [self._memories.slot(worker) for worker in range(self._workers)]

    def _remembered(self) -> tuple[Memory | None, ...]:
        if self._memories is None:
            return ()
        found: list[Memory | None] = []
        like = jax.eval_shape(self._algorithm.worker.init, self._problem.shapes)
        for slot in self._memory_slots():
            if slot < 0:
                found.append(None)
                continue
            arrays = views(self._slots.memory, self._numbers.memories.bytes(slot))
            found.append(jax.tree.structure(like).unflatten([np.array(each) for each in arrays]))
        return tuple(found)

    # What it has done

    @property
    def deterministic(self) -> bool:
        """Whether no update depends on which process was faster."""
        return self._algorithm.scheme.is_lockstep or self._workers == 1

    @property
    def devices(self) -> Devices:
        """The first of JAX's: that on which a run is evaluated."""
        return jax.devices()[:1]

    @property
    def update(self) -> int:
        """Updates made since the run began."""
        return self._transport.versions.newest

    @property
    def examples(self) -> int:
        """Examples in all updates since the run began."""
        size = self._problem.batch_size * self._algorithm.worker.batches
        return self._record.used * size

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
        return self._clock.machine() - self._start_s

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

    def attach(self, logs: Path, tell: Callable[[str], None]) -> None:
        """See `distvi.engines.base.WithProcesses`."""
        self._fleet.logs, self.tracker.tell = logs, tell

    @property
    def counters(self) -> dict[str, Any]:
        """What a checkpoint keeps of the contributions so far."""
        counts = {
            "pushed": self.tracker.pushes,
            "pulled": self.tracker.pulls,
            "restarts": self._transport.restarts,
        }
        if self._memories is not None:
            counts["memories_lost"] = self._memories.lost
        totals = {name: self._before[name] + count for name, count in counts.items()}
        return self._record.as_json() | totals | self.tracker.counters

    @property
    def statistics(self) -> dict[str, Any]:
        """Its fields of summary.json."""
        counters = self.counters
        return summary_fields(
            self._record,
            self._algorithm,
            self._shards.placement,
            self._traffic,
            counters,
            self._problem.batch_size,
        ) | {
            "clock": "wall",
            "workers": self._workers,
            "restarts": counters["restarts"],
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
        before_s = self._clock.machine()
        transport.go_on()
        try:
            self._state = drive(
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
            self._advanced_s += self._clock.machine() - before_s
        if self._state.outcome is not None and self.update < until and not interrupted():
            raise Halted(transport.end)
        return np.asarray(transport.neg_elbos, np.float32)

    def _begin(self) -> None:
        """Wait for the processes, the first time."""
        before_s = self._clock.machine()
        self._transport.begin()
        self._start_s += self._clock.machine() - before_s

    def __enter__(self) -> "FleetEngine":
        with ExitStack() as stack:
            stack.enter_context(self._fleet)
            try:
                for worker in range(self._workers):
                    self._transport.start("worker", worker)
                for server in range(len(self._shards.each)):
                    self._transport.start("server", server)
            except Halted:
                self._write()  # of that a checkpoint is made
                raise
            self._write()  # while they get ready: both take a while
            self._open = stack.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        try:
            self._fleet.bring(self._wanted)  # the state may be read when the processes are gone
        except Halted:  # what is lost is told to who asks for it
            pass
        finally:
            self._open.__exit__(*exception)


def _store(tree: Any, targets: list[np.ndarray]) -> None:
    for target, leaf in zip(targets, jax.tree.leaves(tree), strict=True):
        target[...] = leaf
