"""A block that was freed is used again, without a visit to the kernel."""

import platform
import subprocess
import sys

import pytest

from distvi.engines.memory import keep_freed_memory

# Of a process of its own, for malloc's settings are a process's, and Python threads of it.
FAULTS = """
import ctypes, resource, sys, threading
from distvi.engines.memory import keep_freed_memory

assert keep_freed_memory()
libc, size = ctypes.CDLL(None), int(sys.argv[2])
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(size)
    libc.memset(block, 1, size)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def report():
    print(faults(), faults())

if sys.argv[1] == "main":
    report()
else:
    thread = threading.Thread(target=report)
    thread.start()
    thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not glibc's")
@pytest.mark.parametrize(("thread", "megabytes"), [("main", 8), ("main", 200), ("other", 40)])
def test_a_freed_block_is_not_faulted_in_again(thread: str, megabytes: int) -> None:
    command = [sys.executable, "-c", FAULTS, thread, str(megabytes << 20)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    first, second = map(int, printed.split())
    assert first >= 4  # even where pages are huge
    assert second <= first // 10


def test_another_malloc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    assert not keep_freed_memory.__wrapped__()
