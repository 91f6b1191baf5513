"""Let glibc keep the large blocks that a step frees, for the next step to use."""

import ctypes
import functools
import platform

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER = -1
_TWO_HEAPS = 2 * (64 << 20)  # of a thread: one that falls empty is kept where the pad is larger


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"


@functools.cache
def keep_freed_memory() -> bool:
    """Ask malloc not to return freed blocks to the kernel; False where the C library is not glibc.

    A training step on a CPU frees and allocates the same buffers again and again. By default those
    of several MB go back to the kernel and are faulted in again, page by page: 10 to 25 % of a step
    of the MNIST model at batch 1000. So the process keeps the most that it ever used, until
    `return_freed_memory`.

    By default malloc also gives a large block (always from 32 MB on) a mapping of its own, which
    ends with it; here none has one. The exception is a block of more than 64 MB that is asked for
    by another thread than the main one.
    """
    if not _is_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wishes = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER, _M_TOP_PAD: _TWO_HEAPS}
    granted = [mallopt(parameter, value) for parameter, value in wishes.items()]
    return all(granted)


def return_freed_memory() -> None:
    """Give the kernel back what is free at this moment; nothing where it is not glibc's to give."""
    if _is_glibc():
        ctypes.CDLL(None).malloc_trim(0)
