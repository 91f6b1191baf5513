"""Training on the simulated cluster: time is virtual, every gradient is computed for real."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from distvi.algorithms.base import Algorithm, Params
from distvi.engines.base import Devices, Halted, Problem, Start, TrainState
from distvi.engines.simulated.all_reduce import AllReduceCluster, ring_traffic
from distvi.engines.simulated.cluster import Cluster
from distvi.engines.simulated.settings import SimulatedSettings, cluster_named
from distvi.engines.simulated.timeline import NO_TIMELINE, Timeline
from distvi.engines.simulated.transport import SimulatedTransport, WorkerMemories
from distvi.engines.statistics import Record, Traffic, summary_fields, traffic_of
from distvi.engines.trace import Span
from distvi.parameters import Shards, Store, layout_of, make_shards, place
from distvi.protocol import Observer, Rules, Stragglers, drive, initial_state
from distvi.system.malloc import keep_freed_memory, return_freed_memory


def build(
    settings: SimulatedSettings, problem: Problem, algorithm: Algorithm, start: Start
) -> "SimulatedEngine":
    """An engine on the cluster that settings name; see `distvi.engines.registry`.

    Raises:
        InputError: there are more servers than parameters, or the server rule cannot work on them
            in parts.
    """
    layout = layout_of(problem.shapes)
    assert settings.workers is not None
    assert settings.servers is not None
    placement = place(settings.placement, layout.sizes, settings.servers)
    shards = problem.programs.once(
        "shards", lambda: make_shards(layout, placement, algorithm.server)
    )
    traffic = problem.programs.once("traffic", lambda: traffic_of(shards, algorithm))
    is_ring = settings.exchange == "all-reduce"
    seed, update = f"{problem.seed}", start.update
    kind = AllReduceCluster if is_ring else Cluster
    cluster = kind(
        cluster_named(settings.cluster),
        settings.workers,
        traffic.pulled,
        problem.batch_size,
        seed if not update else f"{seed}, resumed at {update}",
        pushed_bytes=traffic.pushed,
        batches=algorithm.worker.batches,
        timeline=Timeline() if settings.trace else NO_TIMELINE,
        start_s=start.time_s,
    )
    rules = Rules(
        algorithm.scheme, updates=problem.updates, nonfinite_limit=settings.nonfinite_limit
    )
    if is_ring:
        traffic = ring_traffic(settings.workers, sum(traffic.pushed))
    return SimulatedEngine(problem, algorithm, rules, cluster, shards, start, traffic)


class SimulatedEngine:
    """Training on a simulated cluster; see `distvi.engines.base.Engine`.

    A run that is resumed begins with all workers pulling the parameters of the checkpoint: what was
    on its way is computed anew.

    Args:
        problem: What to optimize.
        algorithm: How.
        rules: The scheme and the limits.
        cluster: The times; no event of it has been received.
        shards: Who holds which parameters.
        start: Where to begin.
        traffic: Of each push and pull.
    """

    deterministic = True

    def __init__(
        self,
        problem: Problem,
        algorithm: Algorithm,
        rules: Rules,
        cluster: Cluster,
        shards: Shards,
        start: Start,
        traffic: Traffic,
    ) -> None:
        keep_freed_memory()
        self.observers: list[Observer] = []
        self.timeline = cluster.timeline
        self._record = Record(start.counters)
        names = ("pushed", "pulled", "memories_lost")
        self._before = {name: int(start.counters.get(name, 0)) for name in names}
        self._algorithm, self._rules, self._cluster = algorithm, rules, cluster
        self._batch_size = problem.batch_size
        self._traffic = traffic
        store = Store(
            shards,
            shards.layout.flatten(start.params()),
            start.state,
            start.update,
            programs=problem.programs,
        )
        self._transport = SimulatedTransport(
            problem,
            algorithm.worker,
            cluster,
            store,
            WorkerMemories(algorithm.worker, shards.layout, start.memories, problem.programs),
            self._record.used // len(cluster.workers),
            ahead=rules.scheme.stragglers is Stragglers.FINISH,
        )
        self._state = initial_state(rules, version=start.update, examples=self.examples)

    @property
    def devices(self) -> Devices:
        """The first of JAX's."""
        return jax.devices()[:1]

    @property
    def state(self) -> TrainState:
        """The state after ``update`` updates."""
        store, memories = self._transport.store, self._transport.memories
        return TrainState(store.params, store.state, memories.of_all(len(self._cluster.workers)))

    @property
    def params(self) -> Params:
        """The parameters after ``update`` updates."""
        return self._transport.store.params

    @property
    def update(self) -> int:
        """Updates made since the run began."""
        return self._transport.store.version

    @property
    def examples(self) -> int:
        """Examples in all updates since the run began."""
        return self._record.used * self._batch_size * self._algorithm.worker.batches

    @property
    def compile_time_s(self) -> float:
        """None: it is not virtual."""
        return 0.0

    @property
    def waiting_s(self) -> float:
        """Virtual time in which a worker did not compute, in the mean over the workers."""
        cluster = self._cluster
        return (cluster.present_s - cluster.computing_s) / len(cluster.workers)

    @property
    def spans(self) -> list[Span]:
        """What took time, if the timeline is kept."""
        return self.timeline.spans

    def now_s(self) -> float:
        """Virtual time."""
        return self._cluster.now_s

    @property
    def counters(self) -> dict[str, Any]:
        """What a checkpoint keeps of the contributions so far."""
        counts = {"pushed": self._cluster.pushes, "pulled": self._cluster.pulls}
        if self._transport.memories.has_any:
            counts["memories_lost"] = self._transport.memories.lost
        return self._record.as_json() | {
            name: self._before[name] + count for name, count in counts.items()
        }

    @property
    def statistics(self) -> dict[str, Any]:
        """Its fields of summary.json."""
        shards, algorithm = self._transport.store.shards, self._algorithm
        return summary_fields(
            self._record,
            algorithm,
            shards.placement,
            self._traffic,
            self.counters,
            self._batch_size,
        ) | {"clock": "virtual", "workers": len(self._cluster.workers)}

    def advance(
        self, until: int, interrupted: Callable[[], bool] = lambda: False
    ) -> Float[np.ndarray, " updates"]:
        """Make updates up to number ``until``; see `distvi.engines.base.Engine`.

        Raises:
            Halted: the run cannot go on; the state is that of the last update.
        """
        transport = self._transport
        transport.neg_elbos = []
        self._state = drive(
            self._rules,
            transport,
            state=self._state,
            observers=(self._record, *self.observers),
            pause=lambda state: state.version >= until or interrupted(),
        )
        if self._state.outcome is not None and self.update < until:
            raise Halted(transport.end)
        return np.asarray(transport.neg_elbos, np.float32)

    def __enter__(self) -> "SimulatedEngine":
        return self

    def __exit__(self, *exception: object) -> None:
        return_freed_memory()
