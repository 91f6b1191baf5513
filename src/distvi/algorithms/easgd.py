"""Elastic averaging: every worker trains a copy of its own, which a spring holds to the servers'.

A worker remembers its parameters x beside the state of its optimizer. A request brings the
*centre* c, the parameters of the servers. The worker makes tau steps from x, wherever c is, and
then the spring pulls both ends::

    x <- step_tau(... step_1(x));   d = x - c
    x <- x - a d;                   c <- c + a d;                a = beta / P

With P workers c moves by beta of the way to the mean of their copies each time that all have
contributed, while the copies stay apart and explore. (Published with the pull before the steps. It
is the same sequence: the first pull, where x is c, does nothing.)

Workers send ``c - x``, which servers take for a gradient. A server's rate must be a where every
contribution is an update by itself. Where an update is the mean of the k contributions that came
together it must be k a, to move by the sum of the pulls: then what a spring gives to the centre is
what it takes from the copies, and their sum stays what it was. With r = k / P, the requests that a
worker answers for each update, both are ``a P r = beta r``: beta in lockstep, a where nobody waits.
(Where an update has several contributions of each worker it is beta, too: more would overshoot.)
A contribution that the scheme refuses has pulled its worker, and not the centre.

In lockstep on a quadratic loss, centre and copies approach the optimum wherever the local steps by
themselves would, with any beta in (0, 1] and any P. (The published lockstep form pulls x as it was
before its step, and needs ``eta h < 2 - 2 a / (2 - beta)`` for a step eta along a curvature h,
which is less than 2.) There the springs are slack: ``x = c``.

The centre is what is tested and saved. The ELBOs of the course are those of the copies.

References:
    Zhang, Choromanska, LeCun (2015), Deep learning with elastic averaging SGD, algorithm 1
    (asynchronous EASGD) and equations 5 and 6.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array
from pydantic import Field

from distvi.algorithms.base import Batches, Memory, Params, Work, WorkerRule
from distvi.algorithms.draft import Draft
from distvi.algorithms.local_steps import with_local_steps
from distvi.system.settings import Settings


class EASGDSettings(Settings):
    """Workers train copies of their own, which springs hold to the servers' parameters."""

    steps: int = Field(default=10, gt=0)
    """Batches that a worker consumes between two contributions, tau."""

    elasticity: float = Field(default=0.9, gt=0, le=1)
    """Strength of all springs together, beta; that of each is a = beta / workers."""


def elastic(moving_rate: float) -> Callable[[WorkerRule], WorkerRule]:
    """Let a rule of distances start on a copy of the worker's own, and contribute how far that is.

    Args:
        moving_rate: Of the way to the centre, what a copy is pulled back; a.

    Raises:
        InputError: when it wraps a rule that says how payloads travel.
    """

    def wrap(rule: WorkerRule) -> WorkerRule:
        rule = rule.without_wire("easgd")

        def init(centre: Params) -> Memory:
            return rule.init(centre), centre

        def work(centre: Params, memory: Memory, batches: Batches, key: Array) -> Work:
            inner, copy = memory
            distance, inner, neg_elbo = rule.work(copy, inner, batches, key)
            copy = jax.tree.map(jnp.subtract, copy, distance)
            back = jax.tree.map(jnp.subtract, centre, copy)
            copy = jax.tree.map(lambda x, d: x + moving_rate * d, copy, back)
            return Work(back, (inner, copy), neg_elbo)

        return rule._replace(work=work, init=init)

    return wrap


def wrap(settings: EASGDSettings, draft: Draft) -> Draft:
    """See `distvi.algorithms.registry`."""
    outer = optax.sgd(settings.elasticity * min(1.0, draft.requests_per_update))
    draft = with_local_steps(draft, "easgd", settings.steps, outer)
    return draft._replace(worker=elastic(settings.elasticity / draft.workers)(draft.worker))
