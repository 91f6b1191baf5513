"""Faults that strike the processes of a local engine while it trains; see `benchmarks.soak`."""

import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from distvi.engines.coordinator.engine import FleetEngine
from distvi.protocol import Dismiss, Entry, State

FAULTS = {
    "kill worker": 6,
    "kill server": 3,
    "kill all workers": 1,
    "stop worker": 3,
    "stop server": 2,
    "interrupt": 2,
}


class Fault(NamedTuple):
    """What happens, to whom, at which of a round's events, and how long it lasts."""

    kind: str
    victim: int
    event: int
    delay_s: float
    lasts_s: float


def draw_faults(rng: random.Random) -> list[Fault]:
    """The faults of a round."""
    kinds = rng.choices(list(FAULTS), list(FAULTS.values()), k=rng.randint(1, 3))
    return [
        Fault(kind, rng.randrange(6), rng.randint(1, 60), rng.uniform(0, 0.02), rng.uniform(0, 5))
        for kind in kinds
    ]


@dataclass(eq=False)
class Strikes:
    """An observer that carries faults out and keeps the journal of a round."""

    engine: FleetEngine
    faults: list[Fault] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    journal: list[tuple[Entry, State, tuple[Any, ...]]] = field(default_factory=list)
    is_interrupted: bool = False
    _timers: list[threading.Timer] = field(default_factory=list)

    def __call__(self, now_s: float, event: Any, state: State, commands: tuple[Any, ...]) -> None:
        """Take notice of an event."""
        self.journal.append((Entry(now_s, event), state, commands))
        self.done["dismissals"] += sum(isinstance(command, Dismiss) for command in commands)
        due = [fault for fault in self.faults if fault.event <= len(self.journal)]
        for fault in due:
            self.faults.remove(fault)
            self._strike(fault)

    def _strike(self, fault: Fault) -> None:
        if fault.kind == "interrupt":
            self.done["interrupt"] += 1
            self.is_interrupted = True
            return
        for handle in self._victims(fault):
            self.done[fault.kind] += 1
            act = self._stop if fault.kind.startswith("stop") else self._kill
            timer = threading.Timer(fault.delay_s, act, [handle, fault.lasts_s])
            self._timers.append(timer)
            timer.start()

    @staticmethod
    def _kill(handle: int, lasts_s: float) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)

    @staticmethod
    def _stop(handle: int, lasts_s: float) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGSTOP)
            time.sleep(lasts_s)
            signal.pidfd_send_signal(handle, signal.SIGCONT)
        os.close(handle)

    def _victims(self, fault: Fault) -> list[int]:
        now = self.engine.status()
        those = now.servers if fault.kind.endswith("server") else now.workers
        if fault.kind != "kill all workers":
            those = [those[fault.victim % len(those)]]
        handles = []
        for victim in those:
            if victim.process:
                with suppress(ProcessLookupError):  # its end has not been heard of yet
                    handles.append(os.pidfd_open(victim.process))
        return handles

    @property
    def is_over(self) -> bool:
        """Whether nothing more will strike in this round."""
        return not self.faults and not any(timer.is_alive() for timer in self._timers)

    def end_round(self) -> None:
        """Let the last of it happen, and begin another."""
        for timer in self._timers:
            timer.join()
        self._timers.clear()
        self.journal.clear()
