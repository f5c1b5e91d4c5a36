"""A blob on its way into a registry (OCI distribution specification 1.1, "Pushing a blob")."""

from collections.abc import Iterable
from urllib.parse import urlencode, urlsplit

from installer.errors import ContentError, NotFoundError, RegistryAccessError
from installer.oci import media
from installer.oci.digest import Digest
from installer.oci.endpoint import Endpoint, joined, origin
from installer.oci.model import Descriptor
from installer.oci.transport import Body, Request, Response, TransientError, Transport, sliced

_CREATED = frozenset({201})
_ACCEPTED = frozenset({202})
TOO_LARGE = 413


class Upload:
    """One try to upload the blob `descriptor`, whose content `body()` gives from its start each time.

    `start` is the POST that begins an upload (end-4a).
    """

    def __init__(self, transport: Transport, start: Request, descriptor: Descriptor, body: Body) -> None:
        self._transport, self._start, self._descriptor, self._body = transport, start, descriptor, body

    def whole(self) -> bool:
        """Send all in one request (end-6). False if something on the way does not take so much at once.

        Raises TransientError, AirferryError.
        """
        request = self._request("PUT", self._closing(self._begin()), _CREATED | {TOO_LARGE})
        with self._exchange(request.with_body(self._body, self._descriptor.size)) as response:
            if response.status == TOO_LARGE:
                return False
            check_stated(response, self._descriptor.digest, self._start.url)
        return True

    def pieces(self) -> None:
        """Send in requests of at most 1 MiB (end-5): so much does nginx take if nobody told it otherwise.

        Raises TransientError, AirferryError.
        """
        url, position = self._begin(), 0
        for piece in sliced(self._body()):
            request = self._request("PATCH", url, _ACCEPTED).with_body(_once(piece), len(piece))
            request = request.with_header("Content-Range", f"{position}-{position + len(piece) - 1}")
            with self._exchange(request) as response:
                url = upload_url(self._start.endpoint, url, response.header("Location"))
            position += len(piece)
        with self._exchange(self._request("PUT", self._closing(url), _CREATED)) as response:
            check_stated(response, self._descriptor.digest, self._start.url)

    def _begin(self) -> str:
        with self._transport.exchange(self._start) as response:
            return upload_url(self._start.endpoint, self._start.url, response.header("Location"))

    def _closing(self, url: str) -> str:
        """`url` with the digest that ends an upload."""
        return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode({'digest': self._descriptor.digest.text})}"

    def _request(self, method: str, url: str, expect: frozenset[int]) -> Request:
        headers = {"Content-Type": media.OCTETS}
        return Request(self._start.endpoint, method, url, expect, headers, self._start.scopes)

    def _exchange(self, request: Request) -> Response:
        try:
            return self._transport.exchange(request)
        except NotFoundError as exc:
            # The registry has forgotten the upload: it was restarted, or another replica answered.
            raise TransientError(exc) from exc


def _once(piece: memoryview) -> Body:
    def body() -> Iterable[memoryview]:
        return (piece,)

    return body


def check_stated(response: Response, digest: Digest, what: str) -> None:
    """Raises ContentError if the registry says that it stored something with another digest."""
    stated = response.header("Docker-Content-Digest")
    if stated and stated != digest.text:
        raise ContentError(f"{what}: the registry stored it as {stated[:80]!r} instead of {digest}")


def upload_url(endpoint: Endpoint, url: str, location: str) -> str:
    """Where to send an upload that the registry answered with `Location`.

    Only the endpoint's own origin gets it. A registry that does not know under which scheme and port it is seen (a
    proxy ends the TLS connection) names its own host with others; then path and query count.
    Raises RegistryAccessError.
    """
    target = joined(url, location)
    if not target:
        raise RegistryAccessError(f"{endpoint.host}: wants an upload sent to no web address")
    if origin(target) == origin(endpoint.origin):
        return target
    other, own = urlsplit(target), urlsplit(endpoint.origin)
    if other.hostname != own.hostname:
        raise RegistryAccessError(
            f"{endpoint.host}: wants uploads sent to another host, {other.netloc}, which is refused",
            hint="the registry must be told its public address (distribution: http.host).",
        )
    return other._replace(scheme=own.scheme, netloc=own.netloc, fragment="").geturl()
