"""A blob on its way into a registry (OCI distribution specification 1.1, "Pushing a blob")."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Self
from urllib.parse import urlencode, urlsplit

from installer.errors import AirferryError, ContentError, NotFoundError, RegistryAccessError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor
from installer.registry.endpoint import Endpoint, joined, origin, place
from installer.registry.failures import TransientError
from installer.registry.messages import Request, Response
from installer.registry.transport import Transport
from installer.registry.upload_sessions import Claim
from installer.value import Value, replace

Content = Callable[[int], Iterable[memoryview | bytes]]
"""The content of a blob from a position on, as often as it is asked for."""

WORTH_ASKING = 4 << 20
"""Blobs of more bytes than this are continued where they broke off; smaller ones are sent again."""
SMALLEST = 1 << 20
"""Requests of so many bytes are accepted even by an nginx that nobody told otherwise."""
TOO_LARGE = 413
OUT_OF_ORDER = 416
SUCCESS = frozenset(range(200, 300))
"""Statuses count by their class: Amazon's ECR answers 201 to each chunk, Pulp 204."""
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})", re.ASCII)


class Begun(Value):
    """An upload that a registry has begun.

    `least` is how many bytes each chunk but the last must have; `named` the host that the registry calls itself by, if
    that is not the one that it is asked under.
    """

    url: str
    least: int
    named: str

    @classmethod
    def told(cls, response: Response, request: Request) -> Self:
        """By the answer to the POST `request`. Raises RegistryAccessError for an address that is not used."""
        least = response.header("OCI-Chunk-Min-Length").strip()
        url, named = upload_url(request.endpoint, request.url, response.header("Location"))
        return cls(url, int(least) if _LENGTH.fullmatch(least) else 0, named)


class Upload:
    """The upload of the blob `descriptor`: each further try goes on where the registry says that the last one ended.

    `start` is the POST that begins an upload (end-4a); `claim` may know one that another process has begun, `begun` is
    one that began in the place of a mount.
    `position` counts the bytes of which the registry said that it has them, `earlier` those of another process;
    `resumable` tells whether this registry says so, None if it was not asked. For one thread at a time.
    """

    def __init__(
        self,
        transport: Transport,
        start: Request,
        descriptor: Descriptor,
        content: Content,
        claim: Claim,
        begun: Begun | None = None,
    ) -> None:
        self._transport, self._start, self._descriptor = transport, start, descriptor
        self._content, self._claim, self._begun = content, claim, begun
        self._url, self._least, self._named = "", 0, ""
        self._answered = self._continued = False
        self.position = self.earlier = 0
        self.resumable: bool | None = None

    def send(self, most: int) -> int:
        """Send what is lacking, in requests of at most `most` bytes, unless the registry wants them larger.

        0 when all has arrived; else the size of a request that something on the way refuses as too large.
        Raises TransientError, AirferryError.
        """
        self._locate()
        size, most = self._descriptor.size, max(most, self._least)
        if not self.position and size <= most:
            return self._close(size)
        while self.position < size:
            # Whole multiples of `most`, as long as there are any: nobody reads a chunk of the bundle twice.
            length = min(most - self.position % most, size - self.position)
            request = self._request("PATCH", self._url, SUCCESS | {OUT_OF_ORDER}, length)
            request = request.with_header("Content-Range", f"{self.position}-{self.position + length - 1}")
            with self._exchange(request) as response:
                if response.status == TOO_LARGE:
                    return length
                self._move(response)
                if response.status == OUT_OF_ORDER:
                    # It has another count of bytes than its last answer let us think (end-5).
                    self._answered = False
                    if self._continued:
                        self._forget()
                    what = f"{place(request.url)}: an upload that has come to {self.position} bytes cannot go on there"
                    raise TransientError(ContentError(what, hint="run the same command again."))
                self.position += _taken(response, self.position, length)
        return self._close(0)

    def _close(self, length: int) -> int:
        """End the upload with its last `length` bytes; what `send` returns."""
        query = urlencode({"digest": self._descriptor.digest.text})
        url = f"{self._url}{'&' if urlsplit(self._url).query else '?'}{query}"
        request = replace(self._request("PUT", url, SUCCESS, length), handled=self._descriptor.size)
        with self._exchange(request) as response:
            if response.status == TOO_LARGE:
                return length
            check_stated(response, self._descriptor.digest, self._start.url)
        self._claim.forget()
        return 0

    def _locate(self) -> None:
        """Have the upload's address and position: known, asked for, or those of a new upload."""
        if self._url and self._answered:
            return
        known = self._url or self._claim.address
        if known and self._descriptor.size > WORTH_ASKING and self._ask(known):
            return
        begun, self._begun = self._begun, None
        if begun is None:
            with self._transport.exchange(self._start) as response:
                begun = Begun.told(response, self._start)
        self._url, self._least, self._named = begun.url, begun.least, begun.named
        self.position, self._continued = 0, False
        self._answered = True
        self._claim.keep(self._url)

    def _ask(self, url: str) -> bool:
        """Ask how far the upload at `url` has come (end-13); whether the registry knows. Raises TransientError."""
        ours = bool(self._url)
        self._url = url
        try:
            with self._transport.exchange(self._request("GET", url, SUCCESS)) as response:
                found = _RANGE.fullmatch(response.header("Range").strip())
                self._move(response)
        except AirferryError:
            found = None
        self.resumable = found is not None
        # An upload without any byte is said to have the range 0-0, too.
        position = int(found[1]) + 1 if found else 0
        if not 1 < position <= self._descriptor.size:
            self._forget()
            return False
        self.position, self._answered, self._continued = position, True, True
        if not ours:
            self.earlier = position
        return True

    def _move(self, response: Response) -> None:
        """Take over the address that an answer gives for what follows, if it gives one."""
        if location := response.header("Location"):
            self._url, self._named = upload_url(self._start.endpoint, self._url, location)

    def _forget(self) -> None:
        self._url, self.position, self.earlier = "", 0, 0
        self._claim.forget()

    def _request(self, method: str, url: str, expect: frozenset[int], length: int = 0) -> Request:
        if length > max(SMALLEST, self._least):
            expect |= {TOO_LARGE}
        request = Request(self._start.endpoint, method, url, expect, scopes=self._start.scopes)
        if method == "GET":
            return request
        position = self.position

        def body() -> Iterable[memoryview]:
            return _first(self._content(position), length) if length else ()

        return request.with_header("Content-Type", media_types.OCTETS).with_body(body, length)

    def _exchange(self, request: Request) -> Response:
        self._answered = False
        try:
            response = self._transport.exchange(request)
        except NotFoundError as exc:
            if self._named and not self.position:
                raise _elsewhere(self._start.endpoint, self._named) from exc
            # The registry has forgotten the upload: it was restarted, or another replica answered.
            self._forget()
            raise TransientError(exc) from exc
        except ContentError as exc:
            if not self._continued:
                raise
            # What was there is not what it should be, or is not all: what broke off may have arrived after the answer.
            self._forget()
            raise TransientError(exc) from exc
        self._answered = True
        return response


def _first(parts: Iterable[memoryview | bytes], length: int) -> Iterator[memoryview]:
    """The first `length` bytes of `parts`."""
    for part in parts:
        yield memoryview(part)[:length]
        length -= len(part)
        if length <= 0:
            return


def _taken(response: Response, position: int, length: int) -> int:
    """How many of the `length` bytes that were sent from `position` on an answer says are kept: all, if nothing else.

    What is no count of these some registries write who count otherwise, and 0-0 those who count nothing.
    """
    found = _RANGE.fullmatch(response.header("Range").strip())
    kept = int(found[1]) + 1 - position if found and int(found[1]) else length
    return kept if 0 < kept < length else length


def check_stated(response: Response, digest: Digest, what: str) -> None:
    """Raises ContentError if the registry says that it stored something with another digest."""
    stated = response.header("Docker-Content-Digest")
    if stated and stated != digest.text:
        raise ContentError(f"{what}: the registry stored it as {stated[:80]!r} instead of {digest}")


def upload_url(endpoint: Endpoint, url: str, location: str) -> tuple[str, str]:
    """Where to send an upload that the registry answered with `Location`, and the host named there if it is another.

    Only the endpoint's own origin gets it. A registry that does not know under which scheme, port or name it is seen
    names others for itself, in paths of the same API; then path and query count. Raises RegistryAccessError.
    """
    target = joined(url, location)
    if not target:
        raise RegistryAccessError(f"{endpoint.host}: wants an upload sent to no web address")
    if origin(target) == origin(endpoint.origin):
        return target, ""
    other, own = urlsplit(target), urlsplit(endpoint.origin)
    named = other.netloc if other.hostname != own.hostname else ""
    if named and not other.path.startswith("/v2/"):
        raise _elsewhere(endpoint, named)
    return other._replace(scheme=own.scheme, netloc=own.netloc, fragment="").geturl(), named


def _elsewhere(endpoint: Endpoint, named: str) -> RegistryAccessError:
    return RegistryAccessError(
        f"{endpoint.host}: wants uploads sent to another host, {named}, which is refused",
        hint="the registry must be told its public address (distribution: http.host).",
    )
