"""Ray: where processes are started, and what is known of their ends."""

import contextlib
import os
import signal
import threading
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import ray
import ray._private.state as ray_state  # which machines are about to go, and what is free on each
import ray._private.worker as ray_worker  # for the one thing that Ray has no setting for
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from distvi.engines.base import Halted
from distvi.engines.ray.actor import Actor
from distvi.engines.ray.address import endpoint
from distvi.engines.ray.assignment import Assignment
from distvi.errors import InputError

_ANSWER_S = 60.0  # for a machine
_NICENESS = "RAY_worker_niceness"


class Launcher:
    """A connection to Ray; a context.

    Args:
        address: Of a cluster; ``local``: an instance for this run.
        cores: That an instance for this run says it has, so that all processes fit.
    """

    def __init__(self, address: str, cores: int) -> None:
        self._address, self._cores = address, cores
        self._refs: dict[str, Any] = {}
        self._actors: dict[str, Any] = {}
        self._was_connected = False

    def __enter__(self) -> "Launcher":
        self._was_connected = ray.is_initialized()
        if self._was_connected:
            return self
        options: dict[str, Any] = {
            "log_to_driver": False,
            "logging_level": "ERROR",
            "include_dashboard": False,
        }
        if self._address == "local":
            os.environ.setdefault(_NICENESS, "0")
            options |= {"num_cpus": self._cores, "_node_ip_address": "127.0.0.1"}
        else:
            del options["include_dashboard"]
        try:
            with _quietly():
                ray.init(address=self._address, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            hint = (
                ""
                if self._address == "local"
                else "; is it there, and does it want a token "
                "(RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH)?"
            )
            where = f"cannot join the Ray cluster at {self._address}"
            raise InputError(f"{where}: {_first(error)}{hint}") from error
        return self

    def __exit__(self, *exception: object) -> None:
        for name in list(self._actors):
            self.kill(name)
        if not self._was_connected:
            ray.shutdown()

    @property
    def endpoint(self) -> str:
        """Where this process may listen for the others."""
        return endpoint(is_alone=self._address == "local")

    @property
    def nodes(self) -> list[str]:
        """Machines that are there, in a fixed order."""
        return sorted(node["NodeID"] for node in ray.nodes() if node["Alive"])

    def nodes_with(self, resource: str) -> list[str]:
        """Machines that are there and have some of a resource, in a fixed order."""
        found = (node for node in ray.nodes() if node["Alive"] and resource in node["Resources"])
        return sorted(node["NodeID"] for node in found)

    def free_by_node(self) -> Mapping[str, Mapping[str, float]]:
        """What is free on each machine, such as ``CPU`` and ``GPU``."""
        return ray_state.available_resources_per_node()

    def draining(self) -> Collection[str]:
        """Machines that are about to be taken away: ``ray start`` there was sent SIGTERM."""
        return () if self._address == "local" else ray_state.state.get_draining_nodes().keys()

    def everywhere(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """What a function returns on each machine.

        Raises:
            Halted: one of these does not answer.
        """
        nodes = self.nodes
        refs = [
            ray.remote(function)
            .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, False))
            .remote(*arguments)
            for node in nodes
        ]
        try:
            return dict(zip(nodes, ray.get(refs, timeout=_ANSWER_S), strict=True))
        except ray.exceptions.RayError as error:
            raise Halted(
                f"a machine of the Ray cluster does not answer: {_first(error)}"
            ) from error

    def share(self, array: np.ndarray) -> Any:
        """An array that processes on all machines can have; each machine has it once."""
        return ray.put(np.ascontiguousarray(array))

    def launch(
        self,
        assignment: Assignment,
        x: Any,
        y: Any,
        *,
        node: str = "",
        resources: Mapping[str, float],
    ) -> None:
        """Start a process.

        Args:
            assignment: What it is to do.
            x: From `share`.
            y: From `share`.
            node: Where; empty: where Ray finds room.
            resources: ``num_cpus`` and ``num_gpus``.
        """
        strategy: Any = "SPREAD" if not node else NodeAffinitySchedulingStrategy(node, soft=False)
        options = {
            **resources,
            "max_restarts": 0,
            "max_task_retries": 0,  # else Ray would call again by itself
            "scheduling_strategy": strategy,
        }
        actor: Any = ray.remote(Actor).options(**options).remote()
        self._actors[assignment.name] = actor
        run = actor.run.remote(assignment.environment, tuple(assignment), x, y)
        self._refs[assignment.name] = run

    def kill(self, name: str) -> None:
        """End a process, if it is there."""
        self._refs.pop(name, None)
        actor = self._actors.pop(name, None)
        if actor is not None:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(actor, no_restart=True)

    def ended(self) -> Iterable[tuple[str, str]]:
        """Processes that have ended, and how, in words."""
        names = {ref: name for name, ref in self._refs.items()}
        if not names:
            return
        done, _ = ray.wait(list(names), num_returns=len(names), timeout=0)
        for ref in done:
            yield names[ref], _how(ref)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Let Ray change as little as can be of the process that it is started in.

    It forks to start its processes, and JAX warns of every fork; nothing of JAX is done between
    that and the program that is started. It takes SIGTERM for itself, which is to leave a
    checkpoint. And it prints on standard output what becomes of processes, where `--json` has its
    answer: an engine tells that by itself.
    """
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if is_main else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield
    if handler is not None:
        signal.signal(signal.SIGTERM, handler)
    ray_worker.print_to_stdstream = lambda *arguments, **options: None


def _how(ref: Any) -> str:
    try:
        ray.get(ref, timeout=0)
    except ray.exceptions.RayError as error:
        return f"ended: {_first(error)}"
    return "ended by itself"


def _first(error: Exception) -> str:
    """The first line of an error that has something to say."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)
