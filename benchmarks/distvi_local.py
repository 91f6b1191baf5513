"""The model on an engine of processes.

``python -m benchmarks.distvi_local SCHEME WORKERS SERVERS [local | ray]``.

As elsewhere in `benchmarks.local`, a step is a mini-batch of one worker. The processes of an engine
are idle between two calls of ``advance``.
"""

import sys
import time
from typing import Any

from benchmarks.contender import serve
from benchmarks.distvi_step import Distvi
from benchmarks.profile_local import Account, round_ms
from distvi.engines.coordinator.engine import FleetEngine

SETTLING = 4  # updates: as many as there are requests on their way


class Local(Distvi):
    """One engine per batch size, each with processes of its own.

    Args:
        scheme: sync, async (as it is by default), or async:1 (with so many requests in flight).
        workers: Pinned to a core each, one thread; the batch size is that of one.
        servers: Parameter servers.
        engine: ``local``, or ``ray`` without backups.
    """

    def __init__(self, scheme: str, workers: int, servers: int, engine: str = "local") -> None:
        self._scheme, _, in_flight = scheme.partition(":")
        options: dict[str, Any] = {"in_flight": int(in_flight)} if in_flight else {}
        self._shape = {"workers": workers, "servers": servers}
        own = {"replicas": 0} if engine == "ray" else {}
        shape = self._shape | own
        super().__init__(engine=engine, scheme=self._scheme, scheme_options=options, **shape)
        self._accounts: dict[int, Account] = {}

    def describe(self) -> dict[str, str]:
        shape = {name: str(number) for name, number in self._shape.items()}
        return super().describe() | {"scheme": self._scheme} | shape

    def prepare(self, batch: int) -> None:
        super().prepare(batch)
        self._accounts[batch] = Account(self._engine(batch))  # the processes are ready now

    def run(self, steps: int, batch: int) -> float:
        engine = self._engine(batch)
        steps_per_update = self._shape["workers"] if self._scheme == "sync" else 1
        engine.advance(engine.update + SETTLING)  # gradients that were made since the last turn
        with self._accounts.setdefault(batch, Account(engine)).of(steps):
            before = time.perf_counter()
            engine.advance(engine.update + steps // steps_per_update)
            return time.perf_counter() - before

    def spent(self, batch: int) -> dict[str, dict[str, float]]:
        """Milliseconds of processor time a gradient; in lockstep also what a round consists of."""
        spent_ms = {"processor": self._accounts[batch].spent_ms}
        if self._scheme == "sync":
            spent_ms["round"] = round_ms(self._engine(batch).spans, self._shape["workers"])
        return spent_ms

    def _engine(self, batch: int) -> FleetEngine:
        engine = self._engines[batch]
        assert isinstance(engine, FleetEngine)
        return engine


if __name__ == "__main__":
    with Local(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]) as contender:
        serve(contender)
