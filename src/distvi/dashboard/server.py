"""Serves one page and one JSON document to browsers, and nothing to anybody else.

Only GET, only two paths, no keep-alive, a bounded number of connections, a time limit on each:
whatever browsers do, the run does not notice. A page of another site that has its name point here
(DNS rebinding) still says that name in the header Host, by which it is refused.
"""

import contextlib
import ipaddress
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any, NamedTuple

from distvi.errors import InputError

LOOPBACK = "127.0.0.1"
MOST_CONNECTIONS = 16
TIMEOUT_S = 5.0
"""For a browser to say what it wants, and to take some of the answer."""

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Address(NamedTuple):
    """Where to listen; port 0: any that is free."""

    host: str = LOOPBACK
    port: int = 0

    @property
    def url(self) -> str:
        """For people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"


def parse_address(text: str) -> Address:
    """Read ``PORT``, ``HOST:PORT`` or ``[IPV6]:PORT``.

    Raises:
        InputError: it is none of these.

    Example:
        >>> parse_address("8080"), parse_address("[::]:80")
        (Address(host='127.0.0.1', port=8080), Address(host='::', port=80))
    """
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if separator else LOOPBACK
    if not host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise InputError(
            f"dashboard address '{text}': expected PORT or HOST:PORT, such as 8080 or 0.0.0.0:8080"
        )
    return Address(host, int(port))


def check_free(address: Address) -> None:
    """Refuse an address at which nobody can listen.

    Raises:
        InputError: it is taken, or not of this machine.
    """
    PageServer(address, bytes).server_close()


class PageServer(ThreadingHTTPServer):
    """Listens from its making on; answers between ``start`` and ``stop``.

    Args:
        address: Where.
        state: Gives the JSON document; called from threads.

    Raises:
        InputError: nobody can listen there.
    """

    daemon_threads = False  # those of a server whose threads are daemons cannot be waited for
    request_queue_size = 4 * MOST_CONNECTIONS

    def __init__(self, address: Address, state: Callable[[], bytes]) -> None:
        self.state = state
        self.page = files("distvi.dashboard").joinpath("page.html").read_bytes()
        self._open: set[socket.socket] = set()
        self._changing = threading.Lock()
        self._thread: threading.Thread | None = None
        try:
            found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
            self.address_family, *_, where = found[0]
            super().__init__((str(where[0]), int(where[1])), _Answer)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"no dashboard at {address.url}: {reason}") from error
        self.address = Address(address.host, self.server_address[1])

    def server_bind(self) -> None:
        """Listen, without looking the machine's own name up as the base class does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def start(self) -> None:
        """Answer from now on."""
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.1,), name="dashboard", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End all connections, and wait for their threads."""
        if self._thread is not None:
            self.shutdown()
            self._thread.join()
        with self._changing:
            for connection in self._open:
                with contextlib.suppress(OSError):  # the browser was faster
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, unless there are too many."""
        with self._changing:
            if too_many := len(self._open) >= MOST_CONNECTIONS:
                self.shutdown_request(request)
            else:
                self._open.add(request)
        if not too_many:
            super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """In that thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._changing:
                self._open.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that has gone, or was too slow, is no error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def is_for_us(self, host: str) -> bool:
        """Whether a Host header names this server and not another site.

        Numbers are no name that could be made to point here; through a tunnel the port differs.
        """
        name = host.strip().lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        if name in ("localhost", self.address.host.lower()):
            return True
        try:
            return ipaddress.ip_address(name).is_loopback or not self._is_loopback()
        except ValueError:
            return name == socket.gethostname().lower() and not self._is_loopback()

    def _is_loopback(self) -> bool:
        return ipaddress.ip_address(str(self.server_address[0]).partition("%")[0]).is_loopback


class _Answer(BaseHTTPRequestHandler):
    timeout = TIMEOUT_S
    server_version, sys_version = "distvi", ""

    def do_GET(self) -> None:
        """The page, or the state of the run."""
        server = self.server
        assert isinstance(server, PageServer)
        if not server.is_for_us(self.headers.get("Host", "")):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "This is not the site you look for")
            return
        path = self.path.partition("?")[0]
        if path == "/":
            self._send("text/html; charset=utf-8", server.page)
        elif path == "/state.json":
            self._send("application/json", server.state())
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _send(self, kind: str, content: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def end_headers(self) -> None:
        """With those that every answer has."""
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Standard error belongs to the run."""
