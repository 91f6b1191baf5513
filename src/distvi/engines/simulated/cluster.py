"""A cluster in virtual time: what happens when, on every worker, server and interface.

It knows costs and no numbers: the protocol drives it alone for studies of time, and together with
the store of parameters for training.

The network. Every interface sends and receives at the same time, each in the order of first bytes.
A message occupies the sender's interface for its size over that bandwidth; its first byte is at
the receiver a latency later and occupies the interface there for its size over that one. So a
message takes as long as the slower of both, plus the queues at both ends.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from distvi.engines.simulated.machines import InFlight, ServerMachine, Transfer, WorkerMachine
from distvi.engines.simulated.settings import ClusterSettings
from distvi.engines.simulated.timeline import NO_TIMELINE, Timeline
from distvi.protocol import (
    Alarm,
    Cancel,
    Command,
    Commit,
    Dismiss,
    Event,
    GradientArrived,
    Joined,
    Left,
    Outcome,
    SendParameters,
    SetAlarm,
    StopRequested,
    Ticket,
    TicketId,
)

_STALLED_AFTER = 4_000, 100
"""Events without an update after which nothing will come any more: at least, and per worker."""


class Cluster:
    """A transport for `distvi.protocol.drive` whose time is virtual.

    Args:
        settings: What everything costs.
        workers: How many begin, all at time zero.
        part_bytes: Of the parameters on each server; a worker pulls them.
        batch_size: Examples of a batch.
        seed: Of all times that are drawn.
        pushed_bytes: That a worker pushes to each server; None: as many as it pulls.
        batches: That a request consumes.
        timeline: Told of all that took time.
        start_s: Time at which the workers join.
        incarnation: Of the workers, when they join.
    """

    def __init__(
        self,
        settings: ClusterSettings,
        workers: int,
        part_bytes: Sequence[int],
        batch_size: int,
        seed: int | str = 0,
        *,
        pushed_bytes: Sequence[int] | None = None,
        batches: int = 1,
        timeline: Timeline = NO_TIMELINE,
        start_s: float = 0.0,
        incarnation: int = 0,
    ) -> None:
        self.settings, self.timeline = settings, timeline
        self.request_size = batches * batch_size
        self.workers = [WorkerMachine(number, settings, seed) for number in range(workers)]
        self.servers = [
            ServerMachine(number, settings, *sizes)
            for number, sizes in enumerate(zip(part_bytes, pushed_bytes or part_bytes, strict=True))
        ]
        self.now_s = self.start_s = start_s
        self.pulls = self.pushes = 0
        slowdown = settings.machine.slowdown(workers) if settings.machine else 1.0
        self._work_s = batches * settings.gradient.mean_s(batch_size) * slowdown
        self._latency_s = settings.workers.latency_s + settings.servers.latency_s
        self._queue: list[tuple[float, int, Callable[[Any], Event | None], Any]] = []
        self._tie = count()
        self._events_left = self._patience = _STALLED_AFTER[0] + _STALLED_AFTER[1] * workers
        self._hands: dict[type, Callable[[Any], None]] = {
            SendParameters: self._send,
            Commit: self._commit,
            Cancel: self._cancel,
            Dismiss: self._dismiss,
            SetAlarm: lambda command: self._at(command.at_s, lambda _: Alarm(), None),
        }
        for worker in self.workers:
            worker.incarnation = incarnation - 1
            self._at(start_s, self._join, worker)

    def receive(self) -> tuple[float, Event] | None:
        """The next event, in the order of virtual time."""
        while self._queue:
            now_s, _, happen, what = heapq.heappop(self._queue)
            if not now_s < math.inf:
                reason = f"stalled: after {self.now_s:g} s nothing happens in finite time"
                return self.now_s, StopRequested(reason, Outcome.FAILED)
            self.now_s = now_s
            event = happen(what)
            if event is None:
                continue
            self._events_left -= 1
            if self._events_left < 0:
                reason = f"stalled: no update in the last {self._patience} events"
                return self.now_s, StopRequested(reason, Outcome.FAILED)
            return self.now_s, event
        return None

    def execute(self, command: Command) -> None:
        """Carry a command out; those that take no time of any machine do nothing."""
        hand = self._hands.get(type(command))
        if hand is not None:
            hand(command)

    def _at(self, time_s: float, happen: Callable[[Any], Event | None], what: Any) -> None:
        heapq.heappush(self._queue, (time_s, next(self._tie), happen, what))

    # A gradient's way: pull, compute, push

    def _send(self, command: SendParameters) -> None:
        worker = self.workers[command.worker]
        if command.incarnation != worker.incarnation or worker.joined_s is None:
            return  # on its way to a worker that has gone
        self.pulls += 1
        request = InFlight(worker, command, self.now_s)
        worker.requests[request.sequence] = request
        request.pulled_s = self._pull(worker)
        request.started_s = max(request.pulled_s, worker.free_s)
        work_s = self._work_s * self.settings.gradient.jitter.draw(worker.random)
        work_s, worker.lost_s = work_s + worker.lost_s, 0.0
        request.computed_s = worker.free_s = worker.compute(request.started_s, work_s)
        self._push(request)

    def _pull(self, worker: WorkerMachine) -> float:
        """Every server sends its part, once it has applied the update that was requested last."""
        messages = []
        for server in self.servers:
            begins_s = max(self.now_s, server.ready_s, server.sends.free_s)
            ends_s = server.sends.carry(begins_s, server.part_bytes)
            messages.append((begins_s, ends_s, server.part_bytes))
        messages.sort()
        pulled_s = 0.0
        for begins_s, ends_s, size_bytes in messages:
            received_s = worker.receives.carry(begins_s + self._latency_s, size_bytes)
            pulled_s = max(pulled_s, received_s, ends_s + self._latency_s)
        return pulled_s

    def _push(self, request: InFlight) -> None:
        """One message for each server; workers begin with different ones."""
        worker, servers = request.worker, self.servers
        request.pieces_left = len(servers)
        begins_s = max(request.computed_s, worker.sends.free_s)
        for turn in range(len(servers)):
            server = servers[(worker.number + turn) % len(servers)]
            ends_s = worker.sends.carry(begins_s, server.pushed_bytes)
            message = Transfer(request, server, ends_s + self._latency_s)
            self._at(begins_s + self._latency_s, self._reach, message)
            begins_s = ends_s

    def _reach(self, message: Transfer) -> None:
        """The first byte of a message is at its server."""
        request, server, last_s = message
        if request.is_over:
            return
        received_s = server.receives.carry(self.now_s, server.pushed_bytes)
        request.arrives_s = max(request.arrives_s, received_s, last_s)
        request.pieces_left -= 1
        if not request.pieces_left:
            self._at(request.arrives_s, self._arrive, request)

    def _arrive(self, request: InFlight) -> Event | None:
        if request.is_over:
            return None
        worker = request.worker
        self._end(request)
        self.pushes += 1
        ticket = Ticket(
            worker.number, worker.incarnation, request.sequence, request.base, self.request_size
        )
        return GradientArrived(ticket)

    def _end(self, request: InFlight) -> None:
        """A request has been answered, or abandoned now."""
        request.is_over = True
        worker = request.worker
        del worker.requests[request.sequence]
        worker.computing_s += self._computed_s(request)
        self.timeline.request(request, self.now_s)

    def _computed_s(self, request: InFlight) -> float:
        return max(0.0, min(self.now_s, request.computed_s) - request.started_s)

    # Updates and members

    def _commit(self, command: Commit) -> None:
        self._events_left = self._patience
        costs = self.settings.servers
        machine = self.settings.machine
        computing = self._computing() if machine else []
        speed = machine.server_speed(*self._numbers(computing)) if machine else 1.0
        works_s = []
        for server in self.servers:
            share = server.pushed_bytes / server.part_bytes
            s_per_byte = costs.apply_s_per_byte + len(command.contributions) * (
                costs.combine_s_per_byte * share
            )
            works_s.append(s_per_byte / speed * server.part_bytes)
            begins_s = max(self.now_s, server.ready_s)
            server.ready_s = begins_s + costs.overhead_s + works_s[-1]
            server.applying_s += server.ready_s - begins_s
            self.timeline.update(server.number, command.version, begins_s, server.ready_s)
        if machine:  # added to a worker's next gradient: this one's end is settled
            for worker in computing:
                worker.lost_s += machine.loss(*self._numbers(computing)) * max(works_s)

    def _computing(self) -> list[WorkerMachine]:
        return [worker for worker in self.workers if worker.is_computing(self.now_s)]

    def _numbers(self, computing: Sequence[WorkerMachine]) -> tuple[int, int, int]:
        return len(self.workers), len(computing), len(self.servers)

    def _cancel(self, command: Cancel) -> None:
        worker = self.workers[command.worker]
        request = worker.requests.get(command.sequence)
        if request is None or command.incarnation != worker.incarnation:
            return
        self._end(request)
        self._stop_work(worker)

    def _stop_work(self, worker: WorkerMachine) -> None:
        """Nothing that a worker still had to compute or send occupies it any more."""
        if not worker.requests:
            worker.free_s = min(worker.free_s, self.now_s)
            for port in (worker.sends, worker.receives):
                port.stop(self.now_s)

    def _join(self, worker: WorkerMachine) -> Event:
        worker.incarnation += 1
        worker.joined_s = self.now_s
        if rate_per_s := self.settings.workers.crash_rate_per_s:
            crash_s = self.now_s + worker.fate.expovariate(rate_per_s)
            self._at(crash_s, self._crash, (worker, worker.incarnation))
        return Joined(worker.number, worker.incarnation)

    def _crash(self, what: tuple[WorkerMachine, int]) -> Event | None:
        worker, incarnation = what
        if worker.joined_s is None or worker.incarnation != incarnation:
            return None
        self._leave(worker)
        if rate_per_s := self.settings.workers.rejoin_rate_per_s:
            self._at(self.now_s + worker.fate.expovariate(rate_per_s), self._join, worker)
        return Left(worker.number, incarnation)

    def _dismiss(self, command: Dismiss) -> None:
        worker = self.workers[command.worker]
        if worker.joined_s is not None and worker.incarnation == command.incarnation:
            self._leave(worker)
            self._at(self.now_s + 2 * self._latency_s, self._join, worker)

    def _leave(self, worker: WorkerMachine) -> None:
        for request in list(worker.requests.values()):
            self._end(request)
        self._stop_work(worker)
        self.timeline.left(worker.number)
        assert worker.joined_s is not None
        worker.present_s += self.now_s - worker.joined_s
        worker.joined_s = None

    # What can be asked of it

    def upcoming(self) -> TicketId | None:
        """The request whose gradient will be the next to arrive, as far as is known now."""
        next_s, upcoming = math.inf, None
        for time_s, _, _, what in self._queue:
            request = what.request if isinstance(what, Transfer) else what
            if isinstance(request, InFlight) and not request.is_over and time_s < next_s:
                next_s, upcoming = time_s, request
        return None if upcoming is None else upcoming.key

    @property
    def present_s(self) -> float:
        """Time that workers have been here, summed over them."""
        here = (self.now_s - w.joined_s for w in self.workers if w.joined_s is not None)
        return sum(worker.present_s for worker in self.workers) + sum(here)

    @property
    def computing_s(self) -> float:
        """Time that workers have computed, summed over them."""
        requests = (request for worker in self.workers for request in worker.requests.values())
        done_s = sum(worker.computing_s for worker in self.workers)
        return done_s + sum(self._computed_s(request) for request in requests)
