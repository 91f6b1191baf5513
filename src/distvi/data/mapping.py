"""Arrays that stay in their file, and reading single rows of them."""

import io
import math
import os
import weakref
from pathlib import Path

import numpy as np

from distvi.errors import InputError, RunFailed
from distvi.mapped import place_in_file


def map_array(path: Path, dtype: np.dtype, shape: tuple[int, ...], offset: int) -> np.ndarray:
    """A read-only array over part of a file.

    Args:
        path: The file; it must hold the whole array (the callers say so in their own words).
        dtype: Type of the entries.
        shape: Shape, row-major.
        offset: Where the entries begin, in bytes.
    """
    if math.prod(shape) == 0:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, mode="r", offset=offset, shape=shape).view(np.ndarray)


_NEAR_BYTES = 1 << 14  # to read so much more takes less time than another call


class RowFile:
    """Rows of a memory-mapped array, read with system calls instead of through the mapping.

    A page that is touched through a mapping becomes resident, and the kernel maps its neighbours
    with it: 1000 random rows of 784 bytes in a file of 6 GB took 5.5 ms and left 60 MB resident;
    reading them takes 2.4 ms and leaves nothing. Only the page cache, which the kernel may
    reclaim, holds the file. Rows that lie close together are read with one call.
    """

    def __init__(self, path: Path, offset: int, array: np.ndarray):
        self._path, self._offset = path, offset
        self._rows, self._width, self._dtype = len(array), array.shape[1], array.dtype
        self._row_bytes = array.dtype.itemsize * array.shape[1]
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    @classmethod
    def behind(cls, array: np.ndarray) -> "RowFile | None":
        """The file of a memory-mapped array or of consecutive rows of one; None if in memory."""
        place = place_in_file(array)
        if place is None or not hasattr(os, "preadv"):
            return None
        return cls(*place, array)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Copies of the rows with these numbers."""
        if len(indices) and not 0 <= indices.min() <= indices.max() < self._rows:
            raise IndexError(f"row numbers must lie in 0 to {self._rows - 1}")
        if not len(indices):
            return self.read(0, 0)
        order = np.argsort(indices)
        rows = indices[order].astype(np.int64)
        far = 1 + np.flatnonzero(np.diff(rows) * self._row_bytes > _NEAR_BYTES)
        begins = np.append(0, far)  # of stretches of rows that lie close together
        counts = np.diff(begins, append=len(rows))
        starts, stops = rows[begins], rows[begins + counts - 1] + 1
        places = rows + np.repeat(np.cumsum(stops - starts) - stops, counts)
        taken = np.empty((len(rows), self._width), self._dtype)
        taken[order] = self._stretches(starts, stops)[places]
        return taken

    def read(self, start: int, stop: int) -> np.ndarray:
        """Copies of the rows from ``start`` up to ``stop``."""
        return self._stretches(np.array([start]), np.array([max(start, min(stop, self._rows))]))

    def _stretches(self, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """Copies of several stretches of rows, one after another."""
        lengths = ((stops - starts) * self._row_bytes).tolist()
        offsets = (starts * self._row_bytes + self._offset).tolist()
        if hasattr(os, "posix_fadvise"):
            # What must come from the disk is asked for all at once: four times as fast.
            for offset, length in zip(offsets, lengths, strict=True):
                os.posix_fadvise(self._descriptor, offset, length, os.POSIX_FADV_WILLNEED)
        rows = np.empty((int(np.sum(stops - starts)), self._width), self._dtype)
        view, begin = rows.reshape(-1).view(np.uint8).data, 0
        for offset, length in zip(offsets, lengths, strict=True):
            self._fill(view[begin : begin + length], offset)
            begin += length
        return rows

    def _fill(self, part: memoryview, offset: int) -> None:
        while part:  # a call gives 2 GiB at most
            count = os.preadv(self._descriptor, (part,), offset)
            if not count:
                raise RunFailed(f"{self._path}: was cut short while it was in use")
            part, offset = part[count:], offset + count


def map_npy(path: Path) -> np.ndarray:
    """A ``.npy`` file as a memory-mapped array.

    Raises:
        InputError: missing, cut short, not in npy format, or holding Python objects.
    """
    try:
        with path.open("rb") as file:
            dtype, shape, offset = read_npy_header(file, path)
            size_bytes = path.stat().st_size
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    expected_bytes = offset + math.prod(shape) * dtype.itemsize
    if size_bytes < expected_bytes:
        raise InputError(
            f"{path}: truncated: {size_bytes} bytes, its header announces {expected_bytes}"
        )
    return map_array(path, dtype, shape, offset)


def read_npy_header(file: io.BufferedIOBase, path: Path) -> tuple[np.dtype, tuple[int, ...], int]:
    """Type, shape and where the entries begin in the file, which stands at the npy magic string.

    Raises:
        InputError: not in npy format, stored by columns, or holding Python objects.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    except ValueError as error:
        raise InputError(f"{path}: not a NumPy array file: {error}") from None
    if dtype.hasobject:
        raise InputError(f"{path}: holds Python objects; save numbers or text instead")
    if fortran and len(shape) > 1:
        raise InputError(f"{path}: stored by columns; save numpy.ascontiguousarray of it instead")
    return dtype, shape, file.tell()
