"""Whether a run goes wrong, found out while it runs.

A run can lose what it has learnt, or never learn: stale gradients throw the parameters to where
the posterior is as good as its prior, predictions are those of chance, and gradients lead nowhere.
Nothing is infinite there, so nothing stops; whoever waits for the end has waited in vain.

The sign is the ELBO's first part, the expected log density of the training examples, beside the log
density that a constant has: the frequencies of the classes, or the targets' mean and variance.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from distvi.config.run import RunConfig
from distvi.data import Examples, Task
from distvi.evaluation.constant import constant_metrics
from distvi.training.plan import Plan

_LOOKS = 20  # in a run
_FIRST = 200  # updates before any complaint
_LOST = 0.5  # of what was gained over the constant
_GAINED = 0.1  # nats an example; less than that is no gain that could be lost
_NO_BETTER = 0.02  # nats an example
_SHARE, _STALE_SHARE = 0.5, 0.3  # of the run, after which it should be better than the constant


class Health:
    """Looks at a run now and then, and complains once.

    Args:
        plan: Of the run. A model that does not tell its KL apart is left in peace: its loss need
            not be a log density at all.
        update: From which it goes on.
        has_complained: Whether it has before that.
    """

    def __init__(self, plan: Plan, update: int = 0, *, has_complained: bool = False) -> None:
        self._plan, self._n_train = plan, len(plan.dataset.train)
        self._kl = plan.programs.jit("divergence", plan.divergence) if plan.has_divergence else None
        self.staleness = plan.config.engine.mean_staleness(plan.scheme)
        self._every = max(1, plan.updates // _LOOKS)
        self._next = update + self._every
        self._constant = constant_loss(plan.dataset.train, plan.dataset.task)
        self._best, self._bad, self._has_complained = math.inf, 0, has_complained

    def look(self, update: int, neg_elbo: float, params: Callable[[], Any]) -> str | None:
        """A complaint, if there is one.

        Args:
            update: Updates made.
            neg_elbo: Of an example, in the mean over the last updates, in nats.
            params: Gives the parameters after those.
        """
        if self._kl is None or self._has_complained or update < self._next:
            return None
        self._next = update + self._every
        loss = neg_elbo - float(self._kl(params())) / self._n_train
        self._best = min(self._best, loss)
        gained = self._constant - self._best
        has_lost = gained > _GAINED and loss > self._best + _LOST * gained
        self._bad = self._bad + 1 if has_lost else 0
        share = _STALE_SHARE if self.staleness >= 1 else _SHARE
        is_late = update >= share * self._plan.updates
        if update < _FIRST:
            return None
        if self._bad >= 2:  # a single one may be an accident of its batches
            return self._complaint(update, loss, "has lost most of what it had learnt")
        if is_late and gained < _NO_BETTER:
            return self._complaint(update, loss, "has learnt nothing yet")
        return None

    def _complaint(self, update: int, loss: float, what: str) -> str:
        self._has_complained = True
        batches = self._plan.algorithm.worker.batches
        cures = cures_of(self._plan.config, self.staleness, of_gradients=batches == 1)
        why = ""
        if self.staleness >= 1:
            why = f" Its gradients are about {self.staleness:.3g} updates old."
        return (
            f"update {update}: the run {what}: log density {-loss:.3g} for a training example, "
            f"and {-self._constant:.3g} with a constant prediction.{why} Try {cures}"
        )


def constant_loss(train: Examples, task: Task) -> float:
    """Negative log density of a training target under the best constant, in nats.

    Args:
        train: Examples.
        task: Of classes it is their entropy; of counts that of a Poisson law; of a regression that
            of a normal law, in standard units, summed over targets.

    Example:
        >>> import numpy as np
        >>> round(constant_loss(Examples(np.zeros((2, 1), np.float32), np.arange(2)),
        ...                     Task.CLASSIFICATION), 4)
        0.6931
    """
    if task is Task.REGRESSION:
        return train.y.shape[1] * 0.5 * math.log(2 * math.pi * math.e)
    return constant_metrics(train, train, task)["mnll"]


def cures_of(config: RunConfig, staleness: float, *, of_gradients: bool) -> str:
    """What to try, the likeliest first, without what the run has already.

    Args:
        config: Of the run.
        staleness: Of its contributions, in updates.
        of_gradients: Whether these are gradients, and not the way of several steps.
    """
    training, cures = config.training, []
    is_stale = staleness >= 1
    options: Mapping[str, Any] = training.optimizer_options
    if is_stale and config.data.inputs not in ("pca", "whiten"):
        cures.append("--inputs pca")
    if is_stale and not of_gradients:
        cures.append("fewer steps between contributions")
    elif is_stale and not (training.optimizer == "adam" and options.get("b1") == 0.0):
        cures.append("--optimizer auto")
    if is_stale and of_gradients and not config.algorithm.rules:
        cures.append("--rules server-divergence")
    cures.append(f"a --learning-rate below {training.learning_rate:g}")
    if not is_stale:
        return f"{', '.join(cures)}, or more updates"
    cures.append("fewer --workers")
    return f"{', '.join(cures)}, or --scheme sync or backup (docs/asynchrony.md tells why)"
