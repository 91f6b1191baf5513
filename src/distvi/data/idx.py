"""The IDX format of MNIST (http://yann.lecun.com/exdb/mnist), gzipped or not.

A file is: two zero bytes, a code for the type, the number of dimensions, each dimension as a
32-bit big-endian number, then the entries in row-major order.
"""

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from distvi.data.mapping import map_array
from distvi.errors import InputError

_UINT8 = 0x08


def find_idx(folder: Path, name: str) -> Path | None:
    """The file of this name in the folder, plain (preferred: it can be mapped) or gzipped."""
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    return None


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file of unsigned bytes; a plain file is memory-mapped.

    Raises:
        InputError: the file is missing, cut short, too long, or something else than IDX of
            unsigned bytes.
    """
    try:
        if path.suffix != ".gz":
            with path.open("rb") as file:
                shape, offset = _read_header(file, path)
            _check_length(path.stat().st_size - offset, shape, path)
            return map_array(path, np.dtype(np.uint8), shape, offset)
        with gzip.open(path, "rb") as file:
            shape, _ = _read_header(file, path)
            content = file.read()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (EOFError, zlib.error) as error:
        raise InputError(f"{path}: truncated or damaged gzip file ({error}); fetch it again") from (
            None
        )
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    _check_length(len(content), shape, path)
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read_header(file: io.BufferedIOBase, path: Path) -> tuple[tuple[int, ...], int]:
    start = file.read(4)
    if len(start) < 4:
        raise InputError(f"{path}: truncated: {len(start)} bytes are no IDX file")
    if start[:2] != b"\0\0" or start[2] != _UINT8 or not 1 <= start[3] <= 4:
        raise InputError(
            f"{path}: not an IDX file of unsigned bytes (it begins with {start.hex(' ')})"
        )
    sizes = file.read(4 * start[3])
    if len(sizes) < 4 * start[3]:
        raise InputError(f"{path}: truncated inside its header")
    return struct.unpack(f">{start[3]}I", sizes), 4 + len(sizes)


def _check_length(found_bytes: int, shape: tuple[int, ...], path: Path) -> None:
    expected_bytes = math.prod(shape)
    if found_bytes != expected_bytes:
        what = "truncated" if found_bytes < expected_bytes else "too long"
        raise InputError(
            f"{path}: {what}: its header announces {' x '.join(map(str, shape))} = "
            f"{expected_bytes} bytes, the file holds {found_bytes}"
        )
