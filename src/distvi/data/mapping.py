"""Arrays that stay in their file: the kernel brings in the pages that are read."""

import math
import mmap
from pathlib import Path
from typing import BinaryIO

import numpy as np

from distvi.errors import InputError


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
    array = np.memmap(path, dtype, mode="r", offset=offset, shape=shape)
    mapping = array.base
    if isinstance(mapping, mmap.mmap) and hasattr(mapping, "madvise"):
        # Rows are read in random order: reading ahead would fetch mostly what is not wanted.
        mapping.madvise(mmap.MADV_RANDOM)
    return array.view(np.ndarray)


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


def read_npy_header(file: BinaryIO, path: Path) -> tuple[np.dtype, tuple[int, ...], int]:
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
