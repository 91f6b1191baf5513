"""What a person wants to hear of a data set before a model is trained on it."""

from collections.abc import Sequence
from typing import Any

from distvi.data.dataset import Dataset

_MOST_LETTERS = 50


def facts(dataset: Dataset) -> dict[str, Any]:
    """Task, targets, inputs, classes, rows and notes, as ``summary.json`` has them."""
    return {
        "task": str(dataset.task),
        "targets": list(dataset.targets),
        "inputs": len(dataset.inputs),
        "classes": list(dataset.classes),
        "train_rows": len(dataset.train),
        "test_rows": len(dataset.test),
        "notes": list(dataset.notes),
    }


def sentences(dataset: Dataset) -> tuple[str, ...]:
    """The same in lines for the terminal.

    Example:
        >>> import numpy as np
        >>> from distvi.data import from_arrays
        >>> sentences(from_arrays(np.eye(20), np.arange(20) % 2))[1]
        'classification of y into 2 classes (0, 1), from 20 inputs (x0, x1, x2, x3, x4, x5, ...)'
    """
    train, test = len(dataset.train), len(dataset.test)
    what = f"{dataset.task} of {listed(dataset.targets)}"
    if dataset.classes:
        what += f" into {len(dataset.classes)} classes ({listed(dataset.classes)})"
    inputs = f"{len(dataset.inputs)} input{'s' * (len(dataset.inputs) > 1)}"
    return (
        f"{dataset.name}: {train + test:,} rows, {train:,} to train on and {test:,} to test on",
        f"{what}, from {inputs} ({listed(dataset.inputs)})",
        *(f"  {note}" for note in dataset.notes),
    )


def listed(names: Sequence[str], letters: int = _MOST_LETTERS) -> str:
    """As many names as fit, one at least.

    Example:
        >>> listed(["a", "b"]), listed(["alpha", "beta", "gamma"], 12)
        ('a, b', 'alpha, beta, ...')
    """
    shown, length = [], 0
    for name in names:
        length += len(name) + 2
        if shown and length > letters + 2:
            return ", ".join([*shown, "..."])
        shown.append(name)
    return ", ".join(shown)
