"""What is answered to a request, as values: no sockets, and nothing that a library for HTTP servers would not take.

Sources: RFC 9110 (conditional requests, ranges); OCI distribution specification 1.1, "Error Codes"; errors have its
shape under every path.
"""

import json
import re
from http import HTTPStatus
from typing import Protocol

from installer.oci.digest import Digest
from installer.report import printable
from installer.value import Value

JSON = "application/json"
METHODS = "GET, HEAD"
_RANGE = re.compile(r"bytes=(?:([0-9]{1,16})-([0-9]{0,16})|-([0-9]{1,16}))", re.ASCII)
_TAGGED = re.compile(r'(?:W/)?("[^"]*")', re.ASCII)
_AUTHORITY = re.compile(r"https?://[^/?]*", re.ASCII | re.IGNORECASE)
Headers = tuple[tuple[str, str], ...]


class Asked(Value):
    """A request: its target (path and query), and the headers that matter, each empty if absent."""

    method: str
    target: str
    range: str = ""
    if_range: str = ""
    if_none_match: str = ""


class Answer(Value):
    """The content of a path: a blob of the bundle, or `text` if there is no digest; with `headers` of its own."""

    media_type: str
    size: int
    digest: Digest | None = None
    text: bytes = b""
    headers: Headers = ()

    @classmethod
    def of(cls, text: bytes, media_type: str = JSON, headers: Headers = ()) -> "Answer":
        """An answer that is made here."""
        return cls(media_type, len(text), None, text, headers)


class Refusal(Value):
    """Why there is no answer: a status, and a code of the specification with `what` it is about."""

    status: HTTPStatus
    code: str
    what: str


class Reply(Value):
    """A status, all headers, and of `content` the bytes from `start` to `end`, which are none for HEAD."""

    status: HTTPStatus
    headers: Headers
    content: Answer
    start: int
    end: int


class Findable(Protocol):
    """A lookup from request targets to answers."""

    def find(self, target: str) -> Answer | Refusal:
        """What lies under a request target (path and query). Raises BundleError for a damaged bundle."""


def parted(target: str) -> tuple[str, str]:
    """Path and query of a request target, both as they are written; what asks a proxy names the host, too."""
    path, _, query = target[match.end() if (match := _AUTHORITY.match(target)) else 0 :].partition("?")
    return path, query


def reply_to(asked: Asked, found: Answer | Refusal) -> Reply:
    """How `asked` is answered with what was `found` under its target."""
    if isinstance(found, Refusal):
        return refused(asked, found)
    headers: Headers = (("Accept-Ranges", "bytes"), *found.headers)
    tag = ""
    if found.digest is not None:
        tag = f'"{found.digest}"'
        headers = (*headers, ("Docker-Content-Digest", found.digest.text), ("ETag", tag))
    if tag and _names(asked.if_none_match, tag):
        return Reply(HTTPStatus.NOT_MODIFIED, headers, found, 0, 0)
    # Ranges have no meaning for other methods than GET; of several the whole is sent, as RFC 9110 allows.
    wanted = asked.range if asked.method == "GET" and asked.if_range in ("", tag) else ""
    span = _span(wanted, found.size)
    if span is None:
        refusal = Refusal(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "UNSUPPORTED", asked.range)
        return refused(asked, refusal, (("Content-Range", f"bytes */{found.size}"),))
    start, end = span
    status = HTTPStatus.OK
    if (start, end) != (0, found.size):
        status = HTTPStatus.PARTIAL_CONTENT
        headers = (*headers, ("Content-Range", f"bytes {start}-{end - 1}/{found.size}"))
    return _reply(asked, status, found, start, end, headers)


def refused(asked: Asked, refusal: Refusal, headers: Headers = ()) -> Reply:
    """How `asked` is refused."""
    error = {"code": refusal.code, "message": printable(refusal.what[:200])}
    text = Answer.of(json.dumps({"errors": [error]}).encode())
    return _reply(asked, refusal.status, text, 0, text.size, headers)


def _reply(asked: Asked, status: HTTPStatus, content: Answer, start: int, end: int, headers: Headers) -> Reply:
    described = (("Content-Type", content.media_type), ("Content-Length", str(end - start)))
    if asked.method == "HEAD":
        start = end
    return Reply(status, (*described, *headers), content, start, end)


def _names(header: str, tag: str) -> bool:
    """Whether an If-None-Match header names the entity tag; weak and strong ones are the same to it."""
    return header.strip() == "*" or tag in _TAGGED.findall(header)


def _span(header: str, size: int) -> tuple[int, int] | None:
    """First byte and end of what a Range header asks for; None if it cannot be met, all if it is none of one range."""
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        return 0, size
    first, last, suffix = match.groups()
    if suffix is not None:
        return (max(size - int(suffix), 0), size) if size and int(suffix) else None
    start, end = int(first), min(int(last) + 1, size) if last else size
    if last and int(last) < start:
        return 0, size
    return (start, end) if start < size else None
