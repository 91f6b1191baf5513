"""The stages: each takes lots of gradients and passes, holds or refuses every one of them.

``chain`` puts stages in a row and is a stage again. With no stage it passes everything, which is
asynchronous SGD. A stage of one's own is a ``Stage`` of two pure functions; one without memory is
made by ``stage_of``.
"""

from collections.abc import Callable

from distvi.errors import InputError
from distvi.protocol import Contribution, Decision, Lot, Reason, Refusal, Stage, Table, Ticket, View


def chain(*stages: Stage) -> Stage:
    """Stages in a row: what one passes goes to the next.

    ``chain()`` is the identity, ``chain(s)`` behaves as ``s``, and chains of chains as one chain.
    """

    def init() -> tuple:
        return tuple(stage.init() for stage in stages)

    def step(memory: tuple, lot: Lot, view: View) -> Decision:
        memories, refused = [], ()
        for stage, before in zip(stages, memory, strict=True):
            decision = stage.step(before, lot, view)
            memories.append(decision.memory)
            refused += decision.refused
            lot = decision.passed
        return Decision(tuple(memories), lot, refused)

    return Stage(init, step)


def stage_of(decide: Callable[[Lot, View], tuple[Lot, tuple[Refusal, ...]]]) -> Stage:
    """A stage without memory: it passes and refuses, and holds nothing.

    Args:
        decide: From a lot to the parts it passes and the gradients it refuses.
    """

    def step(memory: None, lot: Lot, view: View) -> Decision:
        return Decision(None, *decide(lot, view)) if lot else Decision(None)

    return Stage(lambda: None, step)


def collect(number: int | Callable[[int], int]) -> Stage:
    """Hold gradients until there are enough of them, whoever they come from.

    Args:
        number: How many make an update, at least 1; or a function from the number of members to
            it, asked again at every gradient and every change of membership.

    Raises:
        InputError: The number is below 1.
    """
    if not callable(number):
        _at_least("collect: number of gradients", number, 1)

    def enough(view: View) -> int:
        return max(1, number(len(view.members))) if callable(number) else number

    def step(memory: Lot, lot: Lot, view: View) -> Decision:
        memory += lot
        if memory and len(memory) >= enough(view):
            return Decision((), memory)
        return Decision(memory)

    return Stage(tuple, step)


def one_from_each(number: int | None = None) -> Stage:
    """Hold one gradient from each worker until enough workers have given theirs.

    The barrier opens when ``number`` distinct workers have contributed, or when every member has:
    when a worker goes, or sends nothing but unusable gradients, nobody waits for it. A second
    gradient of the same worker is refused.

    Args:
        number: Distinct workers that make an update, at least 1; all members without it.

    Raises:
        InputError: The number is below 1.
    """
    if number is not None:
        _at_least("one_from_each: number of workers", number, 1)

    def step(memory: Table[Contribution], lot: Lot, view: View) -> Decision:
        given, refused = one_more(memory, lot)
        if given and ((number is not None and len(given) >= number) or all_have_given(given, view)):
            return Decision(Table(), tuple(given.values()), refused)
        return Decision(given, (), refused)

    return Stage(Table, step)


def one_more(
    given: Table[Contribution], lot: Lot
) -> tuple[Table[Contribution], tuple[Refusal, ...]]:
    """What workers have given, each one gradient, with those of a lot; the rest is refused."""
    refused = []
    for part in lot:
        if part.ticket.worker in given:
            refused.append(Refusal(part.ticket, Reason.SECOND))
        else:
            given = given.set(part.ticket.worker, part)
    return given, tuple(refused)


def all_have_given(given: Table[Contribution], view: View) -> bool:
    """Whether nobody is left to wait for."""
    # They are gone through only when the counts allow it, once in an update as a rule.
    return len(given) >= len(view.members) - len(view.broken) and all(
        worker in given or worker in view.broken for worker in view.members
    )


def drop_stale(bound: int) -> Stage:
    """Refuse gradients computed on parameters more than ``bound`` versions old.

    Raises:
        InputError: The bound is below 0.
    """
    _at_least("drop_stale: bound", bound, 0)

    def decide(lot: Lot, view: View) -> tuple[Lot, tuple[Refusal, ...]]:
        fresh = tuple(part for part in lot if staleness(part.ticket, view) <= bound)
        if len(fresh) == len(lot):
            return lot, ()
        stale = [part.ticket for part in lot if staleness(part.ticket, view) > bound]
        return fresh, tuple(Refusal(ticket, Reason.STALE) for ticket in stale)

    return stage_of(decide)


def scale_by_staleness(rate: Callable[[int], float]) -> Stage:
    """Multiply each gradient's learning rate by a function of its staleness.

    Args:
        rate: From the staleness in updates (0 and up) to a factor, e.g. ``one_over_tau``.
    """

    def decide(lot: Lot, view: View) -> tuple[Lot, tuple[Refusal, ...]]:
        return tuple(
            part._replace(rate=part.rate * rate(staleness(part.ticket, view))) for part in lot
        ), ()

    return stage_of(decide)


def _average(lot: Lot, view: View) -> tuple[Lot, tuple[Refusal, ...]]:
    return tuple(part._replace(weight=part.weight / len(lot)) for part in lot), ()


def _average_by_size(lot: Lot, view: View) -> tuple[Lot, tuple[Refusal, ...]]:
    examples = sum(part.ticket.size for part in lot)
    return tuple(
        part._replace(weight=part.weight * part.ticket.size / examples) for part in lot
    ), ()


average = stage_of(_average)
"""Divide the weights by the number of gradients in the update: the mean of the gradients.

As in TensorFlow's ``SyncReplicasOptimizer``, Chen et al. (2016), Zhang et al. (2016), Dutta et al.
(2018), Horovod's default and PyTorch's DistributedDataParallel.
"""

average_by_size = stage_of(_average_by_size)
"""Weigh gradients by their examples: the mean over examples when batches differ in size."""

add = chain()
"""Leave the weights at 1: the sum of the gradients.

As in MXNet's ``dist_sync`` key-value store, in Ho et al. (2013), where updates are increments, and
in the first version of TensorFlow's ``SyncReplicasOptimizer``.
"""


def staleness(ticket: Ticket, view: View) -> int:
    """Updates made since the parameters of a gradient were the newest."""
    return view.version - ticket.base


def one_over_tau(tau: int) -> float:
    """The rate of Zhang et al. (2016): the learning rate divided by the staleness, if any."""
    return 1 / max(tau, 1)


def _at_least(what: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(f"{what} is {value}; it must be at least {least}")
