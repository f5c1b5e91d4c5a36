"""An HTTP proxy (RFC 9110, sections 7.3 and 9.3.6) that takes each connection to one server, for any name."""

from __future__ import annotations

import contextlib
import selectors
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.parts.served import Served


class ForwardProxy(Served):
    """A proxy at a free port of 127.0.0.1 that forwards to `target` (`host:port`).

    `asked` lists what it was asked for, as method and authority; with `login` (the value of a `Proxy-Authorization`
    header) it admits nobody else; with `limit` it refuses bodies of more bytes.
    """

    def __init__(self, target: str, login: str = "", limit: int = 1 << 40) -> None:
        host, _, port = target.partition(":")
        self.target, self.login, self.limit = (host, int(port)), login, limit
        self.asked: list[tuple[str, str]] = []
        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), _handler(self)))
        self.address = f"127.0.0.1:{self._server.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    owner: ForwardProxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""

    def do_CONNECT(self) -> None:
        self.owner.asked.append(("CONNECT", self.path))
        if self._admitted():
            with socket.create_connection(self.owner.target) as upstream:
                self.send_response_only(200)
                self.end_headers()
                _relay(self.connection, upstream)
        self.close_connection = True

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.owner.asked.append((self.command, parts.netloc))
        if int(self.headers.get("Content-Length") or 0) > self.owner.limit:
            self._refuse(413)
        elif self._admitted():
            with socket.create_connection(self.owner.target) as upstream:
                path = self.path.removeprefix(f"{parts.scheme}://{parts.netloc}")
                lines = [f"{self.command} {path} HTTP/1.1", "Connection: close"]
                lines += [f"{name}: {value}" for name, value in self.headers.items() if name != "Connection"]
                upstream.sendall("\r\n".join([*lines, "", ""]).encode())
                upstream.sendall(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
                while data := upstream.recv(65536):
                    self.wfile.write(data)
        self.close_connection = True

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - names that http.server prescribes

    def _admitted(self) -> bool:
        if not self.owner.login or self.headers.get("Proxy-Authorization") == self.owner.login:
            return True
        self._refuse(407)
        return False

    def _refuse(self, status: int) -> None:
        self.send_response_only(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _handler(proxy: ForwardProxy) -> type[_Handler]:
    class Handler(_Handler):
        owner = proxy

    return Handler


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until one side ends."""
    # Not `select`, which knows the first thousand files of a process only.
    with contextlib.suppress(OSError), selectors.DefaultSelector() as ready:
        ready.register(one, selectors.EVENT_READ, (one, other))
        ready.register(other, selectors.EVENT_READ, (other, one))
        while True:
            for key, _ in ready.select():
                source, target = key.data
                data = source.recv(65536)
                if not data:
                    return
                target.sendall(data)
