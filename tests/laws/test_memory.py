"""A block that was freed is used again, without a visit to the kernel."""

import ctypes
import platform
import subprocess
import sys

import pytest

from distvi.system.malloc import keep_freed_memory, return_freed_memory

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc's malloc")

# Run in a process of its own, because the settings are the whole process's.
FAULTS = """
import ctypes, resource, sys, threading
from distvi.system.malloc import keep_freed_memory

assert keep_freed_memory()
libc, held, size = ctypes.CDLL(None), int(sys.argv[2]), int(sys.argv[3])
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def count():
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt

def faults():
    before = count()
    block = libc.malloc(size)
    libc.memset(block, 1, size)
    libc.free(block)
    return count() - before

def report():
    libc.malloc(held)
    print(faults(), faults())

if sys.argv[1] == "main":
    report()
else:
    thread = threading.Thread(target=report)
    thread.start()
    thread.join()
"""


@needs_glibc
@pytest.mark.parametrize(
    ("thread", "held", "size"),
    [
        ("main", 1, 48),
        ("main", 1, 200),  # more than the pad
        ("other", 1, 48),
        ("other", 40, 48),  # in a heap of its own, which falls empty
    ],
)
def test_a_freed_block_is_not_faulted_in_again(thread: str, held: int, size: int) -> None:
    megabytes = [str(number << 20) for number in (held, size)]
    command = [sys.executable, "-c", FAULTS, thread, *megabytes]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    first, second = map(int, printed.split())
    assert first >= 16  # even where pages are huge
    assert second <= first // 4


@needs_glibc
def test_what_is_free_can_be_given_back() -> None:
    script = FAULTS.replace("print(faults(), faults())", "print(faults(), again())").replace(
        "def report", "def again():\n    return_freed_memory()\n    return faults()\n\ndef report"
    )
    script = "from distvi.system.malloc import return_freed_memory\n" + script
    command = [sys.executable, "-c", script, "main", "1", str(48 << 20)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    first, second = map(int, printed.split())
    assert second > first // 2


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("was asked"))
    assert not keep_freed_memory.__wrapped__()
    return_freed_memory()
