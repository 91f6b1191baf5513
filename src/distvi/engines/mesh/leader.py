"""Synchronous training by processes on several hosts; see `distvi.engines.base.Engine`.

The command on the first host leads: it keeps the last state that was asked for, tells the processes
which updates to make, and has all of them begin anew from that state when one is lost. The
updates are functions of the state and their numbers, so the run ends as if nothing had happened.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from distvi.algorithms.base import Algorithm, Params
from distvi.engines.base import Devices, Problem, Start, StateLost, TrainState, has_memory
from distvi.engines.mesh.address import Hosts, hosts_of
from distvi.engines.mesh.calls import Call, Pace, make_calls
from distvi.engines.mesh.hosts.children import Children
from distvi.engines.mesh.hosts.group import Group, Lost, listener
from distvi.engines.mesh.hosts.messages import Assignment, Ready, arrays_like
from distvi.engines.mesh.settings import MeshSettings
from distvi.engines.mesh.statistics import mesh_statistics
from distvi.engines.mesh.updates import RESIDENT, check_cut, state_like
from distvi.engines.status import EngineStatus, WorkerStatus
from distvi.errors import InputError
from distvi.system.compilation_cache import compilation_cache

_LEAST_HEARTBEAT_S = 10
_AHEAD = 2  # calls that the processes know of beyond the one that they make


def hosts_engine(
    settings: MeshSettings,
    problem: Problem,
    algorithm: Algorithm,
    start: Start,
    cache: Path | None = None,
) -> "HostsEngine":
    """An engine as settings describe it, on the host that leads.

    Args:
        settings: Of the engine, written out.
        problem: What to optimize.
        algorithm: How.
        start: Where to begin.
        cache: Folder of compiled programs; None: that of all runs.

    Raises:
        InputError: the batch cannot be cut evenly, no other process can build the problem, or the
            port is taken.
    """
    if problem.recipe is None:
        raise InputError(
            "engine 'mesh' has processes of its own on hosts, which cannot build this problem: "
            f"{problem.no_recipe}. Or leave the hosts out"
        )
    assert settings.hosts is not None
    assert settings.workers is not None
    check_cut(problem.batch_size, settings.workers)
    hosts = hosts_of(settings.hosts, settings.host)
    try:
        listener(hosts).close()
    except OSError as error:
        raise InputError(f"{error}; name another port: --hosts HOST:PORT,...") from error
    children = Children(hosts, problem.examples, settings.silence_s, cache or compilation_cache())
    group = Group(hosts, children, problem.examples, settings.silence_s)
    return HostsEngine(settings, hosts, group, children, problem, algorithm, start)


class HostsEngine:
    """Synchronous training by processes on hosts; see `distvi.engines.base.Engine`.

    Processes are started when the ``with`` block is entered and ended when it is left.

    Args:
        settings: Of the engine.
        hosts: Which processes there are.
        group: All of them.
        children: Those of this machine.
        problem: What to optimize.
        algorithm: How.
        start: Where to begin.
    """

    deterministic = True

    def __init__(
        self,
        settings: MeshSettings,
        hosts: Hosts,
        group: Group,
        children: Children,
        problem: Problem,
        algorithm: Algorithm,
        start: Start,
    ) -> None:
        self._settings, self._problem, self._algorithm = settings, problem, algorithm
        self._hosts, self._group, self._children = hosts, group, children
        self._has_memory = has_memory(algorithm.worker, problem.shapes)
        self._start: Start | None = start
        self._last: Any = None  # the state to begin anew from, once it is known; see `_kept`
        self._kept_update = self._update = self.asked = start.update
        self._ready: list[Ready] = []
        self._pace = Pace()
        self.compile_time_s = self.waiting_s = self._began_s = 0.0
        self._waited_s = 0.0  # by processes that have gone
        self._before = int(start.counters.get("restarts", 0))
        self.restarts, self.incidents = 0, list[str]()
        self._tell: Callable[[str], None] = lambda incident: None

    # The numbers

    @property
    def state(self) -> TrainState:
        """The state after ``update`` updates, from when the ``with`` block was entered."""
        if self._kept_update != self._update:
            self._last = self._given(whole=True)
            self._kept_update = self._update
        params, opt_state, memory = self._kept
        return TrainState(params, opt_state, (memory,) if self._has_memory else ())

    @property
    def params(self) -> Params:
        """The parameters after ``update`` updates."""
        if self._kept_update == self._update:
            return self._kept[0]
        return self._given(whole=False)

    def _given(self, *, whole: bool) -> Any:
        like = self._like if whole else self._problem.shapes
        leaves, tree = jax.tree.flatten(like)
        while True:
            try:
                self._catch_up()
                arrays = self._group.give(self._settings.worker_timeout_s, whole=whole)
                return tree.unflatten(arrays_like(leaves, arrays))
            except Lost as lost:
                self._begin_anew(lost)

    @property
    def _like(self) -> Any:
        rules = self._algorithm.server.init, self._algorithm.worker.init
        return state_like(self._problem.shapes, *rules)

    @property
    def _kept(self) -> Any:
        """The state to begin anew from: parameters, the server rule's and the worker's memory."""
        if self._start is not None:
            self._last, self._start = self._first(self._start), None
        return self._last

    def _first(self, start: Start) -> Any:
        params, state, memory = start.params(), start.state, start.memory(0)
        if state is None:
            state = jax.jit(self._algorithm.server.init)(params)
        if memory is None:
            memory = jax.jit(self._algorithm.worker.init)(params)
        return jax.tree.map(np.array, (params, state, memory))

    # What it has done

    @property
    def devices(self) -> Devices:
        """The first of JAX's: that on which a run is evaluated."""
        return jax.devices()[:1]

    @property
    def update(self) -> int:
        """Updates made since the run began."""
        return self._update

    @property
    def examples(self) -> int:
        """Examples in those updates."""
        return self._update * self._problem.batch_size * self._algorithm.worker.batches

    def now_s(self) -> float:
        """Wall-clock time, without the time in which processes were first started."""
        return time.perf_counter() - self._began_s

    @property
    def counters(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"restarts": self._before + self.restarts}

    @property
    def statistics(self) -> dict[str, Any]:
        """Its fields of summary.json."""
        assert self._settings.workers is not None
        batches, workers = self._algorithm.worker.batches, self._settings.workers
        return mesh_statistics(self._problem, batches, workers, self._update) | {
            "restarts": self._before + self.restarts,
            "incidents": list(self.incidents),
        }

    def status(self) -> EngineStatus:
        """What the processes do at this moment."""
        found = self._group.processes
        workers = []
        for number in range(self._hosts.processes):
            process, state = found.get(number, (0, "starting"))
            state = state or ("computing" if self.asked > self._update else "waiting")
            workers.append(
                WorkerStatus(number, state, process, self._update, 0, replaced=self.restarts)
            )
        return EngineStatus(tuple(workers), (), ())

    def attach(self, logs: Path, tell: Callable[[str], None]) -> None:
        """See `distvi.engines.base.WithProcesses`."""
        self._children.logs, self._tell = logs, tell

    # What it does

    def advance(
        self, until: int, interrupted: Callable[[], bool] = lambda: False
    ) -> Float[np.ndarray, " updates"]:
        """Make updates up to number ``until``; see `distvi.engines.base.Engine`.

        Raises:
            ValueError: that is beyond the last update of the run.
            StateLost: processes were lost too often, or one cannot take part.
        """
        if until > (last := self._problem.updates):
            raise ValueError(f"no update {until} in a run of {last}")
        values = [np.zeros(0, np.float32)]
        while self._update < until and not interrupted():
            try:
                if not self._catch_up(interrupted):
                    break
                for made in make_calls(self, self._pace, until, interrupted, _AHEAD):
                    self._update += len(made)
                    values.append(made)
            except Lost as lost:
                self._begin_anew(lost)
        return np.concatenate(values)

    @property
    def block(self) -> int:
        """See `distvi.engines.mesh.calls.Maker`."""
        return self._ready[0].block

    def ask(self, count: int) -> Call:
        """See `distvi.engines.mesh.calls.Maker`."""
        self._group.make(count)
        self.asked += count
        return Call(self.asked - count, count, time.perf_counter())

    def read(self, call: Call) -> Float[np.ndarray, " updates"]:
        """See `distvi.engines.mesh.calls.Maker`."""
        made = self._group.made(self._settings.worker_timeout_s)
        self.waiting_s = self._waited_s + made.waiting_s
        return np.array(made.values, np.float32)

    def _catch_up(self, interrupted: Callable[[], bool] = lambda: False) -> bool:
        """Have the processes where ``update`` says that they are; False: it was interrupted."""
        if not self._ready:
            if not self._group.gather(interrupted):
                return False
            self._begin()
        while self.asked < self._update:  # made before, to the same values
            for _ in make_calls(self, self._pace, self._update, lambda: False, _AHEAD):
                pass
        return True

    def _begin(self) -> None:
        before_s = time.perf_counter()
        recipe, workers = self._problem.recipe, self._settings.workers
        assert recipe is not None
        assert workers is not None
        assignment = Assignment(
            recipe=(recipe.factory, recipe.settings),
            devices=workers // self._hosts.processes,
            resident=RESIDENT[self._settings.data_on_device],
            coordinator="",
            heartbeat_s=max(_LEAST_HEARTBEAT_S, round(3 * self._settings.silence_s)),
            update=self._kept_update,
        )
        self._ready = self._group.begin(assignment, jax.tree.leaves(self._kept))
        self.compile_time_s += max(ready.compile_time_s for ready in self._ready)
        if not self.restarts:
            self._began_s += time.perf_counter() - before_s

    def _begin_anew(self, lost: Lost) -> None:
        """Start all processes again, from the last state that was asked for."""
        incident = self._group.cause_of(lost)
        self.incidents.append(incident)
        if self.restarts == (most := self._settings.max_restarts):
            raise StateLost(f"{incident}; all {most} restarts have been used") from lost
        self.restarts += 1
        self._tell(f"{incident}; all processes begin anew from update {self._kept_update}")
        self._ready, self.asked, self._waited_s = [], self._kept_update, self.waiting_s
        self._pace = Pace()
        self._group.again()

    def __enter__(self) -> "HostsEngine":
        with ExitStack() as stack:
            stack.enter_context(self._group)
            _ = self._kept  # drawn while processes start: both take a while
            self._open = stack.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._open.__exit__(*exception)
