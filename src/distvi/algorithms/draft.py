"""An algorithm in the making, which the rules of a run change one after the other."""

from collections.abc import Callable
from typing import NamedTuple

import optax

from distvi.algorithms.base import ServerRule, WorkerRule


class Draft(NamedTuple):
    """What a rule by name may change.

    Attributes:
        worker: What workers make of requests so far.
        server: What servers make of contributions so far.
        optimizer: From a number of steps for each update of the run, in the mean, to the optimizer
            that the run was asked for, with its learning rates and freezes over as many steps.
        requests_per_update: That a worker answers, in the mean: 1 in lockstep, 1 of n where each
            of n workers makes updates by itself.
    """

    worker: WorkerRule
    server: ServerRule
    optimizer: Callable[[float], optax.GradientTransformation]
    requests_per_update: float = 1.0
