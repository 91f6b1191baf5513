"""Where in a file an array lies that is mapped from one."""

import mmap
from pathlib import Path

import numpy as np


def place_in_file(array: np.ndarray) -> tuple[Path, int] | None:
    """The file and the offset, in bytes, of a memory-mapped array or of consecutive rows of one.

    Returns:
        None: the array lies in memory, may differ from the file (mode "c"), or its rows do not
            follow each other.
    """
    if not array.flags.c_contiguous:
        return None
    base: object = array
    # Slices of a memmap are memmaps, too, whose offset is still that of the whole.
    while isinstance(base, np.ndarray) and not isinstance(base.base, mmap.mmap):
        base = base.base
    if not isinstance(base, np.memmap) or base.filename is None or base.mode == "c":
        return None
    return Path(base.filename), base.offset + array.ctypes.data - base.ctypes.data
