"""Between the protocol and the simulated cluster: times from the cluster, numbers from JAX.

An answer is computed when it arrives, or just before, as the next that will, on the parameters that
its worker was sent. Those of requests that a scheme cancels are never computed, and workers of one
version share its memory.
"""

from math import isfinite
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from distvi.algorithms.base import Batches, Memory, WorkerRule, answer
from distvi.algorithms.combine import is_finite
from distvi.engines.base import Problem, read_request
from distvi.engines.simulated.cluster import Cluster
from distvi.parameters import Flat, Layout, ParameterVersion, Shards, Store
from distvi.protocol import (
    Cancel,
    Command,
    Commit,
    Event,
    Free,
    GradientArrived,
    GradientNonFinite,
    Left,
    SendParameters,
    Stop,
    TicketId,
)
from distvi.system.programs import Programs


class Sent(NamedTuple):
    """What a worker was sent: parameters, and which of its requests it is."""

    parameters: ParameterVersion
    request: int


class FlatAnswer(NamedTuple):
    """An answer with its payload as one vector, and the sum of all of it."""

    neg_elbo: Array
    payload: Flat
    total: Array
    memory: Memory

    @property
    def is_good(self) -> bool:
        """Whether all of it is finite."""
        # The sum is had for nothing, but overflows where a gradient is huge.
        return isfinite(self.total) or (
            isfinite(self.neg_elbo) and is_finite(np.asarray(self.payload))
        )


_NEVER = (-1, -1)  # no incarnation, no request


class WorkerMemories:
    """What stays with each worker, where the rule has something to stay.

    Args:
        rule: Of the workers.
        layout: Of the parameters.
        first: Of each worker; None: it begins anew.
        programs: What compiles.
    """

    def __init__(
        self,
        rule: WorkerRule,
        layout: Layout,
        first: tuple[Memory | None, ...],
        programs: Programs,
    ) -> None:
        def init(flat: Flat) -> Memory:
            return rule.init(layout.unflatten(flat))

        self._init = programs.jit("memory", init)
        flat = jax.ShapeDtypeStruct((layout.size,), np.float32)
        self._nothing = programs.once("no memory", lambda: jax.eval_shape(init, flat))
        self.has_any = bool(jax.tree.leaves(self._nothing))
        self.lost = 0
        self._now = {worker: each for worker, each in enumerate(first) if each is not None}
        self._decided: dict[int, tuple[int, int, Memory]] = {
            worker: (*_NEVER, each) for worker, each in self._now.items()
        }
        self._arrived: dict[TicketId, Memory] = {}

    def now(self, worker: int, flat: Flat) -> Memory:
        """With which a worker works on parameters."""
        if not self.has_any:
            return self._nothing
        if worker not in self._now:
            self._now[worker] = self._init(flat)
        return self._now[worker]

    def arrived(self, ticket: TicketId, memory: Memory) -> None:
        """An answer has come: its worker remembers so much from now on."""
        if self.has_any:
            self._now[ticket[0]] = self._arrived[ticket] = memory

    def decided(self, ticket: TicketId) -> None:
        """The answer is in an update, or refused: so much belongs to a checkpoint."""
        if ticket in self._arrived:
            worker, incarnation, sequence = ticket
            memory = self._arrived.pop(ticket)
            if self._decided.get(worker, _NEVER)[:2] < (incarnation, sequence):
                self._decided[worker] = incarnation, sequence, memory

    def left(self, worker: int) -> None:
        """A worker is dead, and its memory with it."""
        arrived = [ticket for ticket in self._arrived if ticket[0] == worker]
        self.lost += bool(arrived or worker in self._decided)
        self._now.pop(worker, None)
        self._decided.pop(worker, None)
        for ticket in arrived:
            del self._arrived[ticket]

    def of_all(self, workers: int) -> tuple[Memory | None, ...]:
        """For a checkpoint."""
        if not self.has_any:
            return ()
        return tuple(
            self._decided[worker][-1] if worker in self._decided else None
            for worker in range(workers)
        )


class SimulatedTransport:
    """A transport: the cluster's times, and the numbers that belong to them.

    Batches and noise of a worker's request depend on how many it was asked for before, and on
    nothing else; see `distvi.engines.base.read_request`.

    Args:
        problem: What to optimize.
        rule: What workers make of requests.
        cluster: The times.
        store: The parameters.
        memories: Of the workers.
        first_request: Of every worker.
        ahead: Whether the next answer is begun before the present one is waited for, so that the
            processor does not idle meanwhile. In vain where the scheme cancels it then.
    """

    def __init__(
        self,
        problem: Problem,
        rule: WorkerRule,
        cluster: Cluster,
        store: Store,
        memories: WorkerMemories,
        first_request: int,
        *,
        ahead: bool,
    ) -> None:
        self.cluster, self.store, self.memories = cluster, store, memories
        self.neg_elbos: list[float] = []
        """Of each update, the mean over its contributions."""
        self.end = ""
        self._problem, self._rule = problem, rule
        self._ahead = ahead
        self._next = [first_request] * len(cluster.workers)
        self._sent: dict[TicketId, Sent] = {}
        self._begun: dict[TicketId, FlatAnswer] = {}
        self._values: dict[TicketId, float] = {}
        self._answer = problem.programs.jit("answer", make_answer(rule, store.shards))

    def receive(self) -> tuple[float, Event] | None:
        """The cluster's next event; an answer has been computed when it arrives."""
        received = self.cluster.receive()
        if received is None:
            return None
        now_s, event = received
        if isinstance(event, GradientArrived):
            event = self._arrived(event)
        elif isinstance(event, Left):
            for key in [key for key in self._sent if key[:2] == (event.worker, event.incarnation)]:
                self._abandon(key)
            self.memories.left(event.worker)
        return now_s, event

    def execute(self, command: Command) -> None:
        """Move numbers as the command says; then let it take its time."""
        if isinstance(command, SendParameters):
            number = self._next[command.worker]
            key = (command.worker, command.incarnation, command.sequence)
            self._sent[key] = Sent(self.store.pull(), number)
            self._next[command.worker] += 1
        elif isinstance(command, Commit):
            self.store.commit(command)
            keys = [each.ticket.key for each in command.contributions]
            values = [self._values.pop(key) for key in keys]
            self.neg_elbos.append(sum(values) / len(values))
            for key in keys:
                self.memories.decided(key)
        elif isinstance(command, Free):
            self.store.drop(command.ticket)
            self._values.pop(command.ticket.key, None)
            self.memories.decided(command.ticket.key)
        elif isinstance(command, Cancel):
            self._abandon((command.worker, command.incarnation, command.sequence))
        elif isinstance(command, Stop):
            self.end = command.reason
        self.cluster.execute(command)

    def _abandon(self, key: TicketId) -> None:
        self._sent.pop(key, None)
        self._begun.pop(key, None)

    def _arrived(self, event: GradientArrived) -> Event:
        ticket = event.ticket
        found, parameters = self._begin(ticket.key), self._sent[ticket.key].parameters
        self._begin_ahead()
        is_good = found.is_good  # waits
        del self._sent[ticket.key], self._begun[ticket.key]
        if is_good:  # else it leaves no trace in its worker's memory
            self.memories.arrived(ticket.key, found.memory)
        if self.memories.has_any:
            self._begin_ahead()  # what had to wait for that memory
        if not is_good:
            return GradientNonFinite(ticket)
        self.store.hold(ticket, found.payload, parameters)
        self._values[ticket.key] = float(found.neg_elbo)
        return event

    def _begin_ahead(self) -> None:
        """Begin the next answer, unless its worker has to remember an earlier one first."""
        upcoming = self.cluster.upcoming() if self._ahead else None
        if upcoming is None:
            return
        earlier = (key for key in self._sent if key[:2] == upcoming[:2] and key < upcoming)
        if not (self.memories.has_any and any(earlier)):
            self._begin(upcoming)

    def _begin(self, key: TicketId) -> FlatAnswer:
        """The answer to a request, once; nobody waits for it here."""
        if key not in self._begun:
            problem, rule, (parameters, number) = self._problem, self._rule, self._sent[key]
            worker, workers = key[0], len(self.cluster.workers)
            batches = read_request(problem, rule, number, worker=worker, workers=workers)
            memory = self.memories.now(worker, parameters.flat)
            self._begun[key] = self._answer(parameters.flat, memory, batches, problem.key)
        return self._begun[key]


def make_answer(rule: WorkerRule, shards: Shards) -> Any:
    """``answer(flat, memory, batches, key) -> FlatAnswer``."""

    def flat_answer(flat: Flat, memory: Memory, batches: Batches, key: Array) -> FlatAnswer:
        params = shards.layout.unflatten(flat)
        found = answer(rule, shards.transmit, params, memory, batches, key)
        payload = shards.layout.flatten(found.payload)
        return FlatAnswer(found.neg_elbo, payload, found.neg_elbo + payload.sum(), found.memory)

    return flat_answer
