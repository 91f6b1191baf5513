"""What a data set is to the rest of the package: named columns, a training part and a test part."""

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from jaxtyping import Float32, Integer, Shaped

RELEASE_BYTES = 32 << 20
"""A memory-mapped array gives its pages back after about this many bytes were read from it."""

_PAGE_BYTES = mmap.PAGESIZE


class Task(StrEnum):
    """What is predicted, and so how the targets are stored."""

    REGRESSION = "regression"
    """Real numbers: ``y`` is float32 (rows, outputs)."""
    CLASSIFICATION = "classification"
    """One of several classes: ``y`` is int32 (rows,), a number into ``Dataset.classes``."""
    COUNT = "count"
    """How many: ``y`` is float32 (rows, 1), whole numbers from zero on."""


class _Pages:
    """The file behind a memory-mapped array, and how much of it was read since the last release."""

    def __init__(self, mapping: mmap.mmap):
        self.mapping = mapping
        self.touched_bytes = 0

    def touched(self, count_bytes: int) -> None:
        self.touched_bytes += count_bytes
        if self.touched_bytes >= RELEASE_BYTES:
            self.touched_bytes = 0
            if hasattr(self.mapping, "madvise"):
                # The page cache keeps them: a later read is a soft fault, not a disk access.
                self.mapping.madvise(mmap.MADV_DONTNEED)


def _pages_of(array: np.ndarray) -> _Pages | None:
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return _Pages(base) if isinstance(base, mmap.mmap) else None


@dataclass(frozen=True, eq=False)
class Examples:
    """Rows of inputs with their targets, in the type they are stored in.

    Attributes:
        x: Inputs, uint8 (images) or float32; it may be a memory-mapped file.
        y: Targets; see ``Task``. Always in memory.
    """

    x: Shaped[np.ndarray, "rows inputs"]
    y: Float32[np.ndarray, "rows outputs"] | Integer[np.ndarray, " rows"]
    _pages: _Pages | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"{len(self.x)} rows of inputs and {len(self.y)} of targets")
        object.__setattr__(self, "_pages", _pages_of(self.x))

    def __len__(self) -> int:
        return len(self.x)

    def take(self, indices: Integer[np.ndarray, " batch"]) -> tuple[np.ndarray, np.ndarray]:
        """Copies of the rows with these numbers.

        The resident memory stays bounded however large the file behind ``x`` is: pages that
        were read are given back every ``RELEASE_BYTES``.

        Example:
            >>> rows = Examples(np.array([[1.0], [2.0]], np.float32), np.array([0, 1], np.int32))
            >>> rows.take(np.array([1, 1]))[0].ravel()
            array([2., 2.], dtype=float32)
        """
        if self._pages is None:
            return np.take(self.x, indices, axis=0), np.take(self.y, indices, axis=0)
        row_bytes = self.x.dtype.itemsize * self.x.shape[1] + _PAGE_BYTES
        step = max(1, RELEASE_BYTES // row_bytes)
        x = np.empty((len(indices), self.x.shape[1]), self.x.dtype)
        for start in range(0, len(indices), step):
            part = indices[start : start + step]
            x[start : start + step] = self.x[part]
            self._pages.touched(len(part) * row_bytes)
        return x, np.take(self.y, indices, axis=0)

    def blocks(self, block_bytes: int = RELEASE_BYTES) -> Iterator[np.ndarray]:
        """The inputs from first to last, as consecutive blocks of whole rows."""
        step = max(1, block_bytes // max(1, self.x.dtype.itemsize * self.x.shape[1]))
        for start in range(0, len(self), step):
            block = self.x[start : start + step]
            yield block
            if self._pages is not None:
                self._pages.touched(block.nbytes)


@dataclass(frozen=True)
class Schema:
    """The columns of a data set without its rows: what a run must remember to read new inputs.

    Attributes:
        name: The data set's name, or its file's.
        task: What is predicted.
        inputs: Names of the input columns, in order.
        targets: Names of the target columns, in order.
        classes: Names of the classes in order; empty unless the task is classification.
    """

    name: str
    task: Task
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    classes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of plain strings and lists."""
        return {
            "name": self.name,
            "task": str(self.task),
            "inputs": list(self.inputs),
            "targets": list(self.targets),
            "classes": list(self.classes),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Schema":
        """The inverse of ``to_json``.

        Raises:
            KeyError, ValueError: an entry is missing, or the task is none of ``Task``.
        """
        return cls(
            name=record["name"],
            task=Task(record["task"]),
            inputs=tuple(record["inputs"]),
            targets=tuple(record["targets"]),
            classes=tuple(record["classes"]),
        )


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, split.

    Attributes:
        name: Its name, or its file's.
        task: What is predicted.
        train: Examples to learn from.
        test: Examples to judge by.
        classes: Names of the classes in order; empty unless the task is classification.
        inputs: Names of the input columns.
        targets: Names of the target columns.
    """

    name: str
    task: Task
    train: Examples
    test: Examples
    classes: tuple[str, ...]
    inputs: tuple[str, ...]
    targets: tuple[str, ...]

    @property
    def schema(self) -> Schema:
        """Its columns, without the rows."""
        return Schema(self.name, self.task, self.inputs, self.targets, self.classes)

    @property
    def inputs_mode(self) -> str:
        """How its inputs are put to scale by default: see ``Standardization.learn``."""
        return "unit" if self.train.x.dtype == np.uint8 else "standardize"
