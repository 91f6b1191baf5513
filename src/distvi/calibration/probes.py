"""Real runs that are timed, the calibration that comes of them, and its file.

The engines of all arrangements take turns, because a machine's speed drifts by more than what is
measured.
"""

import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distvi.aggregation import scheme_named
from distvi.calibration.costs import fit
from distvi.calibration.observations import Arrangement, Interplay, Observation
from distvi.config.algorithm import AlgorithmSettings
from distvi.config.run import RunConfig
from distvi.engines.base import Start
from distvi.engines.coordinator.engine import FleetEngine
from distvi.engines.coordinator.environment import cores, gpus
from distvi.engines.local.settings import LocalSettings
from distvi.engines.registry import ENGINES
from distvi.engines.simulated.settings import ClusterSettings
from distvi.errors import InputError, RunFailed
from distvi.parameters import layout_of, make_shards, place
from distvi.system.files import replace_bytes
from distvi.system.settings import write_toml
from distvi.training.plan import Plan
from distvi.training.prepare import prepare

_ROUNDS, _ROUND_S = 5, 0.7
_WARM_UP = 4  # updates before anything is timed
_NO_END = 2**31
_RATIO = 2  # between the batch sizes
_LEAST_EXAMPLES = _RATIO**2


@dataclass(frozen=True, eq=False)
class Calibration:
    """A cluster, and the times that it was fitted to.

    Attributes:
        cluster: What it costs.
        observations: The times.
        dataset: Name of the data that were trained on.
    """

    cluster: ClusterSettings
    observations: tuple[Observation | Interplay, ...]
    dataset: str

    @property
    def what(self) -> str:
        """What was measured, in words."""
        workers = max(each.arrangement.workers for each in self.observations)
        servers = sorted({each.arrangement.servers for each in self.observations})
        sizes = [each.arrangement.batch_size for each in self.observations]
        return (
            f"{self.dataset} with {workers} worker{'s' * (workers > 1)}, "
            f"{' or '.join(map(str, servers))} server{'s' * (servers[-1] > 1)} and "
            f"batches of {min(sizes)} to {max(sizes)}"
        )

    def as_json(self) -> dict[str, Any]:
        """The costs, and the means of the times."""
        observations = [each.as_json() for each in self.observations]
        return {"cluster": self.cluster.model_dump(), "observations": observations}


def check_new_file(path: Path) -> None:
    """Refuse a file that is there already, or cannot be written.

    Raises:
        InputError: one of these.
    """
    if path.exists():
        raise InputError(f"{path} exists already and is never overwritten; choose another --out")
    try:
        with tempfile.TemporaryFile(dir=path.parent):  # an attempt tells more than permission bits
            pass
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def write(path: Path, calibration: Calibration) -> None:
    """Write the file for `distvi.engines.simulated.cluster_named`.

    Raises:
        RunFailed: the disk does not take it.
    """
    text = write_toml(calibration.cluster.model_dump())
    try:
        replace_bytes(
            path, f"# Measured by distvi calibrate: {calibration.what}.\n\n{text}".encode()
        )
    except OSError as error:
        raise RunFailed(f"cannot write {path}: {error.strerror}") from error


def calibrate(
    config: RunConfig, watched: Callable[[Sequence["Probe"]], Iterable["Probe"]] = iter
) -> Calibration:
    """Measure this machine with a model and data.

    Args:
        config: Of a run with the local engine. Three batch sizes around its own are measured, with
            its numbers of workers and servers; and one worker alone, and another number of
            servers where the optimizer can have that. Its scheme and its length do not matter.
        watched: Given all turns, once the processes are ready; gives them one after the other.

    Raises:
        InputError: see `distvi.training.prepare.prepare`; or another engine, or too few examples.
        RunFailed: the local engine cannot train on these data with these settings.
    """
    plan = prepare_probes(config)
    with probing(plan) as probes:
        for probe in watched([*probes] * _ROUNDS):
            probe.take_turn()
    return conclude(plan, probes)


def prepare_probes(config: RunConfig) -> Plan:
    """What the probes have in common.

    Raises:
        InputError: see `calibrate`.
    """
    if not isinstance(config.engine, LocalSettings):
        raise InputError(
            f"engine '{config.engine.kind}' has no processes to be measured; use --engine local"
        )
    engine = config.engine.model_copy(update={"journal": False, "trace": False})
    plain = {"engine": engine, "algorithm": AlgorithmSettings(scheme="sync")}
    return prepare(config.model_copy(update=plain))


def arrangements(plan: Plan) -> list[Arrangement]:
    """What is measured, for a run.

    Raises:
        InputError: too few examples.
    """
    settings = plan.config.engine
    assert isinstance(settings, LocalSettings)
    workers, servers = settings.workers, settings.servers
    assert workers is not None
    assert servers is not None
    examples = len(plan.dataset.train)
    if examples < _LEAST_EXAMPLES:
        raise InputError(
            f"{plan.dataset.name} has {examples} training examples; to see how the batch matters, "
            f"{_LEAST_EXAMPLES} are needed at least"
        )
    largest = min(_RATIO * max(plan.batch_size, _RATIO), examples)
    middle, smallest = largest // _RATIO, largest // _RATIO**2
    found = [Arrangement(workers, servers, size) for size in (smallest, middle, largest)]
    others = 2 if servers == 1 else 1
    if not gpus() and _can_have(plan, others):
        found.append(Arrangement(workers, others, middle))
    if workers > 1:
        found += [Arrangement(1, servers, middle), Arrangement(workers, servers, smallest, "async")]
    return found


class Probe:
    """An arrangement at work.

    Args:
        engine: It has been entered.
        arrangement: What it runs.
    """

    def __init__(self, engine: FleetEngine, arrangement: Arrangement) -> None:
        kind = Observation if arrangement.scheme == "sync" else Interplay
        self.observation = kind(arrangement)
        self._engine = engine
        self._advance(_WARM_UP)
        self._update_s = self._advance(_WARM_UP) / _WARM_UP

    def take_turn(self) -> None:
        """Train for a moment and keep the times."""
        first = self._engine.update + 1  # gradients on the present version are there already
        updates = math.ceil(_ROUND_S / self._update_s)
        self._advance(1 + updates)
        self.observation.add(self._engine.spans, first, first + updates)

    def _advance(self, updates: int) -> float:
        begin_s = time.perf_counter()
        self._engine.advance(self._engine.update + updates)
        span_s = time.perf_counter() - begin_s
        time.sleep(span_s / updates)  # workers go on with the next gradient
        return span_s


@contextmanager
def probing(plan: Plan) -> Iterator[list[Probe]]:
    """Everything that is measured; processes run as long as the block.

    Args:
        plan: From `prepare_probes`.

    Raises:
        InputError: too few examples.
    """
    chosen, params = arrangements(plan), plan.initial_params()
    with ExitStack() as stack:
        engines = [stack.enter_context(arranged_engine(plan, params, each)) for each in chosen]
        yield [Probe(engine, each) for engine, each in zip(engines, chosen, strict=True)]


def size_of(plan: Plan) -> int:
    """Bytes of the parameters."""
    return layout_of(plan.shapes).nbytes


def _can_have(plan: Plan, servers: int) -> bool:
    """Whether the servers' rule can work in so many parts: some need whole tensors, or all."""
    settings, layout = plan.config.engine, layout_of(plan.shapes)
    assert isinstance(settings, LocalSettings)
    try:
        placement = place(settings.placement, layout.sizes, servers)
        make_shards(layout, placement, plan.algorithm.server)
    except InputError:
        return False
    return True


def conclude(plan: Plan, probes: Sequence[Probe]) -> Calibration:
    """What the probes have seen."""
    observations = tuple(probe.observation for probe in probes)
    cluster = fit(
        [each for each in observations if isinstance(each, Observation)],
        size_of(plan),
        None if gpus() else len(cores()),
        [each for each in observations if isinstance(each, Interplay)],
    )
    return Calibration(cluster, observations, plan.dataset.name)


def arranged_engine(plan: Plan, params: Any, arrangement: Arrangement) -> FleetEngine:
    """An engine without an end, for measurements.

    Args:
        plan: Model, data and all other settings.
        params: Parameters to start from.
        arrangement: Takes the place of its numbers.
    """
    config, batch_size = plan.config, arrangement.batch_size
    numbers = {"workers": arrangement.workers, "servers": arrangement.servers}
    options: dict[str, Any] = {}
    if arrangement.scheme == "async":
        options["in_flight"] = arrangement.in_flight
    tables = {
        "engine": config.engine.model_copy(update=numbers),
        "algorithm": AlgorithmSettings(scheme=arrangement.scheme, scheme_options=options),
        "training": config.training.model_copy(update={"batch_size": batch_size}),
    }
    scheme = scheme_named(arrangement.scheme, arrangement.workers, options)
    plan = replace(plan, config=config.model_copy(update=tables), scheme=scheme)
    settings, problem = plan.config.engine, plan.problem._replace(updates=_NO_END)
    build = ENGINES[settings.kind].build
    return build(settings, problem, plan.algorithm, Start(lambda: params))
