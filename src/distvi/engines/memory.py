"""Let glibc keep the large blocks that a step frees, for the next step to use."""

import ctypes
import functools
import platform

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_MOST = (1 << 31) - 1
_TWO_HEAPS = 128 << 20  # with so much to spare, a thread's heap that is empty is kept


@functools.cache
def keep_freed_memory() -> bool:
    """Ask malloc not to return freed blocks to the kernel; False where it is not glibc's.

    A training step on a CPU frees and allocates the same buffers of several MB again and again.
    By default each of them goes back to the kernel and is faulted in again, page by page: 10 to
    25 % of a step of the MNIST model at batch 1000. Blocks of a mapping of their own, by default
    those of 32 MB at the latest, would always go back, so there are none; what remains are blocks
    of more than 64 MB that another thread than the main one asks for.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wishes = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _MOST, _M_TOP_PAD: _TWO_HEAPS}
    granted = [mallopt(parameter, value) for parameter, value in wishes.items()]
    return all(granted)
