"""Training inputs that are mapped from a file: a machine that sees the file needs no others."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distvi.errors import RunFailed
from distvi.system.memmap import place_in_file

_SAMPLED = 64  # rows whose content is compared


class Rows(NamedTuple):
    """Rows of a file, and how to tell that another machine sees the same.

    Attributes:
        path: The file.
        offset: Where the rows begin, in bytes.
        dtype: Their type, as NumPy spells it.
        shape: Rows and columns.
        checksum: Of a sample of them, evenly spaced.
    """

    path: str
    offset: int
    dtype: str
    shape: tuple[int, ...]
    checksum: str

    @classmethod
    def of(cls, array: np.ndarray) -> "Rows | None":
        """Of an array; None: it lies in memory."""
        place = place_in_file(array)
        if place is None or not array.size:
            return None
        path, offset = place
        checksum = _checksum(array)
        return cls(str(path.resolve()), offset, array.dtype.str, array.shape, checksum)

    def difference(self) -> str:
        """What this machine sees differently; empty: nothing."""
        dtype, path = np.dtype(self.dtype), Path(self.path)
        needed = self.offset + dtype.itemsize * int(np.prod(self.shape))
        try:
            size = path.stat().st_size
            if size < needed:
                return f"the file has {size} bytes there, and {needed} are needed"
            found = _checksum(self._mapped())
        except OSError as error:
            return str(error.strerror or error)
        return "" if found == self.checksum else "the file has other rows there"

    def open(self) -> np.ndarray:
        """The rows, read-only; nothing but a sample is read yet.

        Raises:
            RunFailed: this machine does not see them.
        """
        if difference := self.difference():
            raise RunFailed(f"cannot read the training inputs from {self.path}: {difference}")
        return self._mapped()

    def _mapped(self) -> np.ndarray:
        shape = tuple(self.shape)
        return np.memmap(self.path, np.dtype(self.dtype), "r", offset=self.offset, shape=shape)


def difference(rows: tuple[Any, ...]) -> str:
    """`Rows.difference` on the machine where this is called."""
    return Rows(*rows).difference()


def _checksum(array: np.ndarray) -> str:
    chosen = np.unique(np.linspace(0, len(array) - 1, _SAMPLED).astype(np.int64))
    return hashlib.sha256(array[chosen].tobytes()).hexdigest()
