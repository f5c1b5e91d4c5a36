"""A blob being read from a registry."""

import re
import zlib
from collections.abc import Callable
from typing import Self

from installer.errors import ContentError, RegistryAccessError, RegistryUnreachableError
from installer.oci.model import Descriptor
from installer.registry.endpoint import place
from installer.registry.failures import TransientError, web_page
from installer.registry.messages import GZIP, GZIP_WINDOW, READ_SLICE, Response
from installer.registry.transport import Transport, Tries

# A connection that brought less than this before it broke counts as a failed attempt.
PROGRESS = 16 << 10
# After a broken connection reads are small: http.client tells no count of what came before a reset.
CAREFUL_READ = 8 << 10
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/(?:([0-9]{1,18})|\*)", re.ASCII)


class RemoteBlob:
    """A stream over the blob `descriptor` from byte `offset` on (a `BlobStream`).

    `request` sends a GET for the bytes from a position on, as one try. A broken connection is replaced by one that
    continues at the position reached, or that brings all again where the part alone is not to be had. Not for several
    threads at a time.
    """

    def __init__(
        self, transport: Transport, request: Callable[[int], Response], descriptor: Descriptor, offset: int
    ) -> None:
        self._request, self._descriptor = request, descriptor
        self._position = offset
        self._tries = Tries(transport, PROGRESS, offset)
        self._parts = True
        self._careful_until = 0
        self._response: Response | _Unpacked | None = None
        if offset < descriptor.size:
            self._try(lambda _: 0)

    def readinto(self, view: memoryview) -> int:
        """Fill a part of `view` from the current position; the count of bytes, 0 at the end. Raises AirferryError."""
        left = self._descriptor.size - self._position
        if left <= 0 or not view:
            return 0
        return self._try(lambda response: self._read(response, view[:left]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._drop()

    def _try(self, step: Callable[["Response | _Unpacked"], int]) -> int:
        """`step` on an open connection, again after each break as long as it leads on."""
        while True:
            try:
                if self._response is None:
                    self._response = self._connect()
                return step(self._response)
            except TransientError as exc:
                self._drop()
                self._careful_until = self._position + 2 * PROGRESS
                self._tries.failed(exc, self._position)

    def _connect(self) -> "Response | _Unpacked":
        """A connection whose next byte is the one at the position."""
        if self._position and self._parts:
            try:
                return self._connect_from(self._position)
            except (ContentError, RegistryAccessError):
                # A range may be refused (416), or answered with another one, where the whole blob is not.
                self._parts = False
        return self._connect_from(0)

    def _connect_from(self, start: int) -> "Response | _Unpacked":
        response: Response | _Unpacked
        response = answer = self._request(start)
        try:
            skip = _start(answer, self._descriptor, self._position)
            if _is_packed(answer, self._descriptor):
                response = _Unpacked(answer)
            scratch = memoryview(bytearray(min(skip, 1 << 20)))
            while skip:
                skip -= self._receive(response, scratch[: min(skip, len(scratch))])
        except BaseException:
            response.abort()
            raise
        return response

    def _read(self, response: "Response | _Unpacked", view: memoryview) -> int:
        if self._position < self._careful_until:
            view = view[:CAREFUL_READ]
        count = self._receive(response, view)
        self._position += count
        if self._position == self._descriptor.size:
            self._response = None
            if not response.finish():
                where = place(response.url)
                what = f"{where}: more than the {self._descriptor.size} bytes of the blob arrive"
                raise ContentError(f"{what}{_label(response.encoding)}")
        return count

    def _receive(self, response: "Response | _Unpacked", view: memoryview) -> int:
        count = response.readinto(view)
        if not count:
            size = self._descriptor.size
            what = f"{place(response.url)}: the answer ends after {self._position} of {size} bytes"
            error = RegistryUnreachableError(
                f"{what}{_label(response.encoding)}", hint="run the same command again: it continues."
            )
            raise TransientError(error)
        return count

    def _drop(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.abort()


def _start(response: Response, descriptor: Descriptor, position: int) -> int:
    """Check what an answer holds; the count of bytes to skip before `position`. Raises ContentError, TransientError."""
    where = place(response.url)
    first, last = 0, descriptor.size - 1
    if response.status == 206:
        found = _RANGE.fullmatch(response.header("Content-Range").strip())
        if found is None or int(found[1]) != position or int(found[3] or descriptor.size) != descriptor.size:
            given = response.header("Content-Range")[:80]
            raise ContentError(f"{where}: asked for bytes from {position} of {descriptor.size}, got {given!r}")
        first, last = position, int(found[2])
        if response.gzipped and response.length != last - first + 1:
            raise ContentError(f"{where}: a part of the blob comes packed{_label(response.encoding)}")
    stated = response.length
    if stated != last - first + 1 and response.header("Content-Type").lower().startswith("text/html"):
        raise web_page(response.url)
    if stated is not None and stated != last - first + 1 and not response.gzipped:
        what = f"{where}: {stated} bytes are announced, the blob needs {last - first + 1}{_label(response.encoding)}"
        raise TransientError(ContentError(what))
    return position - first


def _is_packed(response: Response, descriptor: Descriptor) -> bool:
    """Whether the whole blob seems to come packed for the way, though asked for as it is; its digest will tell.

    Stores also put the label on what is a gzip file itself: there the length tells, or else the blob's type.
    """
    if not response.gzipped or response.status == 206:
        return False
    return "gzip" not in descriptor.media_type if response.length is None else response.length != descriptor.size


class _Unpacked:
    """The body of a response as it was before it was packed, or as it comes where it begins as no gzip does."""

    def __init__(self, response: Response) -> None:
        self._response, self.url, self.encoding = response, response.url, response.encoding
        self._raw = memoryview(bytearray(READ_SLICE))
        self._inflate = zlib.decompressobj(GZIP_WINDOW)
        self._begun, self._plain, self._rest = False, False, b""

    def readinto(self, view: memoryview) -> int:
        """As `Response.readinto`."""
        while True:
            data = self._rest[: len(view)] if self._plain else self._inflated(len(view))
            if data:
                if self._plain:
                    self._rest = self._rest[len(data) :]
                view[: len(data)] = data
                return len(data)
            count = self._response.readinto(self._raw)
            if not count:
                return 0
            self._rest = bytes(self._raw[:count])
            if not self._begun:
                self._begun, self._plain = True, not self._rest.startswith(GZIP)

    def _inflated(self, most: int) -> bytes:
        try:
            data = self._inflate.decompress(self._rest, most)
        except zlib.error as exc:
            error = ContentError(f"{place(self.url)}: what comes is damaged{_label(self.encoding)}")
            raise TransientError(error) from exc
        self._rest = self._inflate.unconsumed_tail
        return data

    def finish(self) -> bool:
        """As `Response.finish`."""
        more = self.readinto(memoryview(bytearray(1)))
        return self._response.finish() and not more

    def abort(self) -> None:
        """As `Response.abort`."""
        self._response.abort()


def _label(encoding: str) -> str:
    """What explains another length than the blob has, if the answer says so itself."""
    return f": it comes with Content-Encoding {encoding[:40]!r}, though asked for without" if encoding else ""
