"""A barrier that chooses at every update how many workers the next one is worth waiting for.

Waiting for one worker more makes an update better and later. How much better is a model: the step
of stochastic gradient descent along the mean of k gradients, each with noise of variance c times
the squared norm of the true one, makes progress in proportion to::

    gain(k) = k / (k + c)

How much later is measured: the times that the workers' last gradients took, in order, are a sample
of the order statistics X_(1:n) <= ... <= X_(n:n), and their running means stand for E[X_(k:n)],
the time of an update of k whose workers all start together. They do not where late ones first
finish what they have begun; so whenever two updates in a row were of k, the time of the second
over E[X_(k:n)] goes into a running mean, the stretch of k, which is 1 until then: what is not known
looks better than it can be, and is tried. The number awaited is the k with the highest::

    gain(k) / (stretch(k) * E[X_(k:n)])

At first, and whenever it does not know a member's time, it waits for all.

References:
    Xu, Neglia, Sebastianelli (2020), Dynamic backup workers for parallel machine learning: gain
    over time, estimated anew at each update. There the gain is worked out from the gradients, which
    a stage never sees. McCandlish et al. (2018), An empirical model of large-batch training,
    equation 2.7, for the gain; c is its noise scale in batches.
"""

from collections.abc import Iterable
from typing import NamedTuple

from distvi.aggregation.stages import all_have_given, one_more
from distvi.errors import InputError
from distvi.protocol import Contribution, Decision, Lot, Member, Stage, Table, View

_FORGETTING = 0.1
"""Weight of the newest sample in a running mean, once there are ten."""

_NOTHING: Table[Contribution] = Table()


class Order(NamedTuple):
    """What is known of the time that updates take.

    Attributes:
        times_s: Running means of the workers' times, the shortest first.
        samples: How many are in them.
        stretch: For each number of workers the running mean of an update's time over that of the
            last of them; None where it was never measured.
    """

    times_s: tuple[float, ...] = ()
    samples: int = 0
    stretch: tuple[float | None, ...] = ()

    def with_times(self, times_s: list[float]) -> "Order":
        """With a sample; begun anew where there are other workers than before."""
        if len(times_s) != len(self.times_s):
            return Order(tuple(times_s), 1, (None,) * len(times_s))
        weight = max(1 / (self.samples + 1), _FORGETTING)
        means = (
            mean + weight * (time_s - mean)
            for mean, time_s in zip(self.times_s, times_s, strict=True)
        )
        return self._replace(times_s=tuple(means), samples=self.samples + 1)

    def with_update(self, k: int, update_s: float) -> "Order":
        """With the time of an update of k workers after another one of k."""
        expected_s = self.times_s[k - 1] if k <= len(self.times_s) else 0.0
        if expected_s <= 0:
            return self
        seen, before = update_s / expected_s, self.stretch[k - 1]
        mean = seen if before is None else before + _FORGETTING * (seen - before)
        return self._replace(stretch=(*self.stretch[: k - 1], mean, *self.stretch[k:]))

    def best(self, least: int, noise: float) -> int:
        """How many workers to wait for; of equally good numbers the highest."""

        def gain_per_s(k: int) -> float:
            time_s = self.times_s[k - 1] * (self.stretch[k - 1] or 1.0)
            return k / (k + noise) / time_s if time_s > 0 else float("inf")

        workers = len(self.times_s)
        return max(range(min(least, workers), workers + 1), key=lambda k: (gain_per_s(k), k))


class Rounds(NamedTuple):
    """What the stage remembers.

    Attributes:
        given: Gradients for the next update, by worker.
        awaited: How many it waits for; 0: all members.
        since_s: Time of the last update.
        before: How many that one was of.
        order: What is known of times.
    """

    given: Table[Contribution] = _NOTHING
    awaited: int = 0
    since_s: float = 0.0
    before: int = 0
    order: Order = Order()


def worth_waiting_for(least: int, noise: float) -> Stage:
    """Hold one gradient from each worker until more are not worth the time.

    Args:
        least: Workers in an update, at least 1; fewer only where there are fewer members.
        noise: Of one gradient, its variance over the squared norm of its mean, from 0 on: c above.

    Raises:
        InputError: a number is too low.
    """
    if least < 1:
        raise InputError(f"dynamic-backup: least is {least}; it must be at least 1")
    if not noise >= 0:
        raise InputError(f"dynamic-backup: noise is {noise}; it must be at least 0")

    def step(memory: Rounds, lot: Lot, view: View) -> Decision:
        given, refused = one_more(memory.given, lot)
        is_enough = 0 < memory.awaited <= len(given)
        if given and (is_enough or all_have_given(given, view)):
            after = _next(memory, len(given), view, least, noise)
            return Decision(after, tuple(given.values()), refused)
        return Decision(memory._replace(given=given), (), refused)

    return Stage(Rounds, step)


def _next(memory: Rounds, made_of: int, view: View, least: int, noise: float) -> Rounds:
    """The memory after an update."""
    times_s = _times_s((m for w, m in view.members.items() if w not in view.broken), view.now_s)
    if not times_s:
        return Rounds(since_s=view.now_s)
    order = memory.order.with_times(times_s)
    if made_of == memory.before:
        order = order.with_update(made_of, view.now_s - memory.since_s)
    awaited = order.best(least, noise)
    return Rounds(_NOTHING, awaited, view.now_s, made_of, order)


def _times_s(members: Iterable[Member], now_s: float) -> list[float]:
    """Of each member's last gradient, in order; nothing where one has not given any.

    Who has been at work for longer than that is slower now.
    """
    times_s = []
    for member in members:
        if member.took_s is None:
            return []
        at_work_s = now_s - member.requests[0].since_s if member.requests else 0.0
        times_s.append(max(member.took_s, at_work_s))
    return sorted(times_s)
