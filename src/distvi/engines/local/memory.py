"""Memory that several processes share: slots of equal size, and arrays that never change.

The memory has no name, only descriptors that processes inherit: when the last process that holds
one has ended, however it ended, the kernel takes the memory back. Nothing can be left behind.
"""

import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from distvi.engines.coordinator.slots import CAPACITY, Numbers, SlotMap
from distvi.system.memmap import place_in_file


class SharedSlots:
    """`distvi.engines.coordinator.slots.Slots` in shared memory.

    Each begins at a page, so XLA reads it in place. Those that there can be are address space
    alone: a slot takes memory once it is written.

    Args:
        slot_bytes: Size of one.
        descriptor: Of the memory, in a process that did not make it.
    """

    def __init__(self, slot_bytes: int, descriptor: int | None = None) -> None:
        self.slot_bytes = slot_bytes
        self._stride = -(-max(slot_bytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        if descriptor is None:
            descriptor = new_memory(CAPACITY * self._stride)
            self._close = weakref.finalize(self, os.close, descriptor)
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, CAPACITY * self._stride)

    def close(self) -> None:
        """Give the descriptor up: no more processes will be started. The content stays."""
        self._close()

    def bytes(self, slot: int) -> np.ndarray:
        """The content of a slot, byte by byte."""
        start = slot * self._stride
        return np.frombuffer(self._memory, np.uint8, self.slot_bytes, offset=start)


def shared_numbers(slots: SlotMap, descriptors: Sequence[int] = ()) -> Numbers:
    """New memory for a run's numbers, or that of another process by its descriptors."""
    given = descriptors or (None,) * len(slots.sizes)
    return Numbers(*(SharedSlots(*each) for each in zip(slots.sizes, given, strict=True)))


def descriptors_of(numbers: Numbers) -> tuple[int, ...]:
    """By which another process finds a run's numbers."""
    return tuple(slots.descriptor for slots in numbers if isinstance(slots, SharedSlots))


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
            memory = mmap.mmap(descriptor, array.nbytes)
            np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)[...] = array
        yield SharedArray(dtype, array.shape, "", descriptor, 0)
    finally:
        os.close(descriptor)


def new_memory(size_bytes: int) -> int:
    """A descriptor of new shared memory, all zero."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("distvi", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:  # it has no name either
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size_bytes)
    return descriptor
