"""What a process finds around it: cores, devices, threads."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

from distvi.system.precision import FLOAT32


def cores() -> list[int]:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def gpus() -> list[str]:
    """NVIDIA devices that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name and name != "-1"]
    if shutil.which("nvidia-smi") is None:
        return []
    asked = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=30)
    except subprocess.TimeoutExpired:  # a driver that hangs: JAX could use no device either
        return []
    return answer.stdout.split() if answer.returncode == 0 else []


def worker_environment(number: int, devices: list[str]) -> dict[str, str]:
    """One thread for a worker, and one of the devices from ``gpus`` where there are some."""
    environment = _one_thread()
    if devices:
        environment |= {
            "CUDA_VISIBLE_DEVICES": devices[number % len(devices)],
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # the main process evaluates on one of them
        }
    return environment


def shared_environment(number: int, here: int, devices: list[str], cores: int) -> dict[str, str]:
    """An equal share of this machine for one of several processes that compute alike.

    Args:
        number: Which of those here.
        here: How many there are on this machine.
        devices: From `gpus`; each process has some of its own, where there are enough.
        cores: From `cores`, how many.
    """
    threads = max(1, cores // here)
    environment = {} if here == 1 else _one_thread() if threads == 1 else _threads(threads)
    if devices:
        each = max(1, len(devices) // here)
        own = [devices[(number * each + n) % len(devices)] for n in range(each)]
        environment |= {
            "CUDA_VISIBLE_DEVICES": ",".join(own),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # the main process evaluates on one of them
        }
    return environment


def server_environment() -> dict[str, str]:
    """A server computes on the CPU, with one thread."""
    return {**_one_thread(), "JAX_PLATFORMS": "cpu"}


def _one_thread() -> dict[str, str]:
    """What XLA and its libraries read when they are loaded.

    XLA's flag keeps one operation on one thread. But independent operations still go to a pool of
    as many threads as there are cores, unless that has one: then they are computed in place, and
    an update takes half the processor's time.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    return {**FLOAT32, "XLA_FLAGS": flags, **_threads(1)}


def _threads(number: int) -> dict[str, str]:
    names = ("PJRT_NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return dict.fromkeys(names, str(number))


def pin(cores: tuple[int, ...]) -> None:
    """Keep all threads of this process, and those that they start from now on, to these cores.

    Where there are any. XLA computes in the caller's thread and in one of its own, which is there
    already: left alone, it would take a core that belongs to another worker.
    """
    if not cores or not hasattr(os, "sched_setaffinity"):
        return
    tasks = Path("/proc/self/task")
    threads = [int(task.name) for task in tasks.iterdir()] if tasks.exists() else [0]
    for thread in threads:
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(thread, cores)
