"""The machines of a Ray cluster: which has room, which is about to go, and what runs where."""

import math
import time
from collections.abc import Collection
from typing import Any

import numpy as np

from distvi.engines.base import Halted
from distvi.engines.coordinator.environment import worker_environment
from distvi.engines.ray.launcher import Launcher
from distvi.engines.ray.rows import Rows, difference
from distvi.engines.ray.settings import SERVERS_HERE, RaySettings

_SUSPECT_S = 120.0  # Ray has noticed a dead machine by then


class Machines:
    """Where the processes of a run may be.

    Args:
        settings: Written out.
        ray: The connection to Ray.
    """

    def __init__(self, settings: RaySettings, ray: Launcher) -> None:
        self._settings, self._ray = settings, ray
        self._needs = {"CPU": settings.cpus_per_worker, "GPU": settings.gpus_per_worker}
        self._room = 0
        self._suspects: dict[str, float] = {}

    def check(self) -> None:
        """Whether there is room for the workers that are needed; Ray itself would wait for ever.

        Raises:
            Halted: there is not.
        """
        least, self._room = self._settings.min_workers, self._count()
        assert least is not None
        if self._room < least:
            each = self._ray.free_by_node().values()
            free = " and ".join(
                f"{sum(node.get(name, 0.0) for node in each):g} {name} free"
                for name, need in self._needs.items()
                if need
            )
            raise Halted(
                f"the Ray cluster has {free}, room for {self._room} workers, and this run needs "
                f"{least}: choose fewer workers, give each less, or add machines"
            )

    def offer(self, x: np.ndarray) -> Any:
        """How processes get the training inputs: the fields of `Rows`, or what Ray shares.

        Raises:
            Halted: a machine does not see the file by which it is to have them.
        """
        rows = None if self._settings.data_from == "coordinator" else Rows.of(x)
        if rows is None:
            return self._ray.share(x)
        found = self._ray.everywhere(difference, tuple(rows))
        wrong = {node: each for node, each in found.items() if each}
        if wrong and self._settings.data_from == "file":
            node, what = next(iter(wrong.items()))
            raise Halted(
                f"{len(wrong)} machines of the cluster do not see the training inputs in "
                f"{rows.path}, such as {node[:8]}: {what}; mount that folder there, or give "
                "--data-from coordinator"
            )
        return self._ray.share(x) if wrong else tuple(rows)

    def _count(self) -> int:
        """Workers for which there is room."""
        gone = self.draining()
        return sum(
            min(int(free.get(name, 0.0) // need) for name, need in self._needs.items() if need)
            for node, free in self._ray.free_by_node().items()
            if node not in gone
        )

    def have_room(self, freed_on: str | None) -> bool:
        """Whether a worker that is started now begins at once.

        Args:
            freed_on: Machine of its predecessor, which has just ended: Ray gives the cores back
                soon. None: it is the first; there is as much room as was counted before them all.
        """
        if freed_on is None:
            self._room -= 1
            return self._room >= 0
        is_freed = freed_on in self._ray.nodes and freed_on not in self.draining()
        return is_freed or self._count() > 0

    def of_worker(self) -> tuple[dict[str, str], dict[str, float]]:
        """A worker's environment and resources."""
        environment = worker_environment(0, [])
        if not self._settings.gpus_per_worker:
            environment["JAX_PLATFORMS"] = "cpu"
        return environment, {"num_cpus": self._needs["CPU"], "num_gpus": self._needs["GPU"]}

    def for_server(self, shard: int, *, is_backup: bool, not_on: str) -> str:
        """Servers are spread over the machines; a backup is elsewhere, where there is elsewhere.

        Over those that are meant for servers, or over all where none is.

        Args:
            shard: The server's number.
            is_backup: Whether it is a backup.
            not_on: Machine of the server that it is a backup of, if that is known.
        """
        nodes, gone = self._ray.nodes_with(SERVERS_HERE) or self._ray.nodes, self.draining()
        staying = [node for node in nodes if node not in gone]
        trusted = [node for node in staying if not self._is_suspect(node)]
        elsewhere = ([node for node in some if node != not_on] for some in (trusted, staying))
        found = next(filter(None, (*elsewhere, staying)), nodes)
        return found[(shard + (is_backup and not not_on)) % len(found)]

    def can_take(self, *, not_on: str) -> bool:
        """Whether a server can go to another machine that stays."""
        gone = self.draining()
        return any(node not in gone for node in self._ray.nodes if node != not_on)

    def draining(self) -> Collection[str]:
        """Machines that are about to be taken away."""
        return self._ray.draining()

    def suspect(self, node: str) -> None:
        """A process was lost on a machine, which may be dead without Ray's knowing it yet."""
        self._suspects[node] = time.monotonic()

    def _is_suspect(self, node: str) -> bool:
        return time.monotonic() - self._suspects.get(node, -math.inf) < _SUSPECT_S
