"""Arrays that stay in their file, and reading single rows of them."""

import io
import math
import os
import weakref
from pathlib import Path

import numpy as np

from distvi.errors import InputError, RunFailed
from distvi.system.memmap import place_in_file


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


_NEAR_BYTES = 1 << 12  # to read so much more takes less time than another call
_STRETCH_BYTES = 1 << 20
_DENSE_ROWS = 4  # fewer rows are read one by one, in a loop that does nothing else
_CALL_BYTES = 1 << 30  # no system takes more at once


class RowFile:
    """Rows of a memory-mapped array, read with system calls instead of through the mapping.

    A page that is touched through a mapping becomes resident, and the kernel maps its neighbours
    with it: 1000 random rows of 784 bytes in a file of 6 GB left 60 MB resident. Reading them
    takes half of the time and leaves nothing: only the page cache, which the kernel may reclaim,
    holds the file.
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
        """Copies of the rows with these numbers.

        Rows that lie close together are read with one call: a stretch of at most 1 MiB.
        """
        if len(indices) and not 0 <= indices.min() <= indices.max() < self._rows:
            raise IndexError(f"row numbers must lie in 0 to {self._rows - 1}")
        order = np.argsort(indices)
        rows = indices[order].astype(np.int64)
        begins, ends = self._stretches(rows)
        is_dense = ends - begins >= _DENSE_ROWS
        alone = np.repeat(~is_dense, ends - begins)
        begins, ends = begins[is_dense], ends[is_dense]
        starts, stops = rows[begins], rows[ends - 1] + 1
        self._ask_for(rows[alone], rows[alone] + 1)
        self._ask_for(starts, stops)
        taken = np.empty((len(rows), self._width), self._dtype)
        taken[order[alone]] = self._each(rows[alone])
        dense = (column.tolist() for column in (begins, ends, starts, stops))
        for begin, end, start, stop in zip(*dense, strict=True):
            taken[order[begin:end]] = self.read(start, stop)[rows[begin:end] - start]
        return taken

    def _stretches(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where stretches begin and end among the numbers of rows, which ascend."""
        offsets = rows * self._row_bytes
        is_far = np.diff(offsets) > _NEAR_BYTES
        is_far |= np.diff(offsets // _STRETCH_BYTES) > 0
        cuts = 1 + np.flatnonzero(is_far)
        edges = np.concatenate(([0], cuts, [len(rows)])) if len(rows) else cuts
        return edges[:-1], edges[1:]

    def _ask_for(self, starts: np.ndarray, stops: np.ndarray) -> None:
        """Tell the kernel what will be read. From a disk all at once comes four times as fast."""
        if not hasattr(os, "posix_fadvise"):
            return
        offsets = (starts * self._row_bytes + self._offset).tolist()
        lengths = ((stops - starts) * self._row_bytes).tolist()
        for offset, length in zip(offsets, lengths, strict=True):
            os.posix_fadvise(self._descriptor, offset, length, os.POSIX_FADV_WILLNEED)

    def _each(self, rows: np.ndarray) -> np.ndarray:
        """Copies of rows, each read by itself."""
        offsets = (rows * self._row_bytes + self._offset).tolist()
        descriptor, row_bytes = self._descriptor, self._row_bytes
        content = b"".join([os.pread(descriptor, row_bytes, offset) for offset in offsets])
        if len(content) != len(rows) * row_bytes:
            raise self._cut_short()
        return np.frombuffer(content, self._dtype).reshape(len(rows), self._width)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Copies of the rows from ``start`` up to ``stop``."""
        count = max(0, min(stop, self._rows) - start)
        rows = np.empty((count, self._width), self._dtype)
        left, offset = rows.view(np.uint8).reshape(-1).data, self._offset + start * self._row_bytes
        while left:
            came = os.preadv(self._descriptor, (left[:_CALL_BYTES],), offset)
            if not came:
                raise self._cut_short()
            left, offset = left[came:], offset + came
        return rows

    def _cut_short(self) -> RunFailed:
        return RunFailed(f"{self._path}: was cut short while it was in use")


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
