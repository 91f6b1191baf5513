"""What a model must beat: the best prediction that is the same for every input."""

import math

import numpy as np

from distvi.data import Examples, Task


def constant_metrics(train: Examples, test: Examples, task: Task) -> dict[str, float]:
    """Test metrics of the constant that is learnt on the training targets, in their units.

    Args:
        train: Of which the frequencies of classes, the mean of counts, or the mean and variance of
            each target are taken.
        test: At least one example.
        task: Of classes there is ``error_rate``, else ``rmse``; and ``mnll``, of the frequencies, a
            Poisson or a normal law, in nats: infinite for a class that is not among the training
            examples.

    Example:
        >>> y = np.arange(2, dtype=np.int32)
        >>> halves = Examples(np.zeros((2, 1), np.float32), y)
        >>> constant_metrics(halves, halves, Task.CLASSIFICATION)["error_rate"]
        0.5
    """
    if task is Task.CLASSIFICATION:
        return _of_classes(train.y, test.y)
    known, asked = np.asarray(train.y, np.float64), np.asarray(test.y, np.float64)
    mean, squares = known.mean(axis=0), np.square(asked - known.mean(axis=0))
    if task is Task.COUNT:
        rate = max(float(mean[0]), 1e-12)
        counts, rows = np.unique(asked, return_counts=True)
        log_factorials = np.array([math.lgamma(count + 1.0) for count in counts])
        loss = np.average(rate - counts * math.log(rate) + log_factorials, weights=rows)
    else:
        variance = known.var(axis=0)
        variance = np.where(variance > 0, variance, 1.0)
        loss = 0.5 * (np.log(2 * math.pi * variance) + squares / variance).sum(axis=1).mean()
    return {"rmse": math.sqrt(squares.mean()), "mnll": float(loss)}


def _of_classes(known: np.ndarray, asked: np.ndarray) -> dict[str, float]:
    counts = np.bincount(known, minlength=int(asked.max()) + 1)
    of_each = counts[asked] / len(known)
    loss = -np.log(of_each).mean() if of_each.min() > 0 else math.inf
    return {"error_rate": float(np.mean(asked != counts.argmax())), "mnll": float(loss)}
