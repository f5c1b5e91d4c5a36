"""A read-only registry and chart repository straight from the volumes.

- `/v2/HOST/PATH/…` is the registry (OCI distribution specification 1.1, pull): every image under its upstream name, a
  port in HOST also joined by two underscores as `load` does; for containerd's mirrors also `/v2/PATH/…?ns=HOST`.
  `/v2/charts/NAME/…` are the charts as OCI artifacts.
- `/charts/index.yaml` and `/charts/NAME-VERSION.tgz` are a Helm repository with relative URLs.
- `/files/NAME` are files that travel along.

Only known names are answered, there are no listings of folders and no redirects, and every chunk is verified before
it leaves. Whoever asks while as many chunks are on their way, or connections are open, as memory is meant for, waits
for a turn: clients that are slow, or many, cost no more.
"""

import contextlib
import json
import re
import socket
import socketserver
import threading
from collections.abc import Generator, Iterable
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol, Self, cast
from urllib.parse import parse_qs, unquote, urlsplit

from installer.buffers import Buffers
from installer.bundle.limits import CHUNK
from installer.bundle.manifest import BundleChart, BundleImage
from installer.bundle.reader import Bundle
from installer.chart.bundled import artifact_of, chart_of
from installer.errors import AirferryError, UsageError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.registry.messages import sliced
from installer.report import Reporter, printable
from installer.transfer.extract import files_of
from installer.value import Value

_PATH = re.compile(r"/v2/(?P<name>[a-z0-9._/:-]+)/(?P<kind>manifests|blobs|tags)/(?P<ref>[A-Za-z0-9._:+-]+)", re.ASCII)
_RANGE = re.compile(r"bytes=([0-9]{1,16})-([0-9]{0,16})", re.ASCII)
SENDING = 32
"""Chunks that are on their way at a time: 128 MiB of memory."""
CONNECTIONS = 512
"""Connections that are open at a time; further ones stay in the kernel's queue until one ends."""
_IDLE_SECONDS = 60
"""How long a client may take for its next request, and for each slice of what it gets."""
_POLL_SECONDS = 0.2
_JSON = "application/json"


class Answer(Value):
    """The content of a path: a blob of the bundle, or `text` if there is no digest."""

    media_type: str
    size: int
    digest: Digest | None = None
    text: bytes = b""


class Findable(Protocol):
    """A lookup from request targets to answers."""

    def find(self, target: str) -> Answer | None:
        """The answer for a request target (path and query), or None. Raises BundleError for a damaged bundle."""


class ChartRepository:
    """Some charts of a bundle as a Helm repository below `/charts/`, and nothing else. Pure: no sockets."""

    def __init__(self, bundle: Bundle, charts: Iterable[BundleChart]) -> None:
        self._bundle, self._charts = bundle, tuple(charts)

    def find(self, target: str) -> Answer | None:
        """The answer for a request target (path and query), or None. Raises BundleError for a damaged bundle."""
        path = unquote(urlsplit(target).path)
        return self._files.get(path.removeprefix("/charts/")) if path.startswith("/charts/") else None

    @cached_property
    def _files(self) -> dict[str, Answer]:
        """By name. The index is JSON, which is YAML that Helm reads faster and stricter."""
        files: dict[str, Answer] = {}
        entries: dict[str, list[dict[str, Any]]] = {}
        for chart in self._charts:
            blob = self._bundle.blob(chart.archive)
            files[chart.file_name] = Answer("application/gzip", blob.size, chart.archive)
            entry = {
                **chart_of(self._bundle, chart).metadata,
                "created": self._bundle.manifest.created,
                "digest": chart.archive.hex,
                "urls": [chart.file_name],
            }
            entries.setdefault(chart.name, []).append(entry)
        index = {"apiVersion": "v1", "entries": entries, "generated": self._bundle.manifest.created}
        files["index.yaml"] = _text(json.dumps(index).encode())
        return files


class Catalogue:
    """All paths of the server. Pure: no sockets."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._charts = ChartRepository(bundle, bundle.manifest.charts)

    def find(self, target: str) -> Answer | None:
        """The answer for a request target (path and query), or None. Raises BundleError for a damaged bundle."""
        parts = urlsplit(target)
        path = unquote(parts.path)
        if path in ("/v2", "/v2/"):
            return _text(b"{}")
        if path.startswith("/charts/"):
            return self._charts.find(target)
        if path.startswith("/files/"):
            return self._files.get(path.removeprefix("/files/"))
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        # Also with a path of its own (`override_path`) a mirror of containerd is told the upstream host.
        namespace = parse_qs(parts.query).get("ns", [""])[0]
        content = self._repositories.get(_key(f"{namespace}/{match['name']}")) if namespace else None
        content = content or self._repositories.get(_key(match["name"]))
        if content is None:
            return None
        if match["kind"] == "tags":
            listed = {"name": match["name"], "tags": sorted(key for key in content if ":" not in key)}
            return _text(json.dumps(listed).encode()) if match["ref"] == "list" else None
        answer = content.get(match["ref"])
        is_manifest = answer is not None and answer.media_type in media_types.INDEXES | media_types.MANIFESTS
        return answer if is_manifest == (match["kind"] == "manifests") else None

    @cached_property
    def _files(self) -> dict[str, Answer]:
        """The files that travel along, by name; those of an update that it does not carry are not there."""
        blobs = {item.name: self._bundle.blob(item.digest) for item in files_of(self._bundle.manifest)}
        return {
            name: Answer(media_types.OCTETS, blob.size, blob.digest) for name, blob in blobs.items() if blob.carried
        }

    @cached_property
    def _repositories(self) -> dict[str, dict[str, Answer]]:
        """Per repository, its content by digest and manifests also by tag.

        An image of which an update carries a part only is not there: it could be begun, but never be pulled.
        """
        found: dict[str, dict[str, Answer]] = {}
        for image in self._bundle.manifest.images:
            if self._bundle.lacking(image):
                continue
            self._add_image(found.setdefault(_key(str(image.reference.repository)), {}), image)
        for chart in self._bundle.manifest.charts:
            self._add_chart(found.setdefault(f"charts/{chart.name}", {}), chart)
        return found

    def _add_image(self, content: dict[str, Answer], image: BundleImage) -> None:
        for blob in self._bundle.images.closure(image).values():
            content[blob.digest.text] = Answer(blob.media_type, blob.size, blob.digest)
        if image.tag:
            content[image.tag] = content[image.digest.text]

    def _add_chart(self, content: dict[str, Answer], chart: BundleChart) -> None:
        artifact = artifact_of(self._bundle, chart)
        for blob in (artifact.descriptor, *artifact.blobs):
            content[blob.digest.text] = Answer(blob.media_type, blob.size, blob.digest)
        # HIP 6: a version's plus sign, which no tag may hold, is written as an underscore.
        content[chart.version.replace("+", "_")] = content[chart.artifact.text]


def _key(name: str) -> str:
    """A repository in the spelling of `installer.chart.relocation.target`."""
    host, slash, path = name.partition("/")
    return f"{host.lower().replace(':', '__')}{slash}{path}"


def _text(text: bytes) -> Answer:
    return Answer(_JSON, len(text), None, text)


class Server:
    """Serves a bundle, or only what `content` finds in it, on one address while its context is open.

    `port` 0 takes a free one; `address` is `HOST:PORT` as it is reached. Raises UsageError if the address cannot
    be had.
    """

    def __init__(
        self, bundle: Bundle, host: str, port: int, reporter: Reporter, content: Findable | None = None
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._http = _Http((host, port), family)
        except OSError as exc:
            raise UsageError(
                f"{host}:{port}: cannot listen: {exc.strerror or exc}", hint="choose another address or port."
            ) from exc
        self._http.content, self._http.bundle, self._http.reporter = content or Catalogue(bundle), bundle, reporter
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

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the library's
        """Requests are not logged one by one."""

    def _answer(self, *, body: bool) -> None:
        server = cast("_Http", self.server)
        try:
            answer = server.content.find(self.path)
        except AirferryError as exc:
            server.reporter.note(f"{self.path}: {exc.message}")
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        if answer is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        span = _span(self.headers.get("Range"), answer.size)
        if span is None:
            self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        start, end = span
        self.send_response(HTTPStatus.OK if (start, end) == (0, answer.size) else HTTPStatus.PARTIAL_CONTENT)
        if (start, end) != (0, answer.size):
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{answer.size}")
        self._head(answer.media_type, end - start)
        self.send_header("Accept-Ranges", "bytes")
        if answer.digest is not None:
            self.send_header("Docker-Content-Digest", answer.digest.text)
        self.end_headers()
        if body:
            self._send(server, answer, start, end)

    def _head(self, media_type: str, length: int) -> None:
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(length))
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")

    def _refuse(self, status: HTTPStatus) -> None:
        code = {404: "NOT_FOUND"}.get(status, "UNSUPPORTED")
        text = json.dumps({"errors": [{"code": code, "message": printable(self.path[:200])}]}).encode()
        self.send_response(status)
        self._head(_JSON, len(text))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _send(self, server: _Http, answer: Answer, start: int, end: int) -> None:
        try:
            with contextlib.closing(_views(server, answer, start, end)) as views:
                # A timeout counts for each write: who reads slowly, but steadily, is not cut off.
                for part in sliced(views):
                    self.wfile.write(part)
        except AirferryError as exc:
            # The length is promised already: a cut connection is the one way left to say that this is not it.
            server.reporter.note(exc.message)
            self.close_connection = True
        except OSError:
            self.close_connection = True


def _views(server: _Http, answer: Answer, start: int, end: int) -> Generator[memoryview | bytes]:
    """The content from byte `start` to `end`; after each chunk others have their turn."""
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


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and end of what a Range header (RFC 9110, section 14) asks for; None if it cannot be met."""
    match = _RANGE.fullmatch(header) if header else None
    if match is None:
        return 0, size
    start, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
    return (start, end) if start < end else None
