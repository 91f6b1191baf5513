"""The four IDX files of MNIST, as LeCun, Cortes and Burges published them."""

from pathlib import Path

import numpy as np

from distvi.data.dataset import Dataset, Examples, Task
from distvi.data.idx import find_idx, read_idx
from distvi.errors import InputError

IMAGES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
LABELS = {"train": "train-labels-idx1-ubyte", "test": "t10k-labels-idx1-ubyte"}


def holds_mnist(folder: Path) -> bool:
    """Whether the folder has at least one of the four files."""
    return any(find_idx(folder, name) for name in [*IMAGES.values(), *LABELS.values()])


def read_mnist(folder: Path, name: str) -> Dataset:
    """Images and digits in their original split; any images and labels in these four files.

    Raises:
        InputError: a file is missing, cut short, foreign, or does not fit its partner.
    """
    parts = {part: _read_part(folder, part) for part in ("train", "test")}
    inputs = {part: rows.x.shape[1] for part, rows in parts.items()}
    if inputs["train"] != inputs["test"]:
        raise InputError(f"{folder}: training and test images differ in size")
    labels = {part: int(rows.y.max()) for part, rows in parts.items()}
    if np.all(parts["train"].y == parts["train"].y[0]):
        raise InputError(f"{folder}: the training labels hold only one class")
    return Dataset(
        name=name,
        task=Task.CLASSIFICATION,
        train=parts["train"],
        test=parts["test"],
        classes=tuple(str(digit) for digit in range(max(labels.values()) + 1)),
        inputs=tuple(f"pixel{number}" for number in range(inputs["train"])),
        targets=("label",),
    )


def _read_part(folder: Path, part: str) -> Examples:
    images_file, labels_file = _required(folder, IMAGES[part]), _required(folder, LABELS[part])
    images, labels = read_idx(images_file), read_idx(labels_file)
    if images.ndim != 3 or images.size == 0:
        raise InputError(f"{images_file}: holds no images but an array of shape {images.shape}")
    if labels.shape != images.shape[:1]:
        raise InputError(
            f"{labels_file}: labels of shape {labels.shape} for {len(images)} images in "
            f"{images_file.name}"
        )
    return Examples(images.reshape(len(images), -1), labels.astype(np.int32))


def _required(folder: Path, name: str) -> Path:
    path = find_idx(folder, name)
    if path is None:
        raise InputError(f"{folder}: no {name} or {name}.gz in this folder")
    return path
