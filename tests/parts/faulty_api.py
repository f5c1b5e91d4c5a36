"""An API server that answers what it is told to, for faults that no real one produces on demand.

with FaultyApi() as api:
    api.answers = [Reply(429, retry_after=1), Reply(200, {"gitVersion": "v1.35.4"})]
"""

from __future__ import annotations

import json
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from tests.parts.registry import Certificate


@dataclass(frozen=True)
class Reply:
    """One answer; a body that is no bytes is sent as JSON. Status 0 breaks the connection instead."""

    status: int
    body: Any = field(default_factory=dict)
    headers: tuple[tuple[str, str], ...] = ()


def refusal(code: int, reason: str, message: str) -> Reply:
    """An answer in the form in which API servers refuse."""
    return Reply(code, {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message})


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    authorization: str
    body: bytes


class FaultyApi:
    """The server, on loopback; the last of `answers` is given again and again."""

    def __init__(self, tls: Certificate | None = None) -> None:
        self.answers: list[Reply] = []
        self.asked: list[Asked] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": self}))
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    api: FaultyApi
    protocol_version = "HTTP/1.1"

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.api.asked.append(Asked(self.command, self.path, self.headers.get("Authorization", ""), body))
        reply = self.api.answers.pop(0) if len(self.api.answers) > 1 else self.api.answers[0]
        if reply.status == 0:
            self.close_connection = True
            self.connection.close()
            return
        data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response_only(reply.status)
        if "Date" not in dict(reply.headers):
            self.send_header("Date", self.date_time_string())
        for name, value in (("Content-Type", "application/json"), *reply.headers):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _any  # noqa: N815 - the names are http.server's

    def log_message(self, *args: object) -> None: ...
