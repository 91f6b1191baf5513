"""Answers that are not to be believed before the numbers they speak of are safe.

A worker says that it has computed a payload when it has pushed it, and the payload arrives by
itself, at each server and then at its backup. The coordinator hears of it when it is everywhere; of
a server's save when its backup has it, too.
"""

from dataclasses import dataclass, field

from distvi.engines.coordinator.fleet import Process
from distvi.engines.coordinator.messages import Computed, Saved
from distvi.engines.ray.messages import Arrived


@dataclass(eq=False)
class _Copies:
    """Which processes of a shard have something.

    Attributes:
        server: Whether the server has it.
        backup: Whether its backup has.
        awaits_backup: Whether that will have it.
    """

    server: bool = False
    backup: bool = False
    awaits_backup: bool = False

    @property
    def are_safe(self) -> bool:
        return self.server and (self.backup or not self.awaits_backup)

    def heard(self, message: Arrived, *, from_backup: bool) -> None:
        if from_backup:
            self.backup = True
        elif not self.server:
            self.server, self.awaits_backup = True, message.is_forwarded

    def promoted(self) -> None:
        """The backup is the server, and has none."""
        self.server, self.backup, self.awaits_backup = self.backup, False, False


@dataclass(eq=False)
class _Payload:
    """A payload on its way.

    Attributes:
        process: Its worker.
        copies: By shard.
        answer: What the worker has said; None: nothing yet.
    """

    process: Process
    copies: list[_Copies]
    answer: Computed | None = None

    @property
    def is_safe(self) -> bool:
        return self.answer is not None and all(each.are_safe for each in self.copies)


@dataclass(eq=False)
class _Save:
    """A server's save on its way.

    Attributes:
        process: The server.
        version: Of what is saved.
        copies: Who has it.
        answer: What the server has said; None: nothing yet.
    """

    process: Process
    version: int
    copies: _Copies = field(default_factory=_Copies)
    answer: Saved | None = None


@dataclass(eq=False)
class Deliveries:
    """All that is on its way.

    Attributes:
        shards: How many servers there are.
    """

    shards: int
    _payloads: dict[int, _Payload] = field(default_factory=dict)
    _saves: dict[int, _Save] = field(default_factory=dict)

    def asked(self, process: Process, request: int) -> None:
        """A worker was asked for a payload."""
        copies = [_Copies() for _ in range(self.shards)]
        self._payloads[request] = _Payload(process, copies)

    def settled(self, request: int) -> None:
        """Nobody waits for a payload any more."""
        self._payloads.pop(request, None)

    def ended(self, process: Process) -> None:
        """A worker is dead: what it pushed is nobody's."""
        own = [number for number, each in self._payloads.items() if each.process is process]
        for number in own:
            del self._payloads[number]

    def computed(self, message: Computed) -> list[tuple[Process, Computed]]:
        """A worker has answered; what is safe now."""
        payload = self._payloads.get(message.request)
        if payload is None:
            return []
        payload.answer = message
        if not message.is_finite:  # it was not pushed
            self.settled(message.request)
            return [(payload.process, message)]
        return self._safe([message.request])

    def saved(self, process: Process, message: Saved) -> list[tuple[Process, Saved]]:
        """A server has saved; what is safe now."""
        self._save_of(process, message.version).answer = message
        return self._safe_save(process.number)

    def arrived(
        self, process: Process, message: Arrived, *, from_backup: bool
    ) -> list[tuple[Process, Computed | Saved]]:
        """A server or its backup has something; what is safe now."""
        shard = process.number
        if message.request:
            payload = self._payloads.get(message.request)
            if payload is None:
                return []
            payload.copies[shard].heard(message, from_backup=from_backup)
            return [*self._safe([message.request])]
        save = self._save_of(process, message.version)
        if save.version == message.version:
            save.copies.heard(message, from_backup=from_backup)
        return [*self._safe_save(shard)]

    def _save_of(self, process: Process, version: int) -> _Save:
        """The server's newest save, which that of this version may be."""
        known = self._saves.get(process.number)
        if known is None or known.version < version:
            known = self._saves[process.number] = _Save(process, version)
        return known

    def promoted(self, shard: int) -> list[tuple[Process, Computed]]:
        """A server is lost, and its backup in its place; what is safe now.

        What only the first had is lost, and its worker pushes it again.
        """
        self._saves.pop(shard, None)
        for payload in self._payloads.values():
            payload.copies[shard].promoted()
        return self._safe(list(self._payloads))

    def alone(self, shard: int) -> list[tuple[Process, Computed | Saved]]:
        """A server has no backup any more; what is safe now."""
        for payload in self._payloads.values():
            payload.copies[shard].awaits_backup = False
        if shard in self._saves:
            self._saves[shard].copies.awaits_backup = False
        return [*self._safe(list(self._payloads)), *self._safe_save(shard)]

    def _safe(self, requests: list[int]) -> list[tuple[Process, Computed]]:
        found = []
        for number in requests:
            payload = self._payloads[number]
            if payload.is_safe:
                assert payload.answer is not None
                found.append((payload.process, payload.answer))
                self.settled(number)
        return found

    def _safe_save(self, shard: int) -> list[tuple[Process, Saved]]:
        save = self._saves.get(shard)
        if save is None or save.answer is None or not save.copies.are_safe:
            return []
        del self._saves[shard]
        return [(save.process, save.answer)]
