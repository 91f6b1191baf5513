"""The model on the ``local`` engine: ``python -m benchmarks.distvi_local SCHEME WORKERS SERVERS``.

As elsewhere in `benchmarks.local`, a step is a mini-batch of one worker.
"""

import sys
import time

from benchmarks.contender import serve
from benchmarks.distvi_step import UPDATES, Distvi
from benchmarks.profile_local import Account, round_ms
from distvi import distributed
from distvi.config.algorithm import AlgorithmSettings
from distvi.engines import Engine
from distvi.engines.local import LocalEngine
from distvi.engines.local.settings import LocalSettings
from distvi.training.plan import Setup

SETTLING = 4  # updates: as many as there are orders


def local_engine(setup: Setup, *, scheme: str, workers: int, servers: int, last: int) -> Engine:
    """The engine, not yet entered; between two calls of ``advance`` its processes are idle.

    Args:
        setup: The model, the data and the settings, as for any engine; ``batch_size`` is that of
            one worker.
        scheme: sync, async (as it is by default), or async:1 (with so many orders at a time).
        workers: Pinned to a core each, one thread.
        servers: Parameter servers.
        last: Updates of the whole run; more than will be made.
    """
    name, _, orders = scheme.partition(":")
    settings = LocalSettings(workers=workers, servers=servers)
    options: dict[str, int | str] = {"in_flight": int(orders)} if orders else {}
    algorithm = AlgorithmSettings(scheme=name, scheme_options=options)
    params = setup.initial_params()
    problem, recipe = setup.problem(params), setup.recipe()
    return distributed.local_engine(
        distributed.prepare_deployment(settings, algorithm), problem, params, recipe, last=last
    )


class Local(Distvi):
    """One engine per batch size, each with processes of its own."""

    def __init__(self, scheme: str, workers: int, servers: int) -> None:
        super().__init__()
        self._scheme, self._workers, self._servers = scheme, workers, servers
        self._accounts: dict[int, Account] = {}

    def describe(self) -> dict[str, str]:
        shape = {"workers": str(self._workers), "servers": str(self._servers)}
        return super().describe() | {"scheme": self._scheme} | shape

    def prepare(self, batch: int) -> None:
        super().prepare(batch)
        self._accounts[batch] = Account(self._engines[batch])  # the processes are ready now

    def run(self, steps: int, batch: int) -> float:
        engine = self._engines[batch]
        steps_per_update = self._workers if self._scheme == "sync" else 1
        engine.advance(engine.update + SETTLING)  # gradients that were made since the last turn
        with self._accounts.setdefault(batch, Account(engine)).of(steps):
            before = time.perf_counter()
            engine.advance(engine.update + steps // steps_per_update)
            return time.perf_counter() - before

    def spent(self, batch: int) -> dict[str, dict[str, float]]:
        """Milliseconds of processor time a gradient; in lockstep also what a round consists of."""
        engine, spent_ms = self._engines[batch], {"processor": self._accounts[batch].spent_ms}
        assert isinstance(engine, LocalEngine)
        if self._scheme == "sync":
            spent_ms["round"] = round_ms(engine.spans, self._workers)
        return spent_ms

    def _engine(self, setup: Setup) -> Engine:
        return local_engine(
            setup,
            scheme=self._scheme,
            workers=self._workers,
            servers=self._servers,
            last=UPDATES,
        )


if __name__ == "__main__":
    with Local(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])) as contender:
        serve(contender)
