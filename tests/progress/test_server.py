"""What browsers, and others, get from the server; and that nothing of it is left."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from distvi.dashboard import Dashboard
from distvi.dashboard.server import MOST_CONNECTIONS, Address, PageServer
from distvi.errors import InputError
from tests.progress.fake_engines import Scene, run_folder


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dashboard]:
    monkeypatch.setattr("distvi.dashboard.dashboard.LAST_LOOK_S", 0.0)
    threads = threading.enumerate()
    with Dashboard() as board:
        board.attached(Scene())
        board.started(run_folder(tmp_path / "run"), 0, 1000)
        yield board
    assert threading.enumerate() == threads


def ask(
    board: Dashboard, path: str = "/", method: str = "GET", host: str = "localhost"
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port(board), timeout=60)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host=True)
        if host:
            connection.putheader("Host", host)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def port(board: Dashboard) -> int:
    return int(board.url.rstrip("/").rpartition(":")[2])


def test_the_page_is_one_file_without_anything_from_elsewhere(board: Dashboard) -> None:
    status, headers, page = ask(board)
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    for elsewhere in (b" src=", b"@import", b"url(", b"https:", b'<link rel="stylesheet'):
        assert elsewhere not in page
    assert page.count(b"http://") == page.count(b"http://www.w3.org/2000/svg") == 1


def test_the_document(board: Dashboard) -> None:
    status, headers, body = ask(board, "/state.json?again")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers
    assert json.loads(body)["update"] == 612


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:8080", "LOCALHOST", "[::1]:80", "127.1.2.3:1"]
)
def test_names_of_this_machine(board: Dashboard, host: str) -> None:
    assert ask(board, host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "192.0.2.1",
        "[2001:db8::1]",
        socket.gethostname() + ".",
    ],
)
@pytest.mark.parametrize("path", ["/", "/state.json"])
def test_a_site_whose_name_was_made_to_point_here_is_refused(
    board: Dashboard, host: str, path: str
) -> None:
    status, _, body = ask(board, path, host=host)
    assert status == 421
    assert b"612" not in body


def test_a_host_that_the_user_names_answers_to_addresses_in_numbers() -> None:
    server = PageServer(Address("0.0.0.0"), bytes)
    named = PageServer(Address("localhost"), bytes)
    with contextlib.closing(server.socket), contextlib.closing(named.socket):
        assert server.is_for_us("192.0.2.1:80")
        assert server.is_for_us(socket.gethostname())
        assert not server.is_for_us("evil.example")
        assert named.is_for_us("localhost:80")
        assert not named.is_for_us("192.0.2.1")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "CONNECT"])
def test_nothing_but_get(board: Dashboard, method: str) -> None:
    assert ask(board, "/state.json", method)[0] == 501


@pytest.mark.parametrize("path", ["/run.toml", "/../pyproject.toml", "/page.html", "*"])
def test_nothing_but_two_paths(board: Dashboard, path: str) -> None:
    assert ask(board, path)[0] == 404


def test_browsers_that_hang_cost_a_bounded_number_of_threads(board: Dashboard) -> None:
    before = threading.active_count()
    hanging = [
        socket.create_connection(("127.0.0.1", port(board)), timeout=60)
        for _ in range(3 * MOST_CONNECTIONS)
    ]
    for connection in hanging[MOST_CONNECTIONS:]:
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""  # sent away
    assert threading.active_count() <= before + MOST_CONNECTIONS
    # ... and when the run ends, they do not hold it up: the fixture sees no thread left
    for connection in hanging:
        connection.close()


def test_browsers_that_hang_when_the_run_ends(tmp_path: Path) -> None:
    threads = threading.enumerate()
    with Dashboard() as board:
        hanging = [socket.create_connection(("127.0.0.1", port(board))) for _ in range(5)]
        hanging[0].sendall(b"GET / HT")
        assert ask(board)[0] == 200
    assert threading.enumerate() == threads
    for connection in hanging:
        connection.close()
    Dashboard(port(board))  # the address is free again


def test_an_address_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(InputError, match=f"no dashboard at http://127.0.0.1:{taken}/: .* use"):
            Dashboard(taken)
    with pytest.raises(InputError, match=r"no dashboard at http://192\.0\.2\.1:80/"):
        Dashboard("192.0.2.1:80")


def test_its_address_is_told_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with Dashboard() as board:
        assert capsys.readouterr() == ("", f"distvi: dashboard at {board.url}\n")
    assert board.url.startswith("http://127.0.0.1:")
