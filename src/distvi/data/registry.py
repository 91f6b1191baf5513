"""Data sets known by name, where their files are looked for, and fetching them."""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from distvi.data.dataset import Task
from distvi.errors import InputError, RunFailed, nearest

_ATTEMPTS = 3
_TIMEOUT_S = 60


@dataclass(frozen=True)
class Entry:
    """A data set known by name.

    Attributes:
        name: Its name on the command line.
        task: What is predicted.
        rows: Examples in all.
        inputs: Columns of inputs.
        summary: What it is, in one line.
        source: Where it comes from.
        files: File names and their published MD5 checksums; empty where none is downloaded.
        mirrors: Addresses of folders that hold these files.
        table: For a table: its file in the folder of data sets.
        target: For a table: its target column.
    """

    name: str
    task: Task
    rows: int
    inputs: int
    summary: str
    source: str
    files: tuple[tuple[str, str], ...] = ()
    mirrors: tuple[str, ...] = ()
    table: str = ""
    target: str = ""


def _uci(name: str, rows: int, inputs: int, summary: str, source: str) -> Entry:
    task = Task.REGRESSION
    return Entry(name, task, rows, inputs, summary, source, table=f"uci/{name}.csv", target="y")


_ENTRIES = (
    Entry(
        "digits",
        Task.CLASSIFICATION,
        1797,
        64,
        "handwritten digits, 8 x 8 pixels; comes with scikit-learn, nothing to download",
        "Alpaydin and Kaynak (1998), UCI Machine Learning Repository",
    ),
    Entry(
        "mnist",
        Task.CLASSIFICATION,
        70_000,
        784,
        "handwritten digits, 28 x 28 pixels; 60,000 to train on and 10,000 to test",
        "LeCun, Cortes and Burges (1998)",
        files=(
            ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
            ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
            ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
        ),
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
    ),
    _uci("power", 9568, 4, "output of a power plant, MW", "Tüfekci (2014), UCI repository"),
    _uci("concrete", 1030, 8, "strength of concrete, MPa", "Yeh (1998), UCI repository"),
    _uci("energy", 768, 8, "heating load of buildings", "Tsanas and Xifara (2012), UCI repository"),
)


def available() -> tuple[Entry, ...]:
    """All data sets known by name."""
    return _ENTRIES


def info(name: str) -> Entry:
    """The data set of this name.

    Raises:
        InputError: unknown; names the near miss.
    """
    entries = {entry.name: entry for entry in _ENTRIES}
    if name not in entries:
        raise InputError(f"unknown data set {name!r}{nearest(name, entries)}")
    return entries[name]


def data_folder(data_dir: str | Path | None = None) -> Path:
    """The folder of data sets: as given, else ``DISTVI_DATA``, else the user's cache folder."""
    if given := data_dir or os.environ.get("DISTVI_DATA"):
        return Path(given)
    import pooch  # takes longer to import than most data to read

    return Path(pooch.os_cache("distvi"))


def fetch(
    name: str,
    data_dir: str | Path | None = None,
    *,
    base_url: str | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Path:
    """Downloads a data set's files into ``DIR/NAME``; those already there are kept.

    Each file appears under its name only when it is whole and its checksum is right. A download
    that breaks off or arrives damaged is tried again, at the next mirror.

    Args:
        name: A data set that has files to download.
        data_dir: The folder of data sets; see ``data_folder``.
        base_url: Address of a folder that holds the files, instead of the known mirrors.
        pause: Called with the seconds to wait before another attempt.

    Returns:
        The folder that holds the files.

    Raises:
        InputError: nothing can be downloaded for this name, the folder cannot be written, or it
            holds a file of this name that is not the published one.
        RunFailed: no attempt brought a whole file with the right checksum.
    """
    entry = info(name)
    folder = data_folder(data_dir) / name
    if not entry.files:
        what = (
            f"put it at {data_folder(data_dir) / entry.table}" if entry.table else "it is built in"
        )
        raise InputError(f"data set {name!r} has nothing to download: {what}")
    mirrors = (base_url.rstrip("/") + "/",) if base_url else entry.mirrors
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror}; choose another") from None
    if not writable:
        raise InputError(f"{folder}: cannot be written to; choose another folder")
    for file, md5 in entry.files:
        if not _is_there(folder / file, md5):
            _download(file, md5, mirrors, folder, pause)
    return folder


def _is_there(path: Path, md5: str) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != md5:
        raise InputError(
            f"{path}: is there, but is not the published file (MD5 {found}, published {md5}); "
            "move it away to download it"
        )
    return True


def _download(
    file: str, md5: str, mirrors: Sequence[str], folder: Path, pause: Callable[[float], None]
) -> None:
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    reasons = []
    for attempt in range(_ATTEMPTS):
        if attempt:
            pause(2.0**attempt)
        url = mirrors[attempt % len(mirrors)] + file
        try:
            # Into a temporary file first; it gets its name when the checksum is right.
            pooch.retrieve(
                url,
                known_hash=f"md5:{md5}",
                fname=file,
                path=folder,
                # Pooch's own class does not name its parameters as its protocol does.
                downloader=pooch.HTTPDownloader(timeout=_TIMEOUT_S),  # pyright: ignore
            )
            return
        except (OSError, ValueError) as error:  # no or broken connection; wrong checksum
            reasons.append(f"{url}: {_in_short(error)}")
    raise RunFailed(
        f"could not download {file} in {_ATTEMPTS} attempts; the last: {reasons[-1]}. "
        f"Nothing was kept of it; try again, or put the file into {folder} yourself"
    )


def _in_short(error: Exception) -> str:
    if isinstance(error, ValueError):
        return "its checksum is not the published one"
    return " ".join(str(error).split())[:200]
