"""Updates in calls: how many a call makes, and one call that runs while the next is prepared."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from distvi.engines.base import Diverged

CALL_S = 0.2  # about the longest call, for nothing interrupts one


class Call(NamedTuple):
    """Updates that are made together.

    Attributes:
        first: Number of the first, from zero.
        updates: How many.
        began_s: When they were asked for.
        values: What their negative ELBOs are read from; whatever the `Maker` likes.
    """

    first: int
    updates: int
    began_s: float
    values: Any = None


@runtime_checkable
class Maker(Protocol):
    """Makes the updates of calls, in the order in which it is asked."""

    @property
    def asked(self) -> int:
        """Updates that it has been asked for, since the run began."""
        ...

    @property
    def block(self) -> int:
        """A call keeps to one block of so many."""
        ...

    def ask(self, count: int) -> Call:
        """Ask for the next updates."""
        ...

    def read(self, call: Call) -> Float[np.ndarray, " updates"]:
        """Their negative ELBOs, in nats, once they are made; of the earliest call first."""
        ...


class Pace:
    """How many updates a call makes: as many as take about so long.

    Args:
        call_s: The time.
    """

    def __init__(self, call_s: float = CALL_S) -> None:
        self._call_s, self._updates, self._finished_s = call_s, 1, 0.0

    def count(self, first: int, until: int, block: int) -> int:
        """Of the next call."""
        return min(self._updates, until - first, block - first % block)

    def took(self, call: Call, block: int) -> None:
        """A call is over."""
        now_s = time.perf_counter()
        took_s, self._finished_s = now_s - max(call.began_s, self._finished_s), now_s
        if took_s > self._call_s:
            self._updates = max(1, self._updates // 2)
        elif took_s < self._call_s / 2 and call.updates == self._updates:
            self._updates = min(2 * self._updates, block)


def make_calls(
    maker: Maker, pace: Pace, until: int, interrupted: Callable[[], bool], ahead: int = 1
) -> Iterator[Float[np.ndarray, " updates"]]:
    """Make updates up to a number, or fewer once interrupted; the values of each call.

    Args:
        maker: Makes them.
        pace: Of the calls.
        until: The number.
        interrupted: Whether no more are to be asked for.
        ahead: Calls that are asked for beyond the one that is waited for.

    Raises:
        Diverged: a value is not finite.
    """
    pending: deque[Call] = deque()
    while maker.asked < until and not interrupted():
        pending.append(maker.ask(pace.count(maker.asked, until, maker.block)))
        if len(pending) > ahead:
            yield _finish(maker, pace, pending.popleft())
    while pending:
        yield _finish(maker, pace, pending.popleft())


def _finish(maker: Maker, pace: Pace, call: Call) -> Float[np.ndarray, " updates"]:
    """Wait for a call."""
    values = maker.read(call)
    pace.took(call, maker.block)
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        found = -float(values[wrong[0]])
        raise Diverged(f"the ELBO became {found}", call.first + int(wrong[0]) + 1)
    return values
