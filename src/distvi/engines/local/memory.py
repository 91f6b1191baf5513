"""Slots of equal size in memory that several processes share."""

import mmap
import os
import weakref
from collections.abc import Sequence

import numpy as np

from distvi.engines.coordinator.shared import granted, new_memory
from distvi.engines.coordinator.slots import CAPACITY, Numbers, SlotMap


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
        with granted(CAPACITY * self._stride):
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
