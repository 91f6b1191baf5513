"""What every engine is handed, and what it promises."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import optax
from jaxtyping import Array, Float, Int

from distvi.engines.trace import Span
from distvi.errors import RunFailed
from distvi.parameters.freeze import freeze
from distvi.protocol import Observer

Params = Any
Loss = Callable[[Params, Array, Array, Array, Array], Array]


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


class Problem(NamedTuple):
    """What an engine optimizes.

    Attributes:
        loss: ``loss(params, x, y, index, key)``: the negative ELBO of a batch, in nats; x and y
            are rows of ``examples`` as stored, index their positions.
        optimizer: Turns gradients into updates, of whatever parameters it may move.
        examples: The training set.
        indices: ``indices(position, count)``: that part of the run's stream of examples. Update
            u is made of the entries from ``u * batch_size`` on.
        batch_size: Examples per update.
        key: The run's key; update u draws its noise from ``fold_in(key, u)``.
        freeze_until: For each parameter the number of the first update that may move it; None: all
            may from the first.
    """

    loss: Loss
    optimizer: optax.GradientTransformation
    examples: Examples
    indices: Callable[[int, int], Int[np.ndarray, " count"]]
    batch_size: int
    key: Array
    freeze_until: Any = None

    @property
    def held_optimizer(self) -> optax.GradientTransformation:
        """The optimizer, with parameters held as ``freeze_until`` says."""
        return freeze(self.optimizer, self.freeze_until)


class TrainState(NamedTuple):
    """What a checkpoint holds: everything that an update changes."""

    params: Params
    opt_state: optax.OptState


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
class Engine(Protocol):
    """A training state that moves forward.

    The state after update u is a function of the problem, the first state and u alone: however
    the updates are split into calls, and wherever a run was resumed.
    """

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
        """The state after ``update`` updates; never one that a non-finite ELBO has to_ask."""
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
