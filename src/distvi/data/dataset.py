"""What a data set is to the rest of the package: named columns, a training part and a test part."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Float32, Integer, Shaped

from distvi.data.encodings import Column, Number, column_from_json, column_to_json
from distvi.data.mapping import RowFile

_BLOCK_BYTES = 32 << 20
_LARGE_BYTES = 1 << 30
_PIECES, _PIECE_BYTES = 4096, 1 << 16

MOST_TURNED = 4096
"""Input columns that can be turned: the axes of more would fill hundreds of MB of each run."""

MOST_TURNED_BYTES = 1 << 30
"""Of inputs, as float32, that are turned once, and kept, instead of in each batch."""


class Task(StrEnum):
    """What is predicted, and so how the targets are stored."""

    REGRESSION = "regression"
    """Real numbers: ``y`` is float32 (rows, outputs)."""
    CLASSIFICATION = "classification"
    """One of several classes: ``y`` is int32 (rows,), a number into ``Dataset.classes``."""
    COUNT = "count"
    """How many: ``y`` is float32 (rows, 1), whole numbers from zero on."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Rows of inputs with their targets, in the type they are stored in.

    Attributes:
        x: Inputs, uint8 (images) or float32. It may be a memory-mapped file, of which indexing it
            makes pages resident; ``take`` and ``blocks`` do not.
        y: Targets; see ``Task``. Always in memory.
    """

    x: Shaped[np.ndarray, "rows inputs"]
    y: Float32[np.ndarray, "targets outputs"] | Integer[np.ndarray, " targets"]
    _file: RowFile | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"{len(self.x)} rows of inputs and {len(self.y)} of targets")
        object.__setattr__(self, "_file", RowFile.behind(self.x))

    def __len__(self) -> int:
        return len(self.x)

    def take(self, indices: Integer[np.ndarray, " batch"]) -> tuple[np.ndarray, np.ndarray]:
        """Copies of the rows with these numbers; of a mapped file nothing stays resident.

        Example:
            >>> rows = Examples(np.array([[1.0], [2.0]], np.float32), np.array([0, 1], np.int32))
            >>> rows.take(np.array([1, 1]))[0].ravel()
            array([2., 2.], dtype=float32)
        """
        x = self.x.take(indices, axis=0) if self._file is None else self._file.take(indices)
        return x, self.y.take(indices, axis=0)

    def blocks(self) -> Iterator[np.ndarray]:
        """The inputs from first to last, as consecutive blocks of whole rows."""
        step = self._rows_of(_BLOCK_BYTES)
        for start in range(0, len(self), step):
            yield self._between(start, start + step)

    def pieces(self) -> Iterator[np.ndarray]:
        """As `blocks`, or of inputs above 1 GiB 4,096 pieces of 64 KiB, evenly spaced."""
        if self.x.nbytes <= _LARGE_BYTES:
            yield from self.blocks()
            return
        step = self._rows_of(_PIECE_BYTES)
        for start in np.linspace(0, len(self) - step, _PIECES).astype(int).tolist():
            yield self._between(start, start + step)

    def _rows_of(self, size_bytes: int) -> int:
        return max(1, size_bytes // max(1, self.x.dtype.itemsize * self.x.shape[1]))

    def _between(self, start: int, stop: int) -> np.ndarray:
        return self.x[start:stop] if self._file is None else self._file.read(start, stop)


@dataclass(frozen=True)
class Schema:
    """The columns of a data set without its rows: what a run must remember to read new inputs.

    Attributes:
        name: The data set's name, or its file's.
        task: What is predicted.
        inputs: Names of the input columns, in order.
        targets: Names of the target columns, in order.
        classes: Names of the classes in order; empty unless the task is classification.
        is_bytes: Whether the inputs are bytes, as images have them.
        columns: Of a table, what its columns become; empty: each input is a column of numbers.
    """

    name: str
    task: Task
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    classes: tuple[str, ...] = ()
    is_bytes: bool = False
    columns: tuple[Column, ...] = ()

    @property
    def table_columns(self) -> tuple[Column, ...]:
        """The columns that a table of new inputs has to have."""
        return self.columns or tuple(Number(name) for name in self.inputs)

    @property
    def is_encoded(self) -> bool:
        """Whether inputs are made of a table's columns, so that no array has them."""
        return any(not isinstance(c, Number) or len(c.inputs) > 1 for c in self.columns)

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of plain strings and lists."""
        return {
            "name": self.name,
            "task": str(self.task),
            "inputs": list(self.inputs),
            "targets": list(self.targets),
            "classes": list(self.classes),
            "is_bytes": self.is_bytes,
            "columns": [column_to_json(column) for column in self.columns],
        }

    def has_columns_of(self, other: "Schema") -> bool:
        """Whether task, inputs, targets and classes are the same."""
        ours = self.task, self.inputs, self.targets, self.classes
        return ours == (other.task, other.inputs, other.targets, other.classes)

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
            # Older descriptions have neither.
            is_bytes=bool(record.get("is_bytes", False)),
            columns=tuple(column_from_json(each) for each in record.get("columns", ())),
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
        drawn: Whether the test part was drawn from the rows, by a fraction and a seed.
        columns: Of a table, what its columns become.
        notes: What a person may not expect of how the data were read.
    """

    name: str
    task: Task
    train: Examples
    test: Examples
    classes: tuple[str, ...]
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    drawn: bool = False
    columns: tuple[Column, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def schema(self) -> Schema:
        """Its columns, without the rows."""
        is_bytes = self.train.x.dtype == np.uint8
        return Schema(
            self.name,
            self.task,
            self.inputs,
            self.targets,
            self.classes,
            is_bytes,
            self.columns,
        )

    def checksum(self) -> str:
        """By which data that are given again are known: of all rows, in their order.

        Of inputs above 1 GiB a part counts, in pieces all over them.
        """
        digest = blake2b(digest_size=16)
        for part in (self.train, self.test):
            for array in (part.x, part.y):
                digest.update(f"{array.dtype.str} {array.shape}".encode())
            for block in chain(part.pieces(), [part.y]):
                digest.update(np.ascontiguousarray(block).data)
        return digest.hexdigest()

    @property
    def inputs_mode(self) -> str:
        """How its inputs are put to scale by default: see ``Standardization.learn``."""
        x = self.train.x
        if x.dtype != np.uint8:
            return "standardize"
        can_be_turned = x.shape[1] <= MOST_TURNED and x.size * 4 <= MOST_TURNED_BYTES
        return "pca" if can_be_turned else "center"
