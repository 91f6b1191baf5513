"""Files that are either whole or not there."""

import errno
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distvi.errors import InputError

_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EISDIR, errno.EACCES, errno.EPERM)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, meets the old one or the new one, whole."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        write_bytes(temporary, content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # on a full disk its part takes room
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; warn where a file system cannot do that.

    CIFS and many in user space cannot: a power cut, and nothing else, may undo a name there.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        _warn_unsynced(error)
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        _warn_unsynced(error)
    finally:
        os.close(descriptor)


def _warn_unsynced(error: OSError) -> None:
    """Whatever else is wrong is raised.

    Raises:
        OSError: the file system could, but the disk is full or broken.
    """
    if error.errno not in _CANNOT_SYNC:
        raise error
    warnings.warn(  # once, for its text is the same for all folders
        f"this file system cannot sync folders ({error.strerror}): after a power cut the newest "
        "checkpoint may be missing, and the one before it is used",
        RuntimeWarning,
        stacklevel=3,
    )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """`replace_bytes` of indented JSON; NaN and infinities become null, which JSON can say."""
    replace_bytes(path, f"{json_text(content)}\n".encode())


def json_text(content: Mapping[str, Any]) -> str:
    """Indented JSON, with null for numbers that are not finite.

    Example:
        >>> print(json_text({"mnll": float("nan")}))
        {
          "mnll": null
        }
    """
    return json.dumps(_json_value(content), indent=2, allow_nan=False)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: the file is absent or no JSON object.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged: expected an object, found {type(content).__name__}")
    return content


def _json_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _json_value(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
