"""The HTTP server: sockets, turns, and the bytes of what `answer` decides, each chunk verified before it leaves.

Whoever asks while as many chunks are on their way, or connections are open, as memory is meant for, waits for a turn:
clients that are slow, or many, cost no more.
"""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Generator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, cast

from installer.buffers import Buffers
from installer.bundle.limits import CHUNK
from installer.bundle.reader import Bundle
from installer.errors import AirferryError, UsageError
from installer.registry.messages import sliced
from installer.report import Reporter
from installer.serving.answer import JSON, METHODS, Asked, Findable, Refusal, Reply, refused, reply_to
from installer.serving.catalogue import Catalogue

SENDING = 32
"""Chunks that are on their way at a time: 128 MiB of memory."""
CONNECTIONS = 512
"""Connections that are open at a time; further ones stay in the kernel's queue until one ends."""
_IDLE_SECONDS = 60
"""How long a client may take for its next request, and for each slice of what it gets."""
_POLL_SECONDS = 0.2
_UNREAD = 64 << 10
"""Bytes of a request's body that are taken off the line, so that a client that sends one hears why it may not."""


class Server:
    """Serves a bundle, or only what `content` finds in it, on one address while its context is open.

    `port` 0 takes a free one; `address` is `HOST:PORT` as it is reached. Raises UsageError if the address cannot
    be had.
    """

    def __init__(
        self, bundle: Bundle, host: str, port: int, reporter: Reporter, content: Findable | None = None
    ) -> None:
        content = content or Catalogue(bundle, reporter)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._http = _Http((host, port), family)
        except OSError as exc:
            raise UsageError(
                f"{host}:{port}: cannot listen: {exc.strerror or exc}", hint="choose another address or port."
            ) from exc
        self._http.content, self._http.bundle, self._http.reporter = content, bundle, reporter
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": _POLL_SECONDS}, daemon=True
        )
        bound = self._http.server_address[1]
        self.address = f"[{host}]:{bound}" if family == socket.AF_INET6 else f"{host}:{bound}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    content: Findable
    bundle: Bundle
    reporter: Reporter

    def __init__(self, address: tuple[str, int], family: socket.AddressFamily) -> None:
        self.address_family = family
        self.buffers = Buffers(CHUNK, SENDING)
        self._places = threading.Semaphore(CONNECTIONS)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """As any TCP server: that of the library asks the DNS for this host's name, which takes its time."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment] # host and port

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection. While there is no place for one, OSError tells the base class that nobody came."""
        if not self._places.acquire(timeout=_POLL_SECONDS):
            raise BlockingIOError
        try:
            return super().get_request()
        except BaseException:
            self._places.release()
            raise

    def shutdown_request(self, request: Any) -> None:
        """The end of a connection, whatever came of it."""
        try:
            super().shutdown_request(request)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no event; the handler reports what is."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "airferry"
    sys_version = ""
    timeout = _IDLE_SECONDS
    # What the library refuses by itself: lines that are no requests, methods that nobody knows.
    error_content_type = JSON
    error_message_format = '{"errors": [{"code": "UNSUPPORTED", "message": "%(explain)s"}]}'

    def do_GET(self) -> None:
        server = cast("_Http", self.server)
        asked = Asked(self.command, self.path, *map(self._header, ("Range", "If-Range", "If-None-Match")))
        try:
            found = server.content.find(self.path)
        except AirferryError as exc:
            server.reporter.note(f"{self.path}: {exc.message}")
            found = Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "UNKNOWN", self.path)
        self._send(server, reply_to(asked, found))

    do_HEAD = do_GET  # noqa: N815 - the names are the library's

    def do_PUT(self) -> None:
        asked = Asked(self.command, self.path)
        refusal = Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED", "read-only")
        self._send(cast("_Http", self.server), refused(asked, refusal, (("Allow", METHODS),)))

    do_POST = do_PATCH = do_DELETE = do_OPTIONS = do_PUT  # noqa: N815

    def handle_expect_100(self) -> bool:
        """No body is of use here: the answer comes at once."""
        return True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the library's
        """Requests are not logged one by one."""

    def _header(self, name: str) -> str:
        return ", ".join(self.headers.get_all(name, ()))

    def _send(self, server: "_Http", reply: Reply) -> None:
        length = self._header("Content-Length")
        if length not in ("", "0") or self._header("Transfer-Encoding"):
            # Else the body would be taken for the next request.
            self.close_connection = True
            if length.isdecimal() and not self._header("Expect"):
                self.rfile.read(min(int(length), _UNREAD))
        self.send_response(reply.status)
        for name, value in (*reply.headers, ("Docker-Distribution-Api-Version", "registry/2.0")):
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        try:
            with contextlib.closing(_views(server, reply)) as views:
                # A timeout counts for each write: who reads slowly, but steadily, is not cut off.
                for part in sliced(views):
                    self.wfile.write(part)
        except AirferryError as exc:
            # The length is promised already: a cut connection is the one way left to say that this is not it.
            server.reporter.note(exc.message)
            self.close_connection = True
        except OSError:
            self.close_connection = True


def _views(server: _Http, reply: Reply) -> Generator[memoryview | bytes]:
    """The content from byte `start` to `end`; after each chunk others have their turn."""
    answer, start, end = reply.content, reply.start, reply.end
    if answer.digest is None:
        yield answer.text[start:end]
        return
    # What only a patch holds is read as a whole.
    by_chunk = server.bundle.blob(answer.digest).carried
    position = start // CHUNK * CHUNK
    while position < end:
        with server.buffers.one() as buffer:
            for view in server.bundle.chunks(answer.digest, position // CHUNK, buffer):
                yield view[max(start - position, 0) : end - position]
                position += len(view)
                if by_chunk or position >= end:
                    break
