"""What every engine is handed, and what it promises."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float, Integer, UInt32

from distvi.algorithms.base import Batches, Memory, Params, ServerRule, ServerState, WorkerRule
from distvi.engines.trace import Span
from distvi.errors import InputError, RunFailed
from distvi.protocol import Observer
from distvi.system.programs import OWN_PROGRAMS, Programs

Devices = list[Any]
"""Of `jax.Device`, which type checkers take for a variable."""


@runtime_checkable
class Examples(Protocol):
    """Training examples in storage dtype, perhaps mapped from a file."""

    @property
    def x(self) -> np.ndarray: ...

    @property
    def y(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Copies of the rows of x and y."""
        ...


class Recipe(NamedTuple):
    """How another process builds the problem and the rules.

    Closures cannot travel between processes, so they are described: the factory is imported there
    by its name and called as ``factory(settings, x, y)``. It returns what it `Built`, with ``x``
    and ``y`` as the examples.

    Attributes:
        factory: ``package.module:function``.
        settings: Its first argument, for JSON.
    """

    factory: str
    settings: dict[str, Any]

    def build(self, x: np.ndarray, y: np.ndarray) -> "Built":
        """The problem and the rules."""
        module, _, name = self.factory.partition(":")
        return getattr(importlib.import_module(module), name)(self.settings, x, y)


class Problem(NamedTuple):
    """What an engine optimizes, beside the algorithm that says how.

    Attributes:
        shapes: Of the parameters (``jax.ShapeDtypeStruct``).
        examples: The training set.
        indices: ``indices(position, count)``: that part of the run's stream of examples.
        batch_size: Examples in a batch.
        key: The run's key; batch t draws its noise from ``fold_in(key, t)``.
        updates: Of the whole run.
        seed: Of whatever else is drawn.
        shares: ``shares(worker, workers, position, count)``: that part of the stream of a worker's
            own share of the examples; None: they are not to be shared out.
        recipe: How another process builds the same; None: it cannot.
        no_recipe: Why it cannot.
        programs: Compiles what runs in this process.
    """

    shapes: Params
    examples: Examples
    indices: Callable[[int, int], Integer[np.ndarray, " count"]]
    batch_size: int
    key: Array
    updates: int
    seed: int = 0
    shares: Callable[[int, int, int, int], Integer[np.ndarray, " count"]] | None = None
    recipe: Recipe | None = None
    no_recipe: str = "it has no recipe"
    programs: Programs = OWN_PROGRAMS


def _no_fault(point: str, targets: Sequence[np.ndarray]) -> None:
    """Nothing goes wrong."""


class Built(NamedTuple):
    """What a recipe gives: what workers and servers have to know of a run.

    Attributes:
        problem: What to optimize.
        worker: What workers make of requests.
        server: What servers make of contributions.
        fault: ``fault(point, targets)``: called where a process may die in a way that matters, with
            what it is about to write. Tests let things go wrong there.
    """

    problem: Problem
    worker: WorkerRule
    server: ServerRule
    fault: Callable[[str, Sequence[np.ndarray]], None] = _no_fault


def batch_indices(
    problem: Problem, first: int, count: int, *, worker: int = 0, workers: int = 1
) -> UInt32[np.ndarray, "count batch"]:
    """Which examples some consecutive batches of a worker have, where all draw from all examples.

    Batch t of worker w of n begins at ``(t * n + w) * batch_size`` in the run's stream of examples.
    So n workers in lockstep use the examples and the noise of one with n times the batch.

    Args:
        problem: Has the stream.
        first: The first batch, t.
        count: How many.
        worker: Which one, w.
        workers: How many there are, n.
    """
    size = problem.batch_size
    if workers == 1:  # they follow one another
        index = problem.indices(first * size, count * size)
    else:
        begins = [(batch * workers + worker) * size for batch in range(first, first + count)]
        own = [problem.indices(begin, size) for begin in begins]
        index = own[0] if count == 1 else np.concatenate(own)
    return index.astype(np.uint32).reshape(count, size)


def read_batches(
    problem: Problem,
    first: int,
    count: int,
    *,
    worker: int = 0,
    workers: int = 1,
    rows: slice = slice(None),
) -> Batches:
    """Those batches, copied from the training set; arguments as of `batch_indices`.

    Args:
        problem: Has the stream.
        first: The first batch.
        count: How many.
        worker: Which one.
        workers: How many there are.
        rows: Which examples of each batch.
    """
    index = batch_indices(problem, first, count, worker=worker, workers=workers)
    return _copied(problem, first, index[:, rows])


def read_request(
    problem: Problem, rule: WorkerRule, number: int, *, worker: int, workers: int
) -> Batches:
    """What a worker's request consumes, copied from the training set: the one rule for engines.

    Args:
        problem: Has the examples.
        rule: Says how many batches that are, and whether they come from the worker's own share.
        number: Which of the worker's requests.
        worker: Which one.
        workers: How many there are, those that have left included: shares stay as they are.

    Raises:
        InputError: each worker is to have its own share, and the problem has none.
    """
    count, size = rule.batches, problem.batch_size
    first = number * count
    if not rule.partitioned:
        return read_batches(problem, first, count, worker=worker, workers=workers)
    if problem.shares is None:
        raise InputError(
            "a rule of this run gives each worker its own share of the examples, but the problem "
            "has no shares; give it some, or leave the rule out"
        )
    index = problem.shares(worker, workers, first * size, count * size)
    return _copied(problem, first, index.astype(np.uint32).reshape(count, size))


def _copied(problem: Problem, first: int, index: UInt32[np.ndarray, "count batch"]) -> Batches:
    count = len(index)
    rows = problem.examples.take(index.ravel())
    x, y = (each.reshape(index.shape + each.shape[1:]) for each in rows)
    return Batches(np.arange(first, first + count, dtype=np.uint32), x, y, index)  # pyright: ignore


class Start(NamedTuple):
    """Where an engine begins: at the first update, or at a checkpoint.

    Attributes:
        params: Gives the parameters. It is asked once, when the engine has begun whatever takes
            time as well; drawing them does.
        state: Of the unsharded server rule; None: a new one.
        memories: Of the workers, as far as they have any; None for one that begins anew.
        update: Updates that have been made already.
        counters: What ``Engine.counters`` said after those.
        time_s: Training time of them.
    """

    params: Callable[[], Params]
    state: ServerState | None = None
    memories: tuple[Memory | None, ...] = ()
    update: int = 0
    counters: Mapping[str, Any] = MappingProxyType({})
    time_s: float = 0.0

    def memory(self, worker: int) -> Memory | None:
        """Of a worker; None: it begins anew."""
        return self.memories[worker] if worker < len(self.memories) else None


def has_memory(rule: WorkerRule, shapes: Params) -> bool:
    """Whether anything stays with a worker between two requests."""
    return bool(jax.tree.leaves(jax.eval_shape(rule.init, shapes)))


class TrainState(NamedTuple):
    """What a checkpoint holds: everything that an update changes.

    Attributes:
        params: The parameters.
        opt_state: Of the unsharded server rule, such as the optimizer's moments.
        memories: Of each worker after its last contribution that was decided; None for one that
            has begun anew since; empty where workers remember nothing.
    """

    params: Params
    opt_state: ServerState
    memories: tuple[Memory | None, ...] = ()


class Diverged(RunFailed):
    """A number that an update computed was NaN or infinite.

    Attributes:
        update: Which update, counted from one.
    """

    def __init__(self, what: str, update: int) -> None:
        super().__init__(f"{what} at update {update}")
        self.update = update


class Halted(RunFailed):
    """The run cannot go on; the engine's state is that of its last update, and good."""


class StateLost(RunFailed):
    """The run cannot go on, and the state since that was last asked for is gone."""


@runtime_checkable
class Driven(Protocol):
    """An engine that the parameter server's protocol drives."""

    observers: list[Observer]
    """Told of every event."""

    @property
    def spans(self) -> list[Span]:
        """What took time, as far as it is kept."""
        ...


@runtime_checkable
class WithProcesses(Protocol):
    """An engine with processes beside this one."""

    def attach(self, logs: Path, tell: Callable[[str], None]) -> None:
        """Say before it is entered where they write what they print, and who hears of incidents."""
        ...


@runtime_checkable
class Engine(Protocol):
    """A training state that moves forward, update by update."""

    @property
    def deterministic(self) -> bool:
        """Whether problem, algorithm, start and u determine the state after update u.

        However the updates are split into calls then; and with a scheme in lockstep, where nothing
        is on its way between two updates, wherever a run was resumed. Not so where it depends on
        which of several processes was faster.
        """
        ...

    @property
    def devices(self) -> Devices:
        """JAX's devices of this process that updates, or evaluations, are computed on."""
        ...

    @property
    def compile_time_s(self) -> float:
        """Time that the compiler took, before the first update."""
        ...

    @property
    def waiting_s(self) -> float:
        """Time so far in which no update could be computed because its batch was not ready."""
        ...

    @property
    def state(self) -> TrainState:
        """The state after ``update`` updates; never one that a non-finite ELBO has touched."""
        ...

    @property
    def params(self) -> Params:
        """The parameters of ``state``, which cost less to have than all of it."""
        ...

    @property
    def update(self) -> int:
        """Updates made since the run began."""
        ...

    @property
    def examples(self) -> int:
        """Examples in those updates."""
        ...

    def now_s(self) -> float:
        """Seconds on the clock by which training is timed: the wall's, or a virtual one."""
        ...

    @property
    def counters(self) -> dict[str, Any]:
        """What it has to know to go on counting when it is resumed, for a JSON file."""
        ...

    @property
    def statistics(self) -> dict[str, Any]:
        """Its fields of summary.json: gradients, staleness, bytes and which clock it has."""
        ...

    def advance(
        self, until: int, interrupted: Callable[[], bool] = lambda: False
    ) -> Float[np.ndarray, " updates"]:
        """Make updates up to number ``until``, or fewer once ``interrupted()`` is true.

        Returns:
            The negative ELBO that each update saw, in nats.

        Raises:
            Diverged: one of them is not finite. The state is of no more use.
            Halted: no more updates can be made. The state is good.
        """
        ...

    def __enter__(self) -> "Engine": ...

    def __exit__(self, *exception: object) -> None: ...
