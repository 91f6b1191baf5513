"""The published schemes, each a few lines of composition out of ``stages`` and ``pacing``.

Where a scheme makes an update of several gradients, ``combine`` says how: ``average`` (the default,
as published) or ``add``, ``average_by_size``, or any stage of one's own.

Writing another takes the same few lines. Updates of three gradients, none older than five versions,
late ones at a lower rate, and nobody more than ten gradients ahead:

    >>> from distvi.aggregation import *
    >>> scheme = Scheme(
    ...     "mine",
    ...     chain(drop_stale(5), collect(3), scale_by_staleness(one_over_tau), average),
    ...     bounded_lead(10),
    ... )
    >>> check_liveness(scheme, workers=4)
    3
"""

from collections.abc import Callable
from dataclasses import replace

from distvi.aggregation.dynamic import worth_waiting_for
from distvi.aggregation.pacing import after_own_update, at_once, bounded_lead, tokens
from distvi.aggregation.stages import (
    average,
    chain,
    collect,
    drop_stale,
    one_from_each,
    one_over_tau,
    scale_by_staleness,
)
from distvi.errors import InputError
from distvi.protocol import Scheme, Stage, Stragglers


def sync(combine: Stage = average) -> Scheme:
    """One gradient from every member makes an update; all start together on its result.

    Gradients of an earlier version, from a worker that was away, are refused. Averaged by
    TensorFlow, Horovod and DistributedDataParallel; summed (``add``) by MXNet's ``dist_sync``.
    """
    stage = chain(drop_stale(0), one_from_each(), combine)
    return Scheme("sync", stage, after_own_update(), is_lockstep=True)


def asynchronous(in_flight: int = 1) -> Scheme:
    """Every gradient is an update as it arrives; nobody waits.

    Mean staleness is workers - 1, since at every update all others are computing (Dean et al.
    2012, "Large Scale Distributed Deep Networks"; TensorFlow between graphs).

    Args:
        in_flight: 2 lets a worker receive parameters while it computes, see ``at_once``.
    """
    return Scheme("async", chain(), at_once(in_flight))


def backup_workers(n: int, combine: Stage = average) -> Scheme:
    """The first gradients of n distinct workers make an update; late ones are refused.

    A late worker finishes its gradient, in vain, and then starts on the newest version. Chen et al.
    (2016), "Revisiting Distributed Synchronous SGD", arXiv 1604.00981, algorithms 3 and 4, as the
    text describes it: n workers and b backup workers.
    """
    stage = chain(drop_stale(0), one_from_each(n), combine)
    return Scheme(f"backup(n={n})", stage, after_own_update(), workers_needed=n)


def dynamic_backup(least: int, noise: float, combine: Stage = average) -> Scheme:
    """As many workers make an update as are worth waiting for; late ones are refused.

    How many it measures and decides anew at every update, see ``dynamic.py``. Workers of equal
    speed are all awaited; one that is much slower than the rest is a backup worker.

    Args:
        least: Workers that make an update.
        noise: Of a gradient, its variance over the squared norm of its mean: the larger, the more
            it is worth to average many.
        combine: How the gradients of an update combine.

    References:
        Xu et al. (2020), "Dynamic Backup Workers for Parallel Machine Learning".
    """
    stage = chain(drop_stale(0), worth_waiting_for(least, noise), combine)
    name = f"dynamic-backup(least={least}, noise={noise:g})"
    return Scheme(name, stage, after_own_update(), workers_needed=least)


def backup_gradients(n: int, combine: Stage = average) -> Scheme:
    """Any n gradients of the newest version make an update; late ones are refused.

    TensorFlow's ``SyncReplicasOptimizer(replicas_to_aggregate=n)`` counts gradients, not workers: a
    fast worker may contribute twice while tokens are left, and n may exceed the number of
    workers. It averages (it summed at first).
    """
    stage = chain(drop_stale(0), collect(n), combine)
    return Scheme(f"backup(n={n}, count=gradients)", stage, tokens(n))


def ssp(bound: int) -> Scheme:
    """Every gradient is an update; no worker starts over ``bound`` clocks ahead of the slowest.

    Updates are added as they arrive. While one gradient is computed, each other worker delivers at
    most 2 * bound + 1, so staleness is at most (workers - 1) * (2 * bound + 1). Bound 0 is
    lockstep: all start on the same version, and n updates follow one another.

    References:
        Ho et al. (2013), "More Effective Distributed ML via a Stale Synchronous Parallel Parameter
        Server".
    """
    return Scheme(f"ssp(bound={bound})", chain(), bounded_lead(bound))


def softsync(n: int, combine: Stage = average, max_staleness: int | None = None) -> Scheme:
    """One update for every floor(workers / n) gradients, whoever they come from; nobody waits.

    n = 1 makes updates of as many gradients as there are workers, n = workers is asynchronous.
    While an update of c gradients is made, all workers but the one that gave the last of them are
    computing, so mean staleness is (workers - 1) / c whatever their speeds: n - n / workers where n
    divides them, the published "n". Staleness stays within 2 n while no worker delivers more than
    two gradients during one of another's, as the paper measured; ``max_staleness=2 * n`` enforces
    it by refusing.

    References:
        Zhang et al. (2016), "Staleness-aware Async-SGD for Distributed Deep Learning".
    """
    if n < 1:
        raise InputError(f"softsync: n is {n}; it must be from 1 to the number of workers")
    gather = chain(collect(lambda members: members // n), combine)
    if max_staleness is not None:
        gather = chain(drop_stale(max_staleness), gather)
    return Scheme(f"softsync(n={n})", gather, at_once(), workers_needed=n)


def k_sync(k: int, combine: Stage = average) -> Scheme:
    """The first k workers make an update, the rest abandon their gradients; all start together.

    Dutta et al. (2018), "Slow and Stale Gradients Can Win the Race". An update takes the k-th order
    statistic of the workers' times.
    """
    stage = chain(one_from_each(k), combine)
    return Scheme(f"k-sync(k={k})", stage, after_own_update(), Stragglers.CANCEL, workers_needed=k)


def k_batch_sync(k: int, combine: Stage = average) -> Scheme:
    """The first k gradients on the newest version make an update, the rest are abandoned.

    A worker that is done before starts on the same version again (Dutta et al. 2018).
    """
    stage = chain(collect(k), combine)
    return Scheme(f"k-batch-sync(k={k})", stage, at_once(), Stragglers.CANCEL)


def k_async(k: int, combine: Stage = average) -> Scheme:
    """Gradients of k distinct workers make an update, of whatever version; the rest go on.

    Those whose gradients are in it start on its result (Dutta et al. 2018).
    """
    stage = chain(one_from_each(k), combine)
    return Scheme(f"k-async(k={k})", stage, after_own_update(), workers_needed=k)


def k_batch_async(k: int, combine: Stage = average) -> Scheme:
    """Any k gradients make an update, of whatever version; nobody waits.

    Dutta et al. (2018); with k = workers / n it is n-softsync.
    """
    return Scheme(f"k-batch-async(k={k})", chain(collect(k), combine), at_once())


def drop_stale_async(bound: int, in_flight: int = 1) -> Scheme:
    """Asynchronous, but a gradient more than ``bound`` versions old is refused.

    TensorFlow's ``DropStaleGradientOptimizer`` (contrib).
    """
    return Scheme(f"drop-stale(bound={bound})", chain(drop_stale(bound)), at_once(in_flight))


def staleness_aware(scheme: Scheme, rate: Callable[[int], float] = one_over_tau) -> Scheme:
    """Any scheme with a learning rate that depends on each gradient's staleness.

    Args:
        scheme: The scheme to change.
        rate: From staleness to a factor; the default is that of Zhang et al. (2016).
    """
    stage = chain(scheme.stage, scale_by_staleness(rate))
    return replace(scheme, name=f"{scheme.name} staleness-aware", stage=stage)
