"""Let glibc keep the large blocks that a step frees, for the next step to use."""

import ctypes
import functools
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20  # glibc refuses larger ones on 64-bit machines


@functools.cache
def keep_freed_memory() -> bool:
    """Ask malloc not to return freed blocks to the kernel; False where it is not glibc's.

    A training step on a CPU frees and allocates the same buffers of several MB again and again.
    By default each of them goes back to the kernel and is faulted in again, page by page: 10 to
    25 % of a step of the MNIST model at batch 1000.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    kept = mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    return bool(mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1) and kept)
