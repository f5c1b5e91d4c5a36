"""A registry that misbehaves on request, for faults that no real registry produces on demand.

    with FaultyRegistry() as registry:
        descriptor = registry.put_blob(data)
        registry.on("GET", "/blobs/", truncate(1000), times=3)

It speaks enough of the OCI distribution specification for pulls and for one push at a time, keeps everything in memory
and records each request. Faults are tried in the order they were set; one that is used up is passed over.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.parts.served import Served

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.parts.registry import Certificate

OCTETS = "application/octet-stream"


@dataclass(frozen=True)
class Seen:
    """A request as it arrived, its whole `target` too; header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""
    target: str = ""


@dataclass
class Answer:
    """What a correct registry would answer; faults change it or take its place."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


Fault = Callable[["Handler"], None]


@dataclass
class _Rule:
    method: str
    pattern: re.Pattern[str]
    fault: Fault
    left: int
    after: int


class FaultyRegistry(Served):
    """A server on `host` (any loopback address) at a free port; runs within `with`."""

    def __init__(
        self, host: str = "127.0.0.1", tls: Certificate | None = None, handler: type[Handler] | None = None
    ) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.seen: list[Seen] = []
        self.upload = b""
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        super().__init__(Server((host, 0), type("Bound", (handler or Handler,), {"registry": self})))
        self.address = f"{host}:{self._server.server_address[1]}"
        self.url = f"{'https' if tls else 'http'}://{self.address}"
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )

    def on(
        self,
        method: str,
        pattern: str,
        fault: Fault,
        *,
        times: int = 1_000_000,
        after: int = 0,
    ) -> None:
        """Apply `fault` to requests with `method` whose path matches `pattern`, `times` times, skipping `after`."""
        self._rules.append(_Rule(method, re.compile(pattern), fault, times, after))

    def put_blob(self, data: bytes) -> str:
        """Hold a blob; its digest."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return digest

    def put_manifest(self, raw: bytes, media_type: str, tag: str = "") -> str:
        """Hold a manifest under its digest and a tag; its digest."""
        digest = "sha256:" + hashlib.sha256(raw).hexdigest()
        for name in filter(None, (digest, tag)):
            self.manifests[name] = (media_type, raw)
        return digest

    def count(self, method: str, pattern: str = "") -> int:
        """How many requests came with `method` to a path that matches `pattern`."""
        return sum(seen.method == method and bool(re.search(pattern, seen.path)) for seen in self.seen)

    def fault(self, method: str, path: str) -> Fault | None:
        """The fault for a request, used up once more."""
        with self._lock:
            for rule in self._rules:
                if rule.method == method and rule.left and rule.pattern.search(path):
                    if rule.after:
                        rule.after -= 1
                        continue
                    rule.left -= 1
                    return rule.fault
        return None


class Server(ThreadingHTTPServer):
    """A server whose connections can be reset."""

    def shutdown_request(self, request: Any) -> None:
        """Close without the FIN that the base class sends first: it would come before a reset."""
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that break off are part of the tests; anything else is a fault of this file."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    registry: FaultyRegistry
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, *arguments: Any) -> None:
        """Nothing: the requests are recorded."""

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - names that http.server prescribes

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, parts.path, parts.query, headers, body, self.requestline.split()[1])
        self.registry.seen.append(seen)
        self.seen = seen
        fault = self.registry.fault(self.command, parts.path)
        if fault is not None:
            fault(self)
        else:
            self.reply(self.answer())

    def reply(self, answer: Answer, *, upto: int | None = None) -> None:
        """Send `answer`, of its body only `upto` bytes (the headers announce all of it)."""
        self.send_response_only(answer.status)
        answer.headers.setdefault("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[:upto])

    def cut(self, *, reset: bool = False) -> None:
        """End the connection, with a reset if asked."""
        self.wfile.flush()
        if reset:
            # A linger time of 0 makes close() send RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self.connection.shutdown(socket.SHUT_WR)
        self.close_connection = True

    def answer(self) -> Answer:
        """Do what a correct registry does for the request."""
        seen = self.seen
        kind, _, name = seen.path.rpartition("/")
        if kind.endswith("/manifests"):
            return self._manifest(seen, name)
        if kind.endswith("/blobs/uploads"):
            return self._upload(seen, name)
        if kind.endswith("/blobs"):
            return self._blob(seen, name)
        return Answer(200 if seen.path == "/v2/" else 404)

    def _manifest(self, seen: Seen, name: str) -> Answer:
        if seen.method == "PUT":
            digest = self.registry.put_manifest(seen.body, seen.headers.get("content-type", ""), name)
            return Answer(201, {"Docker-Content-Digest": digest})
        if name not in self.registry.manifests:
            return Answer(404, {}, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}')
        media_type, raw = self.registry.manifests[name]
        digest = "sha256:" + hashlib.sha256(raw).hexdigest()
        return Answer(200, {"Content-Type": media_type, "Docker-Content-Digest": digest}, raw)

    def _upload(self, seen: Seen, name: str) -> Answer:
        if seen.method == "POST":
            self.registry.upload = b""
            return Answer(202, {"Location": f"{seen.path}1"})
        if seen.method == "DELETE":
            return Answer(204)
        if seen.method == "GET":
            return Answer(204, {"Location": seen.path, "Range": f"0-{max(len(self.registry.upload) - 1, 0)}"})
        if seen.method == "PATCH":
            start = len(self.registry.upload)
            if seen.headers.get("content-range") != f"{start}-{start + len(seen.body) - 1}":
                return Answer(416)
            self.registry.upload += seen.body
            return Answer(202, {"Location": seen.path, "Range": f"0-{len(self.registry.upload) - 1}"})
        data = self.registry.upload + seen.body
        (digest,) = parse_qs(seen.query)["digest"]
        self.registry.upload = b""
        if digest != "sha256:" + hashlib.sha256(data).hexdigest():
            return Answer(400, {}, b'{"errors":[{"code":"DIGEST_INVALID","message":"digest does not match"}]}')
        self.registry.put_blob(data)
        return Answer(201, {"Docker-Content-Digest": digest})

    def _blob(self, seen: Seen, name: str) -> Answer:
        data = self.registry.blobs.get(name)
        if data is None:
            return Answer(404, {}, b'{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}')
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", seen.headers.get("range", ""))
        if asked is None:
            return Answer(200, {"Content-Type": OCTETS}, data)
        first, last = int(asked[1]), min(int(asked[2]), len(data) - 1)
        span = f"bytes {first}-{last}/{len(data)}"
        return Answer(206, {"Content-Type": OCTETS, "Content-Range": span}, data[first : last + 1])


def truncate(count: int) -> Fault:
    """Announce all, send `count` bytes of the body, end the connection."""

    def fault(handler: Handler) -> None:
        handler.reply(handler.answer(), upto=count)
        handler.cut()

    return fault


def reset(count: int = 0, *, done: bool = False) -> Fault:
    """Announce all, send `count` bytes of the body, reset the connection.

    With 0 without any answer: before anything is done for the request, or when all is done.
    """

    def fault(handler: Handler) -> None:
        if count:
            handler.reply(handler.answer(), upto=count)
        elif done:
            handler.answer()
        handler.cut(reset=True)

    return fault


def partly(count: int) -> Fault:
    """Keep `count` bytes of what is uploaded, then reset the connection."""

    def fault(handler: Handler) -> None:
        handler.registry.upload += handler.seen.body[:count]
        handler.cut(reset=True)

    return fault


def status(code: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Fault:
    """Answer with a status of its own, and end the connection: the headers may make the body's end unknowable."""

    def fault(handler: Handler) -> None:
        handler.reply(Answer(code, {"Connection": "close", **(headers or {})}, body))
        handler.close_connection = True

    return fault


def changed(*, body: bytes | None = None, headers: Mapping[str, str] | None = None, code: int | None = None) -> Fault:
    """The right answer with another body, other headers (empty: left out) or another status."""

    def fault(handler: Handler) -> None:
        answer = handler.answer()
        answer.body = answer.body if body is None else body
        answer.status = code or answer.status
        answer.headers |= {"Connection": "close", **(headers or {})}
        handler.reply(answer)
        handler.close_connection = True

    return fault


def raw(data: bytes) -> Fault:
    """Write `data` in the place of an answer and end the connection."""

    def fault(handler: Handler) -> None:
        handler.wfile.write(data)
        handler.cut()

    return fault


def limited(most: int) -> Fault:
    """413 to bodies of more than `most` bytes, as proxies before a registry answer."""
    refuse = status(413, body=b"<html>413 Request Entity Too Large</html>")

    def fault(handler: Handler) -> None:
        if int(handler.headers.get("Content-Length") or 0) > most:
            refuse(handler)
        else:
            handler.reply(handler.answer())

    return fault


def crowded(most: int, seconds: float = 0.0) -> Fault:
    """The right answer, which takes `seconds`, to `most` requests at a time; 503 to more, as nginx's `limit_conn` says.

    A request lasts until all of its answer is sent.
    """
    places = threading.BoundedSemaphore(most)
    refuse = status(503, body=b"<html>503 Service Temporarily Unavailable</html>")

    def fault(handler: Handler) -> None:
        if not places.acquire(blocking=False):
            refuse(handler)
            return
        try:
            answer = handler.answer()
            head, tail = answer.body[:1], answer.body[1:]
            handler.reply(Answer(answer.status, {"Content-Length": str(len(answer.body)), **answer.headers}, head))
            time.sleep(seconds)
            if handler.command != "HEAD":
                handler.wfile.write(tail)
        finally:
            places.release()

    return fault


def paced(rate: float) -> Fault:
    """The right answer to `rate` requests in a second, 429 to more, as nginx's `limit_req` with `burst` says."""
    lock = threading.Lock()
    left, seen = rate, time.monotonic()
    refuse = status(429)

    def fault(handler: Handler) -> None:
        nonlocal left, seen
        with lock:
            now = time.monotonic()
            left, seen = min(rate, left + (now - seen) * rate), now
            admitted = left >= 1
            left -= admitted
        if admitted:
            handler.reply(handler.answer())
        else:
            refuse(handler)

    return fault


def chunked(extra: bytes = b"", label: str = "") -> Fault:
    """The right body and `extra` without Content-Length, in chunks (RFC 9112, section 7.1); a Content-Encoding."""

    def fault(handler: Handler) -> None:
        answer = handler.answer()
        data = answer.body + extra
        headers = {"Content-Length": "", "Transfer-Encoding": "chunked", "Content-Encoding": label}
        handler.reply(Answer(answer.status, {**answer.headers, **headers}))
        for start in range(0, len(data), 10_000):
            part = data[start : start + 10_000]
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        handler.wfile.write(b"0\r\n\r\n")

    return fault


def challenge(header: str, *, always: bool = True) -> Fault:
    """401 with `header` as WWW-Authenticate; if not `always`, then only to requests without authorization."""
    body = json.dumps({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}).encode()
    refuse = status(401, {"WWW-Authenticate": header}, body)

    def fault(handler: Handler) -> None:
        if always or "Authorization" not in handler.headers:
            refuse(handler)
        else:
            handler.reply(handler.answer())

    return fault
