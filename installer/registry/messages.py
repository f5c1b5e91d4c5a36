"""Requests to registries and the responses to them, as one HTTP exchange sees them."""

import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import urllib3

from installer.errors import ContentError, RegistryUnreachableError
from installer.registry import failures
from installer.registry.connections import NETWORK_ERRORS
from installer.registry.endpoint import Endpoint, place
from installer.registry.failures import TransientError
from installer.value import Value, replace

if TYPE_CHECKING:
    import http.client

    from installer.registry.throttle import Turn

SEND_SLICE = 1 << 20
MAX_ERROR_BODY = 64 << 10
READ_SLICE = 64 << 10
GZIP = b"\x1f\x8b"
GZIP_WINDOW = 31

Body = Callable[[], Iterable[memoryview | bytes]]
"""Gives the parts of a request's body, anew for each try."""


class Request(Value):
    """A request to an endpoint.

    url: absolute, on the endpoint's origin or its token server's. scopes: what a token must allow, like
    `repository:NAME:pull`. body: called for each try, gives the parts of the body, `length` bytes in all. expect:
    statuses to return; any other is raised. handled: how many bytes the server may have to go through before it
    answers, `length` at least.
    """

    endpoint: Endpoint
    method: str
    url: str
    expect: frozenset[int]
    headers: Mapping[str, str] = {}
    scopes: tuple[str, ...] = ()
    body: Body | None = None
    length: int = 0
    handled: int = 0

    def with_header(self, name: str, value: str) -> "Request":
        """The same request with one more header."""
        return replace(self, headers={**self.headers, name: value})

    def with_scope(self, scope: str) -> "Request":
        """The same request for which a token must also allow `scope`."""
        return replace(self, scopes=(*self.scopes, scope))

    def with_body(self, body: Body, length: int) -> "Request":
        """The same request with a body of `length` bytes."""
        return replace(self, body=body, length=length)


class Response:
    """A response whose body is still to be read; a context manager that frees the connection, and ends its `turn`.

    `seconds` is how long each part of the body is waited for.

    Bodies are read by http.client's `readinto`, one layer below urllib3: from the socket into the given memory without
    a copy, and never more than that memory holds. (Its `read` believes a chunk size of -1 and reads without end;
    urllib3's `readinto` reads into new bytes and copies them.)
    """

    def __init__(self, inner: urllib3.BaseHTTPResponse, method: str, url: str, seconds: float) -> None:
        self._inner, self.method, self.url, self._seconds = inner, method, url, seconds
        self.turn: Turn | None = None
        self._raw: http.client.HTTPResponse = inner._fp  # type: ignore[attr-defined]  # noqa: SLF001
        self.status = inner.status

    def header(self, name: str) -> str:
        """A header's value, empty if absent; several are joined by commas."""
        return str(self._inner.headers.get(name, ""))

    @property
    def length(self) -> int | None:
        """`Content-Length`, None if absent or unreadable."""
        text = self.header("Content-Length")
        return int(text) if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) else None

    def readinto(self, view: memoryview) -> int:
        """Fill a part of `view` with the next bytes of the body; their count, 0 at its end. Raises TransientError."""
        try:
            return self._raw.readinto(view)
        except (*NETWORK_ERRORS, ValueError) as exc:
            # A ValueError is what http.client makes of chunk sizes that are none.
            raise failures.network_failure(exc, self.url, seconds=self._seconds) from exc

    @property
    def encoding(self) -> str:
        """What the body is said to be packed with on the way, although nobody asked for it; empty if with nothing."""
        found = self.header("Content-Encoding").strip().lower()
        return "" if found == "identity" else found

    @property
    def gzipped(self) -> bool:
        """Whether the body is said to be packed with gzip."""
        return self.encoding in ("gzip", "x-gzip")

    def read(self, limit: int, *, packed: bool = False) -> bytes:
        """The whole body, of at most `limit` bytes; `packed`: a gzip file is what is wanted.

        Who labels files of the kind with `Content-Encoding: gzip` may or may not have packed them for the way
        (RFC 9110, section 8.4.1.3). Raises ContentError if it is larger, RegistryAccessError for a web page,
        TransientError if it breaks off.
        """
        data = bytearray()
        buffer = memoryview(bytearray(min(limit + 1, READ_SLICE)))
        while len(data) <= limit and (count := self.readinto(buffer)):
            data += buffer[:count]
        if len(data) > limit:
            self.abort()
            raise self._too_large(limit)
        if self._raw.length:
            error = f"{place(self.url)}: the answer ends {self._raw.length} bytes early"
            raise TransientError(RegistryUnreachableError(error, hint="run the same command again."))
        found = bytes(data)
        if self.gzipped and found.startswith(GZIP):
            plain = self._unpacked(found, limit)
            found = plain if not packed or plain.startswith(GZIP) else found
        if found[:512].lstrip().startswith(b"<"):
            raise failures.web_page(self.url)
        return found

    def _too_large(self, limit: int) -> ContentError:
        hint = "nothing of that kind may be larger, in registries neither; its publisher has to make it smaller."
        return ContentError(f"{place(self.url)}: the answer is larger than {limit} bytes", hint=hint)

    def _unpacked(self, data: bytes, limit: int) -> bytes:
        unpacking = zlib.decompressobj(GZIP_WINDOW)
        try:
            plain = unpacking.decompress(data, limit + 1)
        except zlib.error as exc:
            raise ContentError(f"{place(self.url)}: the answer is no gzip, as its Content-Encoding says") from exc
        if len(plain) > limit:
            raise self._too_large(limit)
        if not unpacking.eof:
            raise ContentError(f"{place(self.url)}: the answer is a gzip without its end")
        return plain

    def start(self, limit: int) -> bytes:
        """The first `limit` bytes of the body, as far as they arrive: for the text of an error."""
        data, count = memoryview(bytearray(limit)), 0
        try:
            while part := self.readinto(data[count:]):
                count += part
        except TransientError:
            self.abort()
        return bytes(data[:count])

    def finish(self) -> bool:
        """After the last byte that is wanted: free the connection; whether the body ends here."""
        ended = not self.start(1)
        self.close()
        return ended

    def close(self) -> None:
        """Free the connection: for another request if little is left of the body, else it ends."""
        if not self._raw.isclosed():
            self.start(MAX_ERROR_BODY)
        if self._raw.isclosed():
            self._inner.release_conn()
            self._end()
        else:
            self.abort()

    def abort(self) -> None:
        """End the connection without reading the rest of the body."""
        self._inner.close()
        self._inner.release_conn()
        self._end()

    def _end(self) -> None:
        if self.turn is not None:
            self.turn.end()

    def __enter__(self) -> "Response":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def sliced(parts: Iterable[memoryview | bytes]) -> Iterator[memoryview]:
    """`parts` in slices of at most SEND_SLICE bytes, without copies: a socket's timeout counts for each slice."""
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), SEND_SLICE):
            yield view[start : start + SEND_SLICE]


def retry_after(response: Response) -> float | None:
    """The pause that a response asks for, in seconds; None if it does not say (RFC 9110, section 10.2.3).

    A date is compared with the server's own `Date`, so that our clock does not matter.
    """
    text = response.header("Retry-After").strip()
    if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        return float(text)
    try:
        pause = parsedate_to_datetime(text) - parsedate_to_datetime(response.header("Date"))
    except (ValueError, TypeError):
        return None
    return max(pause.total_seconds(), 0.0)
