"""``distvi calibrate``: what this machine's processes cost, as a cluster for the simulated engine.

The real local engine trains for a short time, in lockstep, with several batch sizes; the costs are
read off the spans that it records. In lockstep every update is alone: no gradient is computed while
servers work, so each cost is seen by itself. The engines of all batch sizes take turns, because a
machine's speed drifts by more than what is measured.
"""

import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from distvi.config import RunConfig, write_toml
from distvi.distributed import local_engine, prepare_deployment
from distvi.engines.local import LocalEngine
from distvi.engines.local.crew import cores, gpus
from distvi.engines.simulated import ClusterSettings, cluster_of
from distvi.engines.timeline import Span
from distvi.errors import InputError, RunFailed
from distvi.parameters import layout_of
from distvi.runs.files import replace_bytes
from distvi.setup import Setup, prepare

_ROUNDS, _ROUND_S = 5, 0.7
_WARM_UP = 4  # updates before anything is timed

_TAIL = 0.1
_NO_END = 2**31
_RATIO, _LEAST_EXAMPLES = 4, 16


class Arrangement(NamedTuple):
    """What is run to be timed.

    Attributes:
        workers: How many compute gradients.
        servers: How many share the parameters.
        batch_size: Examples of a gradient.
    """

    workers: int
    servers: int
    batch_size: int


@dataclass(frozen=True, eq=False)
class Observation:
    """Times of an arrangement in lockstep, in seconds.

    Attributes:
        arrangement: What was run.
        gradients_s: Of each gradient, by worker, in their order.
        transfers_s: Of each pull and push, together.
        messages_s: Of each update: from its last gradient to the servers' start, and from their end
            to the workers' start.
        updates_s: Of each update: from the first server's start to the last one's end.
    """

    arrangement: Arrangement
    gradients_s: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    transfers_s: list[float] = field(default_factory=list)
    messages_s: list[float] = field(default_factory=list)
    updates_s: list[float] = field(default_factory=list)

    def add(self, spans: Iterable[Span], first: int, last: int) -> None:
        """What the spans say of gradients on the versions ``first`` to ``last - 1``.

        An update of which a span is missing is left out.
        """
        workers, servers, _ = self.arrangement
        of_workers: dict[int, dict[tuple[str, int], Span]] = defaultdict(dict)
        of_servers: dict[int, list[Span]] = defaultdict(list)
        for span in spans:
            if span.where == "worker":
                of_workers[span.version][span.what, span.number] = span
            else:
                of_servers[span.version].append(span)
        for base in range(first, last):
            own, before, after = of_workers[base], of_servers[base], of_servers[base + 1]
            if len(before) == len(after) == servers and len(own) == 4 * workers:
                self._add(own, before, after)

    def _add(self, own: dict[tuple[str, int], Span], before: list[Span], after: list[Span]) -> None:
        numbers = range(self.arrangement.workers)
        for number in numbers:
            pull, compute, push = (own[what, number] for what in ("pull", "compute", "push"))
            self.gradients_s[number].append(compute.end_s - compute.start_s)
            self.transfers_s.append(pull.end_s - pull.start_s + push.end_s - push.start_s)
        heard_s = np.mean([own["wait", number].end_s for number in numbers])
        pushed_s = max(own["push", number].end_s for number in numbers)
        begun_s, ended_s = min(s.start_s for s in after), max(s.end_s for s in after)
        self.updates_s.append(ended_s - begun_s)
        self.messages_s.append(
            float(heard_s) - max(span.end_s for span in before) + begun_s - pushed_s
        )

    @property
    def gradient_s(self) -> float:
        """Mean time of a gradient."""
        return typical([time_s for own in self.gradients_s.values() for time_s in own])

    def as_json(self) -> dict[str, Any]:
        """One flat object."""
        return {
            **self.arrangement._asdict(),
            "gradients": sum(map(len, self.gradients_s.values())),
            "gradient_s": self.gradient_s,
            "transfer_s": typical(self.transfers_s),
            "message_s": typical(self.messages_s),
            "update_s": typical(self.updates_s),
        }


def typical(values: Sequence[float]) -> float:
    """The mean without the lowest and the highest tenth: a few times are of something else."""
    cut = int(_TAIL * len(values))
    return float(np.mean(np.sort(values)[cut : len(values) - cut]))


# From times to costs


def fit(observations: Sequence[Observation], size_bytes: int, cores: int | None) -> ClusterSettings:
    """The cluster whose times those are.

    Args:
        observations: Of at least two batch sizes. Where there are several workers, one of them
            alone is needed as well, with a batch size that they have too.
        size_bytes: Of all parameters.
        cores: Of the machine; None: the workers need none of them.
    """
    crowding = _crowding(observations, cores)
    machine = None if cores is None else {"cores": cores, "crowding": crowding}
    settings = {
        "gradient": {"per_example_s": 1.0},
        "workers": {"bandwidth_bytes_per_s": math.inf},
        "servers": {"bandwidth_bytes_per_s": math.inf},
        "machine": machine,
    }
    draft = cluster_of(settings, "the calibration")
    transfer_s = typical([time_s for each in observations for time_s in each.transfers_s])
    message_s = typical([time_s for each in observations for time_s in each.messages_s])
    latency_s = message_s / 4  # a worker's and a server's, there and back
    settings["gradient"] = _gradient(observations, draft)
    settings["workers"] = {
        "latency_s": latency_s,
        "bandwidth_bytes_per_s": 2 * size_bytes / transfer_s,
    }
    settings["servers"] |= {"latency_s": latency_s, **_updates(observations, draft, size_bytes)}
    return cluster_of(settings, "the calibration")


def _crowding(observations: Sequence[Observation], cores: int | None) -> float:
    """How much longer gradients take for each other worker that has a core."""
    alone = {o.arrangement.batch_size: o for o in observations if o.arrangement.workers == 1}
    found = []
    for each in observations:
        workers, _, batch_size = each.arrangement
        at_work = min(workers, cores or 1)
        if at_work > 1 and batch_size in alone:
            ratio = each.gradient_s / alone[batch_size].gradient_s * at_work / workers
            found.append((ratio - 1) / (at_work - 1))
    return max(0.0, float(np.mean(found))) if found else 0.0


def _gradient(observations: Sequence[Observation], draft: ClusterSettings) -> dict[str, Any]:
    """The line through the times, with the least relative errors."""
    times_s = []
    for each in observations:
        slowdown = draft.machine.slowdown(each.arrangement.workers) if draft.machine else 1.0
        times_s.append(each.gradient_s / slowdown)
    sizes = np.array([each.arrangement.batch_size for each in observations], float)
    overhead_s, per_example_s = _not_negative(
        np.stack([np.ones_like(sizes), sizes], axis=1), np.array(times_s)
    )
    sigma = _jitter(observations)
    jitter = {"kind": "lognormal", "sigma": sigma} if sigma > 0 else {"kind": "none"}
    return {"overhead_s": overhead_s, "per_example_s": per_example_s, "jitter": jitter}


def _jitter(observations: Sequence[Observation]) -> float:
    """Deviation of the logarithm of a gradient's time.

    Of ratios of successive times, so that a machine that becomes slower is none; by the median, so
    that a few gradients that were interrupted are none either.
    """
    ratios = [
        abs(math.log(after_s / before_s))
        for each in observations
        for own in each.gradients_s.values()
        for before_s, after_s in pairwise(own)
    ]
    to_deviation = 1.4826 / math.sqrt(2)  # from a normal variable's median, and from a difference
    return to_deviation * float(np.median(ratios)) if ratios else 0.0


def _updates(
    observations: Sequence[Observation], draft: ClusterSettings, size_bytes: int
) -> dict[str, float]:
    """What an update costs by its bytes, and what each gradient in it does."""
    per_byte_s, gradients = [], []
    for each in observations:
        workers, servers, _ = each.arrangement
        speed = draft.machine.server_speed(workers, 0, servers) if draft.machine else 1.0
        per_byte_s.append(typical(each.updates_s) * speed * servers / size_bytes)
        gradients.append(workers)
    kinds = np.unique(gradients)
    terms = np.stack([np.ones(len(gradients)), np.array(gradients, float)], axis=1)
    if len(kinds) == 1:  # one number cannot tell the two costs apart
        terms[:, 1] = 0.0
    apply, combine = _not_negative(terms, np.array(per_byte_s))
    return {"apply_s_per_byte": apply, "combine_s_per_byte": combine}


def _not_negative(terms: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Two factors, none below zero, with the least relative errors of ``terms @ factors``."""
    relative = terms / values[:, None]
    best = None
    for kept in ([0, 1], [0], [1]):
        factors = np.zeros(2)
        factors[kept] = np.linalg.lstsq(relative[:, kept], np.ones(len(values)))[0]
        error = float(np.square(relative @ factors - 1).sum())
        if factors.min() >= 0 and (best is None or error < best[0]):
            best = (error, factors)
    assert best is not None  # one term alone has a positive factor
    return float(best[1][0]), float(best[1][1])


# Measuring


@dataclass(frozen=True, eq=False)
class Calibration:
    """A cluster, and the times that it was fitted to.

    Attributes:
        cluster: What it costs.
        observations: The times.
        dataset: Name of the data that were trained on.
    """

    cluster: ClusterSettings
    observations: tuple[Observation, ...]
    dataset: str

    @property
    def what(self) -> str:
        """What was measured, in words."""
        workers, servers, _ = max(each.arrangement for each in self.observations)
        sizes = [each.arrangement.batch_size for each in self.observations]
        return (
            f"{self.dataset} with {workers} worker{'s' * (workers > 1)}, {servers} "
            f"server{'s' * (servers > 1)} and batches of {min(sizes)} to {max(sizes)}"
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


def calibrate(config: RunConfig) -> Calibration:
    """Measure this machine with a model and data.

    Args:
        config: Of a run with the local engine. Three batch sizes around its own are measured, with
            its numbers of workers and servers; and one worker alone. Its scheme and its length do
            not matter.

    Raises:
        InputError: see `distvi.setup.prepare`; or another engine, or too few examples.
        RunFailed: the local engine cannot train on these data with these settings.
    """
    if config.engine.engine != "local":
        raise InputError(
            f"engine '{config.engine.engine}' has no processes to be measured; use --engine local"
        )
    setup = prepare_lockstep(config)
    with probing(setup) as probes:
        for _ in range(_ROUNDS):
            for probe in probes:
                probe.take_turn()
    return conclude(setup, probes)


def prepare_lockstep(config: RunConfig) -> Setup:
    """A run of the same with the scheme that keeps updates apart.

    Raises:
        InputError: see `distvi.setup.prepare`.
    """
    lockstep = {"scheme": "sync", "scheme_options": {}, "journal": False, "trace": False}
    engine = config.engine.model_copy(update=lockstep)
    return prepare(config.model_copy(update={"engine": engine}))


def arrangements(setup: Setup) -> list[Arrangement]:
    """What is measured, for a run.

    Raises:
        InputError: too few examples.
    """
    assert setup.deployment is not None
    workers, servers = setup.deployment.workers, setup.deployment.servers
    examples = len(setup.dataset.train)
    if examples < _LEAST_EXAMPLES:
        raise InputError(
            f"{setup.dataset.name} has {examples} training examples; to see how the batch matters, "
            f"{_LEAST_EXAMPLES} are needed at least"
        )
    largest = min(_RATIO * max(setup.batch_size, _RATIO), examples)
    middle, smallest = largest // _RATIO, largest // _RATIO**2
    found = [Arrangement(workers, servers, size) for size in (smallest, middle, largest)]
    return found if workers == 1 else [*found, Arrangement(1, servers, middle)]


class Probe:
    """An arrangement at work.

    Args:
        engine: It has been entered.
        arrangement: What it runs.
    """

    def __init__(self, engine: LocalEngine, arrangement: Arrangement) -> None:
        self.observation = Observation(arrangement)
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
def probing(setup: Setup) -> Iterator[list[Probe]]:
    """Everything that is measured; processes run as long as the block.

    Args:
        setup: From `prepare_lockstep`.

    Raises:
        InputError: too few examples.
    """
    chosen, params = arrangements(setup), setup.initial_params()
    with ExitStack() as stack:
        engines = [stack.enter_context(arranged_engine(setup, params, each)) for each in chosen]
        yield [Probe(engine, each) for engine, each in zip(engines, chosen, strict=True)]


def size_of(setup: Setup) -> int:
    """Number of parameters."""
    return layout_of(jax.eval_shape(setup.model.init, jax.random.key(0))).size


def conclude(setup: Setup, probes: Sequence[Probe]) -> Calibration:
    """What the probes have seen."""
    observations = tuple(probe.observation for probe in probes)
    size_bytes = 4 * size_of(setup)
    cluster = fit(observations, size_bytes, None if gpus() else len(cores()))
    return Calibration(cluster, observations, setup.dataset.name)


def arranged_engine(setup: Setup, params: Any, arrangement: Arrangement) -> LocalEngine:
    """An engine without an end, for measurements.

    Args:
        setup: Model, data and all other settings.
        params: Parameters to start from.
        arrangement: Takes the place of its numbers.
    """
    workers, servers, batch_size = arrangement
    config = setup.config
    engine = config.engine.model_copy(update={"workers": workers, "servers": servers})
    training = config.training.model_copy(update={"batch_size": batch_size})
    deployment = prepare_deployment(engine)
    setup = replace(
        setup,
        config=config.model_copy(update={"engine": deployment.settings, "training": training}),
        deployment=deployment,
    )
    return local_engine(deployment, setup.problem(params), params, setup.recipe(), last=_NO_END)
