"""Memory that several processes share, and arrays in it that never change.

The memory has no name, only descriptors that processes inherit: when the last process that holds
one has ended, however it ended, the kernel takes the memory back. Nothing can be left behind.
"""

import errno
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from distvi.errors import InputError
from distvi.system.memmap import place_in_file

_LIMITS = {
    errno.ENOMEM: "ulimit -v",
    errno.EFBIG: "ulimit -f",
    errno.EMFILE: "ulimit -n",
    errno.ENFILE: "fs.file-max",
}
"""What to look at, by the system's error."""


class SharedArray(NamedTuple):
    """Where another process finds an array.

    Attributes:
        dtype: Its type, as NumPy spells it.
        shape: Its shape, row-major.
        path: The file it lies in; empty: ``descriptor`` has it.
        descriptor: Of shared memory; -1 where there is a file.
        offset: Where it begins in the file, in bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    path: str
    descriptor: int
    offset: int

    def open(self) -> np.ndarray:
        """The array, read-only. Of a file nothing is read yet."""
        dtype, shape = np.dtype(self.dtype), tuple(self.shape)
        if 0 in shape:
            return np.empty(shape, dtype)
        if self.path:
            return np.memmap(self.path, dtype, mode="r", offset=self.offset, shape=shape)
        memory = mmap.mmap(self.descriptor, 0, access=mmap.ACCESS_READ)
        count = int(np.prod(shape))
        return np.frombuffer(memory, dtype, count).reshape(shape)


@contextmanager
def shared(array: np.ndarray) -> Iterator[SharedArray]:
    """Offer an array to other processes: by its file if it is mapped from one, else as a copy."""
    dtype = array.dtype.str
    if (place := place_in_file(array)) is not None:
        path, offset = place
        yield SharedArray(dtype, array.shape, str(path), -1, offset)
        return
    descriptor = new_memory(max(array.nbytes, 1))
    try:
        if array.size:
            with granted(array.nbytes):
                memory = mmap.mmap(descriptor, array.nbytes)
            np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)[...] = array
        yield SharedArray(dtype, array.shape, "", descriptor, 0)
    finally:
        os.close(descriptor)


def new_memory(size_bytes: int) -> int:
    """A descriptor of new shared memory, all zero.

    Raises:
        InputError: see `granted`.
    """
    with granted(size_bytes):
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("distvi", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:  # it has no name either
                descriptor = os.dup(file.fileno())
        try:
            os.ftruncate(descriptor, size_bytes)
        except OSError:
            os.close(descriptor)
            raise
    return descriptor


@contextmanager
def granted(size_bytes: int) -> Iterator[None]:
    """Say what the system has refused, and what to do.

    Raises:
        InputError: a limit of the shell or of the job is too low, or the machine's memory.
    """
    try:
        yield
    except OSError as error:
        limits = _LIMITS.get(error.errno or 0, "ulimit -a")
        raise InputError(
            f"cannot share {size_bytes / 1e9:.3g} GB of addresses between processes: "
            f"{error.strerror}; raise the limit ({limits}), or use --engine mesh, which shares none"
        ) from error
