"""From observed times to what a simulated cluster costs."""

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np

from distvi.calibration.observations import Arrangement, Interplay, Observation, typical
from distvi.engines.simulated.settings import ClusterSettings, MachineSettings, cluster_of

_NAME = "the calibration"
_DIGITS = 4  # of the jitter, after the point


def fit(
    observations: Sequence[Observation],
    size_bytes: int,
    cores: int | None,
    interplays: Sequence[Interplay] = (),
) -> ClusterSettings:
    """The cluster whose times those are.

    Args:
        observations: Of at least two batch sizes. Where there are several workers, one of them
            alone is needed as well, with a batch size that they have too; and another number of
            servers, to tell what these take from one another.
        size_bytes: Of all parameters.
        cores: Of the machine; None: the workers need none of them.
        interplays: Of arrangements that were observed in lockstep, too.
    """
    machine = None
    if cores is not None:
        machine = MachineSettings(
            cores=cores,
            crowding=_crowding(observations, cores),
            server_crowding=_server_crowding(observations, cores),
            interference=_interference(observations, interplays),
        )
    transfer_s = typical([turn for each in observations for turn in each.transfers_s])
    # Three: the gradient's news, the update's request, the doorbell. The one in the
    # middle keeps the next update waiting.
    message_s = typical([turn for each in observations for turn in each.messages_s]) / 3
    table = {
        "gradient": _gradient(observations, machine),
        "workers": {
            "latency_s": message_s / 2,
            "bandwidth_bytes_per_s": 2 * size_bytes / transfer_s,
        },
        "servers": {
            "latency_s": message_s / 2,
            "bandwidth_bytes_per_s": math.inf,  # memory: the workers' is all there is
            "overhead_s": message_s,
            **_updates(observations, machine, size_bytes),
        },
        "machine": machine and machine.model_dump(),
    }
    return cluster_of(table, _NAME)


def _crowding(observations: Sequence[Observation], cores: int) -> float:
    """How much longer gradients take for each other worker that has a core."""
    alone = {o.arrangement.batch_size: o for o in observations if o.arrangement.workers == 1}
    found = []
    for each in observations:
        workers, batch_size = each.arrangement.workers, each.arrangement.batch_size
        at_work = min(workers, cores)
        if at_work > 1 and batch_size in alone:
            ratio = each.gradient_s / alone[batch_size].gradient_s * at_work / workers
            found.append((ratio - 1) / (at_work - 1))
    return max(0.0, float(np.mean(found))) if found else 0.0


def _server_crowding(observations: Sequence[Observation], cores: int) -> float:
    """How much longer a server takes for its bytes for each other that is at work."""
    machine = MachineSettings(cores=cores)
    per_byte: dict[Arrangement, dict[int, float]] = defaultdict(dict)  # by servers; in any unit
    for each in observations:
        workers, servers, *_ = each.arrangement
        speed = machine.server_speed(workers, 0, servers)
        of_one = each.arrangement._replace(servers=1)
        per_byte[of_one][servers] = typical(each.updates_s) * speed * servers
    found = []
    for times in per_byte.values():
        for few, many in pairwise(sorted(times)):
            at_work, more_at_work = min(few, cores), min(many, cores)
            ratio = times[many] / times[few]
            others = more_at_work - 1 - ratio * (at_work - 1)
            if more_at_work > at_work and others > 0:
                found.append((ratio - 1) / others)
    return max(0.0, float(np.mean(found))) if found else 0.0


def _interference(observations: Sequence[Observation], interplays: Sequence[Interplay]) -> float:
    """What a gradient takes longer for servers at work, as a share of the time they work."""
    lockstep = {each.arrangement: each.gradient_s for each in observations}
    found = []
    for each in interplays:
        overlap_s = typical(each.overlaps_s)
        if overlap_s > 0:
            alone_s = lockstep[each.arrangement._replace(scheme="sync")]
            found.append((typical(each.gradients_s) - alone_s) / overlap_s)
    return float(np.clip(np.mean(found), 0.0, 1.0)) if found else 0.0


def _gradient(
    observations: Sequence[Observation], machine: MachineSettings | None
) -> dict[str, Any]:
    """The line through the times, with the least relative errors."""
    times_s = []
    for each in observations:
        slowdown = machine.slowdown(each.arrangement.workers) if machine else 1.0
        times_s.append(each.gradient_s / slowdown)
    sizes = np.array([each.arrangement.batch_size for each in observations], float)
    terms = np.stack([np.ones_like(sizes), sizes], axis=1)
    overhead_s, per_example_s = _not_negative(terms, np.array(times_s))
    sigma = _jitter(observations)
    jitter = {"kind": "lognormal", "sigma": sigma} if sigma > 0 else {"kind": "none"}
    return {"overhead_s": overhead_s, "per_example_s": per_example_s, "jitter": jitter}


def _jitter(observations: Sequence[Observation]) -> float:
    """Deviation of the logarithm of a gradient's time: what explains how long the last one takes.

    Of gradients that were computed side by side, which a machine that becomes slower makes slower
    together; where there was but one worker, of each gradient and the next.
    """
    most = max(each.arrangement.workers for each in observations)
    found = []
    for each in observations:
        if each.arrangement.workers < most:
            continue
        groups = list(zip(*each.gradients_s.values(), strict=True))
        if most == 1:
            groups = [(own[:-1], own[1:]) for (own,) in groups]
        groups = [group for group in groups if len(group[0])]
        delays = [np.max(group, axis=0) / np.mean(group, axis=0) - 1 for group in groups]
        if delays:
            found.append(typical([list(turn) for turn in delays]) / _last_of(max(most, 2)))
    return round(float(np.mean(found)), _DIGITS) if found else 0.0


def _last_of(count: int) -> float:
    """Expected maximum of so many standard normal variables."""
    normal, at = NormalDist(), np.linspace(-8.0, 8.0, 2001)
    below = np.array([normal.cdf(x) for x in at]) ** count
    return float((at[1:] + at[:-1]) / 2 @ np.diff(below))


def _updates(
    observations: Sequence[Observation], machine: MachineSettings | None, size_bytes: int
) -> dict[str, float]:
    """What an update costs by its bytes, and what each gradient in it does."""
    per_byte_s, gradients = [], []
    for each in observations:
        workers, servers = each.arrangement.workers, each.arrangement.servers
        speed = machine.server_speed(workers, 0, servers) if machine else 1.0
        per_byte_s.append(typical(each.updates_s) * speed * servers / size_bytes)
        gradients.append(float(workers))
    terms = np.stack([np.ones(len(gradients)), np.array(gradients)], axis=1)
    if len(set(gradients)) == 1:  # one number cannot tell the two costs apart
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
