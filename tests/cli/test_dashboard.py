"""``--dashboard``: a web page while a command trains."""

import re
import socket
import urllib.request
from pathlib import Path

import pytest

from distvi.progress import Lines
from tests.small_run import TINY, Distvi

TOLD = re.compile(r"distvi: dashboard at (http://127\.0\.0\.1:\d+/)\n")


class Browser(Lines):
    """Asks for the page whenever there is something new, as a browser might."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys, self.url, self.states = capsys, "", []

    def reported(self, update: int, neg_elbo: float, training_time_s: float) -> None:
        if not self.url:
            (self.url,) = TOLD.findall(self._capsys.readouterr().err)
        with urllib.request.urlopen(f"{self.url}state.json") as answer:
            self.states.append(answer.read())


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Browser:
    browser = Browser(capsys)
    monkeypatch.setattr("distvi.progress.for_terminal", lambda: browser)
    monkeypatch.setattr("distvi.dashboard.dashboard.LAST_LOOK_S", 0.0)
    return browser


def test_train(distvi: Distvi, numbers: Path, browser: Browser) -> None:
    data = (numbers, "--target", "y", *TINY)
    assert distvi("train", *data, "--dashboard", "--out", "run").status == 0
    assert b'"status": "running"' in browser.states[0]
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(browser.url)


def test_resume_at_a_port(distvi: Distvi, copied: Path, browser: Browser) -> None:
    newest = max((copied / "checkpoints").iterdir(), key=lambda path: int(path.name))
    (newest / "state.json").unlink()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert distvi("resume", copied, "--dashboard", port).status == 0
    assert browser.url == f"http://127.0.0.1:{port}/"


@pytest.mark.parametrize("command", ["train", "resume"])
def test_an_address_that_is_none(distvi: Distvi, tmp_path: Path, command: str) -> None:
    answer = distvi(command, "digits", "--dashboard", "digits", "--json")
    assert answer.status == 2
    assert answer.err == (
        "distvi: error: dashboard address 'digits': expected PORT or HOST:PORT, such as 8080 or "
        "0.0.0.0:8080\n"
    )
    assert list(tmp_path.iterdir()) == []
