"""Where compiled programs are kept between processes and between runs. Standard library only."""

import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path


def compilation_cache() -> Path | None:
    """The folder of compiled programs: one for each kind of machine and version of the compiler.

    It is the one that ``JAX_COMPILATION_CACHE_DIR`` names, else a part of the user's cache folder;
    None where that cannot be written.
    """
    if named := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    kind = hashlib.sha256(f"{platform.machine()} {_processor_features()}".encode()).hexdigest()
    folder = Path(base) / "distvi" / "programs" / f"jax-{version('jax')}-{kind[:12]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def keep_compiled() -> None:
    """Make JAX, which must not have been imported, keep the programs of this process there."""
    if (folder := compilation_cache()) is not None:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def _processor_features() -> str:
    """What programs compiled for this processor rely on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
