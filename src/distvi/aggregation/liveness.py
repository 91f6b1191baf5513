"""What a scheme does before anything runs: whether it can make updates at all, and how stale."""

from collections import deque
from collections.abc import Iterator

from distvi.errors import InputError
from distvi.protocol import (
    Commit,
    Event,
    Free,
    GradientArrived,
    Joined,
    Rules,
    Scheme,
    SendParameters,
    Ticket,
    initial_state,
    react,
    story,
)

_ROUNDS = 20
"""Gradients of each worker to wait for an update, before a scheme counts as one that makes none."""

_FEWEST = 2_000
"""The same for few workers: schemes may collect many gradients of each."""

_SETTLED = 4
"""Gradients of each worker, after which staleness is what it will be."""


def check_liveness(scheme: Scheme, workers: int) -> int:
    """Refuse a scheme that could never make an update.

    The machine itself is run, without gradients, with workers that deliver one after the other; so
    compositions of one's own are checked as well as the ones with names.

    Args:
        scheme: The scheme.
        workers: Workers that the run begins with.

    Returns:
        Gradients in the first update, while all workers are equally fast.

    Raises:
        InputError: No worker exists, the scheme needs more than exist, or it makes no update in a
            rehearsal.
    """
    if workers < 1:
        raise InputError(f"workers is {workers}; a run needs at least 1")
    if workers < scheme.workers_needed:
        raise InputError(
            f"scheme {scheme.name} needs {scheme.workers_needed} workers and the run has "
            f"{workers}; lower the number in the scheme, or start more workers"
        )
    return len(next(_rehearsed(scheme, workers)).contributions)


def mean_staleness(scheme: Scheme, workers: int) -> float:
    """Updates made while a gradient was on its way, in the mean, if all workers are equally fast.

    Args:
        scheme: The scheme.
        workers: Workers that the run begins with.

    Raises:
        InputError: see `check_liveness`.

    Example:
        >>> from distvi.aggregation import asynchronous, backup_workers
        >>> mean_staleness(asynchronous(), 8), mean_staleness(backup_workers(7), 8)
        (7.0, 0.0)
    """
    check_liveness(scheme, workers)
    ages: list[int] = []
    for commit in _rehearsed(scheme, workers):
        ages += [commit.version - 1 - each.ticket.base for each in commit.contributions]
        if len(ages) > _SETTLED * workers:
            break
    settled = ages[-workers:]
    return sum(settled) / len(settled)


def _rehearsed(scheme: Scheme, workers: int) -> Iterator[Commit]:
    """The updates of workers that deliver one after the other.

    Raises:
        InputError: there is not one for long.
    """
    rules = Rules(scheme)
    state = initial_state(rules)
    events: deque[Event] = deque(Joined(worker) for worker in range(workers))
    refused, waited = "", 0
    while (waited := waited + 1) <= workers + max(_ROUNDS * workers, _FEWEST):
        if not events:
            raise InputError(
                f"scheme {scheme.name} can never make an update with {workers} workers: all wait "
                f"({story(state)}); let fewer gradients make an update, or another pacing"
            )
        state, commands = react(rules, state, events.popleft(), 0.0)
        for command in commands:
            if isinstance(command, Commit):
                waited = 0
                yield command
            if isinstance(command, Free):
                refused = f", the last was refused: {command.reason}"
            if isinstance(command, SendParameters):
                request = (command.worker, command.incarnation, command.sequence, command.version)
                events.append(GradientArrived(Ticket(*request)))
    raise InputError(
        f"scheme {scheme.name} made no update in a rehearsal of {workers} workers "
        f"({story(state)}{refused}); let fewer gradients make an update, or refuse fewer"
    )
