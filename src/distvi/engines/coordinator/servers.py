"""The servers: what they are told, and what one that starts anew has to catch up with.

A server changes its part in place, in memory of its own; what it knew is gone when it dies. So all
of them save now and then: the servers' state of one version, whose parameters stay in their
slot, goes to a slot too. The updates since are a redo log, whose payloads stay in their slots. A
server that starts begins at the last save and makes the updates of the log again, to the same bits.

References:
    Haerder and Reuter (1983), Principles of transaction-oriented database recovery, section 4.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

from distvi.algorithms.combine import rates
from distvi.engines.coordinator.fleet import Fleet, Process
from distvi.engines.coordinator.messages import Applied, Apply, Begin, Save, Saved
from distvi.engines.coordinator.requests import Requests, RequestSlots, Versions
from distvi.engines.coordinator.status import StatusTracker
from distvi.protocol import Commit

STATE_SLOTS = 2
"""Of the last save, and of the one in the making."""


@dataclass(eq=False)
class Pending:
    """What servers have been told and not all have done.

    Attributes:
        message: What they were told.
        missing: Servers that have not done it.
        since_s: When they were told, or when one was told again; on the machine's clock.
    """

    message: Apply | Save
    missing: set[int]
    since_s: float

    @property
    def what(self) -> str:
        """In words, after "did not"."""
        verb = "make update" if isinstance(self.message, Apply) else "save version"
        return f"{verb} {self.message.version}"


class Logged(NamedTuple):
    """An update since the last save, and the requests whose payloads it was made of."""

    message: Apply
    requests: list[RequestSlots]


@dataclass(eq=False)
class Servers:
    """All servers.

    Attributes:
        count: How many there are.
        fleet: Their processes.
        versions: Slots of the parameters.
        requests: That have slots of payloads.
        tracker: Told what happens when.
        most_kept: Once so many contributions are in the log, the servers save.
        clock: The machine's.
        update: The update in the making.
        saving: The save in the making.
        log: Updates since the last save.
    """

    count: int
    fleet: Fleet
    versions: Versions
    requests: Requests
    tracker: StatusTracker
    most_kept: int
    clock: Callable[[], float] = perf_counter
    update: Pending | None = None
    saving: Pending | None = None
    log: list[Logged] = field(default_factory=list)
    _commit: Commit | None = None

    def __post_init__(self) -> None:
        self.saved = Begin(self.versions.newest, self.versions.read(self.versions.newest), state=0)
        self._next = self.saved

    @property
    def are_ready(self) -> bool:
        """Whether each of them can be told something."""
        servers = self.fleet.of("server")
        return len(servers) == self.count and all(server.is_ready for server in servers)

    # Updates

    @property
    def are_free(self) -> bool:
        """Whether an update can begin."""
        return self.update is None and self.are_ready

    @property
    def commit(self) -> Commit | None:
        """The command of the update in the making."""
        return self._commit

    def make(self, command: Commit) -> None:
        """Begin an update."""
        rate, factors = rates(command.contributions)
        requests = [self.requests.of(each.ticket) for each in command.contributions]
        message = Apply(
            version=command.version,
            target=self.versions.promise(command.version),
            payloads=tuple(request.payload for request in requests),
            factors=factors,
            bases=tuple(r.parameters for r in requests) if self.requests.keeps_base else (),
            rate=rate,
        )
        self._commit, self.update = command, self._told(message)

    def applied(self, server: int, message: Applied) -> Commit | None:
        """A server has made its part; the command, if that was the last part."""
        pending, command = self.update, self._commit
        if pending is None or command is None or message.version != pending.message.version:
            return None
        pending.missing.discard(server)
        self.tracker.applied(server, message)
        if pending.missing:
            return None
        assert isinstance(pending.message, Apply)
        self.versions.publish()
        requests = [self.requests.of(each.ticket) for each in command.contributions]
        for request in requests:
            request.is_kept = True
        self.log.append(Logged(pending.message, requests))
        self.update = self._commit = None
        if sum(len(entry.requests) for entry in self.log) >= self.most_kept:
            self.save()
        return command

    # Saves

    @property
    def is_saved(self) -> bool:
        """Whether the last save is of the newest version."""
        return not self.log

    def save(self) -> None:
        """Begin to save the newest version, unless that is done or another save is not."""
        if self.saving is not None or self.is_saved:
            return
        version, state = self.versions.newest, (self.saved.state + 1) % STATE_SLOTS
        self._next = Begin(version, self.versions.read(version), state)
        self.saving = self._told(Save(version, state))

    def has_saved(self, server: int, message: Saved) -> None:
        """A server's part is in its slot. With the last part, the log is shorter."""
        pending = self.saving
        if pending is None or message.version != pending.message.version:
            return
        pending.missing.discard(server)
        self.tracker.saved(server, message)
        if pending.missing:
            return
        self.versions.release(self.saved.parameters)
        self.saved, self.saving = self._next, None
        old = [entry for entry in self.log if entry.message.version <= self.saved.version]
        del self.log[: len(old)]
        for request in (request for entry in old for request in entry.requests):
            self.requests.release(request)

    # Faults

    def started(self, process: Process) -> None:
        """A server is ready: tell it how to be where the others are, and what it has not done.

        A save in the making waits for it, even if the server before it had done its part: what
        the server reads now must stay as it is.
        """
        if self.saving is not None:
            self.saving.missing.add(process.number)
        self.fleet.send(process, self.saved)
        for message in self._missed(process.number):
            self.fleet.send(process, message)
        for pending in (self.update, self.saving):
            if pending is not None and process.number in pending.missing:
                pending.since_s = self.clock()

    def _missed(self, server: int) -> Iterator[Apply | Save]:
        for message, _ in self.log:
            yield self._again(message)
            if self.saving is not None and message.version == self.saving.message.version:
                yield self.saving.message
        if self.update is not None:
            assert isinstance(self.update.message, Apply)
            has_made = server not in self.update.missing
            yield self._again(self.update.message) if has_made else self.update.message

    def _again(self, message: Apply) -> Apply:
        return message.again(is_written=self.fleet.shares_memory)

    def overdue(self, worker_timeout_s: float) -> list[tuple[Process, str]]:
        """Servers that have not done what they were told so long ago, and what that is."""
        now_s, found = self.clock(), []
        late = [t for t in (self.update, self.saving) if t and now_s - t.since_s > worker_timeout_s]
        for server in self.fleet.of("server"):
            tasks = [pending for pending in late if server.number in pending.missing]
            if tasks and server.is_ready:
                found.append((server, tasks[0].what))
        return found

    def _told(self, message: Apply | Save) -> Pending:
        for server in self.fleet.of("server"):
            if server.is_ready:  # others will be told when they are
                self.fleet.send(server, message)
        return Pending(message, set(range(self.count)), self.clock())
