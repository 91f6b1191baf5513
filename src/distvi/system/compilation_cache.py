"""Where compiled programs are kept between processes and between runs. Standard library only."""

import glob
import hashlib
import os
import platform
import re
import warnings
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
_UNREADABLE = re.compile("^Error reading persistent compilation cache entry for '([^']+)'")
"""JAX's warning; entries are called NAME-KEY-cache."""


def compilation_cache() -> Path | None:
    """The folder of compiled programs: one for each kind of machine and version of the compiler.

    It is the one that ``JAX_COMPILATION_CACHE_DIR`` names, or, where that cannot be written, a part
    of the user's cache folder; None where that cannot be either, or no folder of this machine was
    named.
    """
    named = os.environ.get(_VARIABLE, "")
    if _is_elsewhere(named):
        return None
    if named and _is_usable(Path(named)):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        cache = Path(base) if base else Path.home() / ".cache"
    except RuntimeError:  # the user has no home
        return None
    kind = hashlib.sha256(f"{platform.machine()} {_processor_features()}".encode()).hexdigest()
    folder = cache / "distvi" / "programs" / f"jax-{version('jax')}-{kind[:12]}"
    return folder if _is_usable(folder) else None


def keep_compiled() -> None:
    """Make JAX, which must not have been imported, keep the programs of this process there.

    Warns where it is not the folder that was named, and where there is none.
    """
    named = os.environ.get(_VARIABLE, "")
    if _is_elsewhere(named):
        return
    folder = compilation_cache()
    if folder is None or (named and folder != Path(named)):
        why = f"{_VARIABLE}={named}" if named else "the user's cache folder"
        instead = f"are kept in {folder}" if folder else "are not kept, and every run compiles anew"
        message = f"{why} cannot be written: compiled programs {instead}"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    if folder is None:
        os.environ.pop(_VARIABLE, None)
        return
    os.environ[_VARIABLE] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    mend_torn(folder)


def drop_torn(warning: str, folder: Path) -> bool:
    """Remove the entry that JAX warns it could not read, so that it is compiled and kept anew.

    A process that is killed leaves half of what it was writing, and JAX never replaces an entry.

    Args:
        warning: The text of any warning.
        folder: Of compiled programs.

    Returns:
        Whether it was such a warning. It names the program, so all entries of that name are gone.
    """
    if (found := _UNREADABLE.search(warning)) is None:
        return False
    for entry in folder.glob(f"{glob.escape(found[1])}-*"):
        with suppress(OSError):
            entry.unlink()
    return True


def mend_torn(folder: Path) -> None:
    """Do that for every such warning in this process, instead of showing it."""
    show = warnings.showwarning

    def mend_or_show(message: Warning | str, *where: Any) -> None:
        if not drop_torn(str(message), folder):
            show(message, *where)

    warnings.showwarning = mend_or_show


def _is_elsewhere(named: str) -> bool:
    """Whether it is in an object store, which JAX alone knows how to reach."""
    return "://" in named


def _is_usable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _processor_features() -> str:
    """What programs compiled for this processor rely on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
