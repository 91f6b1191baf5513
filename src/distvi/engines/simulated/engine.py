"""Training on the simulated cluster: time is virtual, every gradient is computed for real.

A gradient is computed when it arrives, or just before, as the next that will, on the parameters
that its worker was sent. Those of requests that a scheme cancels are never computed, and workers of
one version share its memory.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from distvi.engines.base import Halted, Params, Problem, TrainState
from distvi.engines.simulated.cluster import Cluster
from distvi.engines.statistics import Record, summary_fields
from distvi.engines.trace import Span
from distvi.parameters import Flat, ParameterVersion, Shards, Store
from distvi.protocol import (
    Cancel,
    Command,
    Commit,
    Event,
    Free,
    GradientArrived,
    GradientNonFinite,
    Left,
    Observer,
    Rules,
    SendParameters,
    Stop,
    Stragglers,
    drive,
    initial_state,
)
from distvi.system.malloc import keep_freed_memory, return_freed_memory

TicketId = tuple[int, int, int]


class Work(NamedTuple):
    """What a worker was sent: parameters, and which of its batches is next."""

    parameters: ParameterVersion
    batch: int


class SimulatedTransport:
    """A transport: the cluster's times, and the numbers that belong to them.

    The batch and the noise of a worker's gradient depend on how many it was asked for before, and
    on nothing else. Batch t of worker w of n begins at ``(t * n + w) * batch_size`` in the stream
    of examples and has the noise of update t; so n workers in lockstep use the examples and noise
    of one with n times the batch.

    Args:
        problem: What to optimize; ``batch_size`` is that of one gradient.
        cluster: The times.
        store: The parameters.
        first_batch: Of every worker.
        ahead: Whether the next gradient is begun before the present one is waited for, so that
            the processor does not idle meanwhile. In vain where the scheme cancels it then.
    """

    def __init__(
        self, problem: Problem, cluster: Cluster, store: Store, first_batch: int, *, ahead: bool
    ) -> None:
        self.cluster, self.store = cluster, store
        self.neg_elbos: list[float] = []
        """Of each update, the mean over its gradients."""
        self.end = ""
        self._problem = problem
        self._ahead = ahead
        self._next = [first_batch] * len(cluster.workers)
        self._work: dict[TicketId, Work] = {}
        self._begun: dict[TicketId, tuple[Array, Flat, Array]] = {}
        self._values: dict[TicketId, float] = {}
        self._gradient = jax.jit(make_gradient(problem, store.shards))

    def receive(self) -> tuple[float, Event] | None:
        """The cluster's next event; a gradient has been computed when it arrives."""
        received = self.cluster.receive()
        if received is None:
            return None
        now_s, event = received
        if isinstance(event, GradientArrived):
            event = self._arrived(event)
        elif isinstance(event, Left):
            for key in [key for key in self._work if key[:2] == (event.worker, event.incarnation)]:
                self._abandon(key)
        return now_s, event

    def execute(self, command: Command) -> None:
        """Move numbers as the command says; then let it take its time."""
        if isinstance(command, SendParameters):
            number = self._next[command.worker]
            key = (command.worker, command.incarnation, command.sequence)
            self._work[key] = Work(self.store.pull(), number)
            self._next[command.worker] += 1
        elif isinstance(command, Commit):
            self.store.commit(command)
            values = [self._values.pop(part.ticket.key) for part in command.contributions]
            self.neg_elbos.append(sum(values) / len(values))
        elif isinstance(command, Free):
            self.store.drop(command.ticket)
            self._values.pop(command.ticket.key, None)
        elif isinstance(command, Cancel):
            self._abandon((command.worker, command.incarnation, command.sequence))
        elif isinstance(command, Stop):
            self.end = command.reason
        self.cluster.execute(command)

    def _abandon(self, key: TicketId) -> None:
        self._work.pop(key, None)
        self._begun.pop(key, None)

    def _arrived(self, event: GradientArrived) -> Event:
        ticket = event.ticket
        value, gradient, total = self._begin(ticket.key)
        del self._work[ticket.key], self._begun[ticket.key]
        upcoming = self.cluster.upcoming() if self._ahead else None
        if upcoming is not None:
            self._begin(upcoming)
        # The sum is had for nothing, but overflows where a gradient is huge.
        if not (math.isfinite(total) or (np.isfinite(value) and np.isfinite(gradient).all())):
            return GradientNonFinite(ticket)
        self.store.hold(ticket, gradient)
        self._values[ticket.key] = float(value)
        return event

    def _begin(self, key: TicketId) -> tuple[Array, Flat, Array]:
        """What ``make_gradient`` gives for a task, once; nobody waits for it here."""
        if key not in self._begun:
            problem, (parameters, number) = self._problem, self._work[key]
            begin = (number * len(self.cluster.workers) + key[0]) * problem.batch_size
            index = problem.indices(begin, problem.batch_size)
            x, y = problem.examples.take(index)
            self._begun[key] = self._gradient(
                parameters.flat, problem.key, np.uint32(number), x, y, index.astype(np.uint32)
            )
        return self._begun[key]


def make_gradient(problem: Problem, shards: Shards) -> Callable[..., tuple[Array, Flat, Array]]:
    """``gradient(flat, key, step, x, y, index) -> (neg_elbo, gradient, the sum of all of it)``."""

    def gradient(
        flat: Flat, key: Array, step: Array, x: Array, y: Array, index: Array
    ) -> tuple[Array, Flat, Array]:
        params = shards.layout.unflatten(flat)
        noise_key = jax.random.fold_in(key, step)
        value, tree = jax.value_and_grad(problem.loss)(params, x, y, index, noise_key)
        gradient = shards.layout.flatten(tree)
        return value, gradient, value + gradient.sum()

    return gradient


class SimulatedEngine:
    """Training on a simulated cluster; see `distvi.engines.base.Engine`.

    The state after an update is a function of the problem, the cluster, the rules and the seed,
    however the updates are split into calls. A run that is resumed begins with all workers
    pulling the parameters of the checkpoint: what was on its way is computed anew.

    Args:
        problem: What to optimize; ``batch_size`` is that of one gradient.
        params: Parameters to start from.
        rules: The scheme and the limits.
        cluster: The times; no event of it has been received.
        shards: Who holds which parameters.
        opt_state: Of the unsharded optimizer, to go on from.
        update: Updates that have been made already.
        counters: What ``counters`` said after those.
    """

    def __init__(
        self,
        problem: Problem,
        params: Params,
        rules: Rules,
        cluster: Cluster,
        shards: Shards,
        *,
        opt_state: Any = None,
        update: int = 0,
        counters: dict[str, Any] | None = None,
    ) -> None:
        keep_freed_memory()
        self.observers: list[Observer] = []
        self.timeline = cluster.timeline
        self._record = Record(counters)
        self._pushed, self._pulled = (
            (counters or {}).get("pushed", 0),
            (counters or {}).get("pulled", 0),
        )
        self._rules, self._cluster, self._batch_size = rules, cluster, problem.batch_size
        store = Store(shards, shards.layout.flatten(params), opt_state, update)
        first_batch = self._record.used // len(cluster.workers)
        ahead = rules.scheme.stragglers is Stragglers.FINISH
        self._laboratory = SimulatedTransport(problem, cluster, store, first_batch, ahead=ahead)
        self._state = initial_state(rules, version=update, examples=self.examples)

    @property
    def state(self) -> TrainState:
        """The state after ``update`` updates."""
        store = self._laboratory.store
        return TrainState(store.params, store.opt_state)

    @property
    def update(self) -> int:
        """Updates made since the run began."""
        return self._laboratory.store.version

    @property
    def examples(self) -> int:
        """Examples in all updates since the run began."""
        return self._record.used * self._batch_size

    @property
    def compile_time_s(self) -> float:
        """None: it is not virtual."""
        return 0.0

    @property
    def waiting_s(self) -> float:
        """Virtual time in which a worker did not compute, in the mean over the workers."""
        cluster = self._cluster
        return (cluster.present_s - cluster.computing_s) / len(cluster.workers)

    @property
    def spans(self) -> list[Span]:
        """What took time, if the timeline is kept."""
        return self.timeline.spans

    def now_s(self) -> float:
        """Virtual time."""
        return self._cluster.now_s

    @property
    def counters(self) -> dict[str, Any]:
        """What a checkpoint keeps of the gradients so far."""
        pushed, pulled = self._pushed + self._cluster.pushes, self._pulled + self._cluster.pulls
        return self._record.as_json() | {"pushed": pushed, "pulled": pulled}

    @property
    def statistics(self) -> dict[str, Any]:
        """Its fields of summary.json."""
        counters, placement = self.counters, self._laboratory.store.shards.placement
        scheme = self._rules.scheme
        return summary_fields(self._record, scheme, placement, counters, self._batch_size) | {
            "clock": "virtual",
            "workers": len(self._cluster.workers),
        }

    def advance(
        self, until: int, interrupted: Callable[[], bool] = lambda: False
    ) -> Float[np.ndarray, " updates"]:
        """Make updates up to number ``until``; see `distvi.engines.base.Engine`.

        Raises:
            Halted: the run cannot go on; the state is that of the last update.
        """
        transport = self._laboratory
        transport.neg_elbos = []
        self._state = drive(
            self._rules,
            transport,
            state=self._state,
            observers=(self._record, *self.observers),
            pause=lambda state: state.version >= until or interrupted(),
        )
        if self._state.outcome is not None and self.update < until:
            raise Halted(transport.end)
        return np.asarray(transport.neg_elbos, np.float32)

    def __enter__(self) -> "SimulatedEngine":
        return self

    def __exit__(self, *exception: object) -> None:
        return_freed_memory()
