"""The machines of the simulated cluster: what they are at, and until when.

Times are virtual; nothing here knows what happens next.
"""

from random import Random
from typing import NamedTuple

from distvi.engines.simulated.settings import ClusterSettings, SlowSpells
from distvi.protocol import SendParameters, TicketId


class Port:
    """One direction of an interface: it carries messages in the order of their first bytes.

    Attributes:
        free_s: When it will have carried all messages so far.
        busy_s: Time it is occupied by them, over the whole run.
    """

    __slots__ = ("_s_per_byte", "_since_s", "busy_s", "free_s")

    def __init__(self, bandwidth_bytes_per_s: float) -> None:
        self._s_per_byte = 1.0 / bandwidth_bytes_per_s
        self.free_s = self._since_s = 0.0
        self.busy_s = 0.0

    def carry(self, first_s: float, size_bytes: int) -> float:
        """Occupy the port for a message whose first byte is there at ``first_s``; when it ends."""
        duration_s = size_bytes * self._s_per_byte
        self.busy_s += duration_s
        if first_s > self.free_s:  # there is a pause before it
            self.free_s = self._since_s = first_s
        self.free_s += duration_s
        return self.free_s

    def busy_until_s(self, now_s: float) -> float:
        """Time it was occupied up to now."""
        return self.busy_s - max(0.0, self.free_s - max(self._since_s, now_s))

    def stop(self, now_s: float) -> None:
        """Nothing that it had still to carry occupies it any more."""
        self.busy_s = self.busy_until_s(now_s)
        self.free_s = min(self.free_s, now_s)


class InFlight:
    """A gradient on its way: parameters pulled, computed, pushed."""

    __slots__ = (
        "arrives_s", "base", "computed_s", "is_over", "lane", "pieces_left", "pulled_s", "sent_s",
        "sequence", "started_s", "worker",
    )  # fmt: skip

    def __init__(self, worker: "WorkerMachine", command: SendParameters, now_s: float) -> None:
        self.worker = worker
        self.sequence, self.base = command.sequence, command.version
        self.lane = 0
        while any(request.lane == self.lane for request in worker.requests.values()):
            self.lane += 1
        self.sent_s = now_s
        self.pulled_s = self.started_s = self.computed_s = self.arrives_s = now_s
        self.pieces_left = 0
        self.is_over = False

    @property
    def key(self) -> TicketId:
        """Of the ticket that its gradient will have."""
        return (self.worker.number, self.worker.incarnation, self.sequence)


class Transfer(NamedTuple):
    """What one server gets of a gradient; ``last_s``: when its last byte can be there."""

    request: InFlight
    server: "ServerMachine"
    last_s: float


class WorkerMachine:
    """A worker's machine."""

    def __init__(self, number: int, settings: ClusterSettings, seed: int | str) -> None:
        workers = settings.workers
        bandwidth = workers.bandwidth_bytes_per_s
        self.number, self.incarnation = number, -1
        self.speed = workers.speeds[number % len(workers.speeds)]
        self.receives = Port(bandwidth[number % len(bandwidth)])
        self.sends = Port(bandwidth[number % len(bandwidth)])
        self.random = Random(f"{seed}/{number}/gradients")
        self.fate = Random(f"{seed}/{number}/crashes")
        self.spells = None
        if workers.slow_spells is not None:
            self.spells = Spells(workers.slow_spells, Random(f"{seed}/{number}/spells"))
        self.free_s = self.lost_s = 0.0
        self.requests: dict[int, InFlight] = {}
        self.joined_s: float | None = None
        self.present_s = 0.0
        self.computing_s = 0.0

    def compute(self, start_s: float, work_s: float) -> float:
        """When work that begins at ``start_s`` ends."""
        work_s /= self.speed
        return start_s + work_s if self.spells is None else self.spells.end_s(start_s, work_s)

    def is_computing(self, now_s: float) -> bool:
        """Whether it is at work on a request."""
        return any(
            request.started_s <= now_s < request.computed_s for request in self.requests.values()
        )


class Spells:
    """A worker's slow spells: exponential gaps, exponential lengths."""

    def __init__(self, settings: SlowSpells, random: Random) -> None:
        self._settings, self._random = settings, random
        self._begin_s = self._end_s = 0.0

    def end_s(self, start_s: float, work_s: float) -> float:
        """When work ends that takes ``work_s`` at full speed; calls go forward in time."""
        slowdown, now_s = self._settings.slowdown, start_s
        if not self._settings.rate_per_s:
            return start_s + work_s
        while True:
            while self._end_s <= now_s:
                self._begin_s = self._end_s + self._random.expovariate(self._settings.rate_per_s)
                self._end_s = self._begin_s + self._random.expovariate(1 / self._settings.mean_s)
            if now_s < self._begin_s:
                if now_s + work_s <= self._begin_s:
                    return now_s + work_s
                work_s -= self._begin_s - now_s
                now_s = self._begin_s
            if now_s + work_s * slowdown <= self._end_s:
                return now_s + work_s * slowdown
            work_s -= (self._end_s - now_s) / slowdown
            now_s = self._end_s


class ServerMachine:
    """A parameter server's machine."""

    def __init__(
        self, number: int, settings: ClusterSettings, part_bytes: int, pushed_bytes: int
    ) -> None:
        bandwidth = settings.servers.bandwidth_bytes_per_s
        self.number, self.part_bytes, self.pushed_bytes = number, part_bytes, pushed_bytes
        self.receives = Port(bandwidth[number % len(bandwidth)])
        self.sends = Port(bandwidth[number % len(bandwidth)])
        self.ready_s = 0.0
        self.applying_s = 0.0
