"""Downloads, against a server on this machine: good, truncated, damaged, interrupted."""

import gzip
import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from distvi.data import available, fetch, info, load, registry
from distvi.errors import InputError, RunFailed

from .test_images import idx_bytes


class Server(ThreadingHTTPServer):
    """Gives out ``files``; ``faults`` are what happens to the next answers, one each.

    A fault is ``short`` (fewer bytes than announced, then the connection closes), ``damaged``
    (one byte is another), or a status such as ``503``.
    """

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.asked = files, list[str](), list[str]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/mnist"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        name = self.path.rsplit("/", 1)[-1]
        server.asked.append(name)
        fault = server.faults.pop(0) if server.faults else ""
        content = server.files.get(name)
        if fault.isdigit() or content is None:
            self.send_error(int(fault or 404))
            return
        if fault == "damaged":
            content = content[:-1] + bytes([content[-1] ^ 1])
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if fault == "short" else content)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the requests out of the tests' output."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    arrays = {
        "train-images-idx3-ubyte.gz": np.arange(32).reshape(2, 4, 4),
        "train-labels-idx1-ubyte.gz": np.arange(2),
        "t10k-images-idx3-ubyte.gz": np.arange(48).reshape(3, 4, 4),
        "t10k-labels-idx1-ubyte.gz": np.arange(3) % 2,
    }
    files = {name: gzip.compress(idx_bytes(array)) for name, array in arrays.items()}
    checksums = tuple((name, hashlib.md5(content).hexdigest()) for name, content in files.items())
    small = replace(info("mnist"), files=checksums)
    others = tuple(entry for entry in available() if entry.name != "mnist")
    monkeypatch.setattr(registry, "_ENTRIES", (*others, small))
    with Server(files) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Pauses(list[float]):
    """Collects the pauses instead of waiting."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def test_good(server: Server, tmp_path: Path):
    pauses = Pauses()
    folder = fetch("mnist", tmp_path, base_url=server.url, pause=pauses)
    assert folder == tmp_path / "mnist"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == server.files
    assert pauses == []
    assert len(load("mnist", data_dir=tmp_path).test) == 3


def test_files_that_are_there_are_kept(server: Server, tmp_path: Path):
    fetch("mnist", tmp_path, base_url=server.url)
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    server.asked.clear()
    fetch("mnist", tmp_path, base_url=server.url)
    assert server.asked == ["t10k-labels-idx1-ubyte.gz"]


@pytest.mark.parametrize("fault", ["short", "damaged", "503"])
def test_a_fault_is_retried(server: Server, tmp_path: Path, fault: str):
    server.faults = [fault, fault]
    pauses = Pauses()
    folder = fetch("mnist", tmp_path, base_url=server.url, pause=pauses)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == server.files
    assert pauses == [2.0, 4.0]


@pytest.mark.parametrize("fault", ["short", "damaged", "503"])
def test_a_lasting_fault_leaves_no_file(server: Server, tmp_path: Path, fault: str):
    server.faults = ["", *[fault] * 3]
    with pytest.raises(RunFailed, match="could not download train-labels") as caught:
        fetch("mnist", tmp_path, base_url=server.url, pause=Pauses())
    assert "\n" not in str(caught.value)
    assert ("checksum" in str(caught.value)) == (fault == "damaged")
    kept = [path.name for path in (tmp_path / "mnist").iterdir()]
    assert kept == ["train-images-idx3-ubyte.gz"]


def test_no_server(server: Server, tmp_path: Path):
    server.server_close()
    with pytest.raises(RunFailed, match="in 3 attempts"):
        fetch("mnist", tmp_path, base_url="http://127.0.0.1:9/", pause=Pauses())


def test_another_file_of_this_name_is_not_overwritten(server: Server, tmp_path: Path):
    mine = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    with pytest.raises(InputError, match="is not the published file"):
        fetch("mnist", tmp_path, base_url=server.url)
    assert mine.read_bytes() == b"mine"
    assert server.asked == []


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("digits", "nothing to download: it is built in"),
        ("power", "nothing to download: put it at"),
        ("minst", "did you mean 'mnist'"),
    ],
)
def test_nothing_to_fetch(tmp_path: Path, name: str, what: str):
    with pytest.raises(InputError, match=what):
        fetch(name, tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        fetch("mnist", tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "mnist").mkdir(mode=0o500)
    with pytest.raises(InputError, match="cannot be written to"):
        fetch("mnist", tmp_path)


def test_published_checksums():
    assert len(dict(info("mnist").files)) == 4
    assert all(len(md5) == 32 for _, md5 in info("mnist").files)
