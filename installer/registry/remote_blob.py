"""A blob being read from a registry."""

import re
from collections.abc import Callable
from typing import Self

from installer.errors import ContentError, RegistryUnreachableError
from installer.oci.model import Descriptor
from installer.registry.endpoint import place
from installer.registry.failures import TransientError
from installer.registry.messages import Response
from installer.registry.transport import ATTEMPTS, Transport

# A connection that brought less than this before it broke counts as a failed attempt.
PROGRESS = 16 << 10
# After a broken connection reads are small: http.client tells no count of what came before a reset.
CAREFUL_READ = 8 << 10
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/(?:([0-9]{1,18})|\*)", re.ASCII)


class RemoteBlob:
    """A stream over the blob `descriptor` from byte `offset` on (a `BlobStream`).

    `request` sends a GET for the bytes from a position on, as one try. A broken connection is replaced by one that
    continues at the position reached, ATTEMPTS times in a row without progress. Not for several threads at a time.
    """

    def __init__(
        self, transport: Transport, request: Callable[[int], Response], descriptor: Descriptor, offset: int
    ) -> None:
        self._transport, self._request, self._descriptor = transport, request, descriptor
        self._position = self._mark = offset
        self._failed = 0
        self._careful_until = 0
        self._response: Response | None = None
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

    def _try(self, step: Callable[[Response], int]) -> int:
        """`step` on an open connection, again after each break as long as it leads on."""
        while True:
            try:
                if self._response is None:
                    self._response = self._connect()
                return step(self._response)
            except TransientError as exc:
                self._drop()
                if self._position - self._mark >= PROGRESS:
                    self._failed = 0
                self._mark = self._position
                self._careful_until = self._position + 2 * PROGRESS
                self._failed += 1
                if self._failed >= ATTEMPTS:
                    raise exc.error from exc
                self._transport.pause(self._failed, exc.wait)

    def _connect(self) -> Response:
        """A connection whose next byte is the one at the position."""
        response = self._request(self._position)
        try:
            skip = _start(response, self._descriptor, self._position)
            scratch = memoryview(bytearray(min(skip, 1 << 20)))
            while skip:
                skip -= self._receive(response, scratch[: min(skip, len(scratch))])
        except BaseException:
            response.abort()
            raise
        return response

    def _read(self, response: Response, view: memoryview) -> int:
        if self._position < self._careful_until:
            view = view[:CAREFUL_READ]
        count = self._receive(response, view)
        self._position += count
        if self._position == self._descriptor.size:
            self._response = None
            if not response.finish():
                where = place(response.url)
                raise ContentError(f"{where}: more than the {self._descriptor.size} bytes of the blob arrive")
        return count

    def _receive(self, response: Response, view: memoryview) -> int:
        count = response.readinto(view)
        if not count:
            size = self._descriptor.size
            what = f"{place(response.url)}: the answer ends after {self._position} of {size} bytes"
            raise TransientError(RegistryUnreachableError(what, hint="run the same command again: it continues."))
        return count

    def _drop(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.abort()


def _start(response: Response, descriptor: Descriptor, position: int) -> int:
    """Check what an answer holds; the count of bytes to skip before `position`. Raises ContentError, TransientError."""
    where = place(response.url)
    encoding = response.header("Content-Encoding").strip().lower()
    if encoding not in ("", "identity"):
        raise ContentError(f"{where}: the blob comes with Content-Encoding {encoding[:40]!r}, which nobody asked for")
    first, last = 0, descriptor.size - 1
    if response.status == 206:
        found = _RANGE.fullmatch(response.header("Content-Range").strip())
        if found is None or int(found[1]) != position or int(found[3] or descriptor.size) != descriptor.size:
            given = response.header("Content-Range")[:80]
            raise ContentError(f"{where}: asked for bytes from {position} of {descriptor.size}, got {given!r}")
        first, last = position, int(found[2])
    stated = response.length
    if stated is not None and stated != last - first + 1:
        error = ContentError(f"{where}: {stated} bytes are announced, the blob needs {last - first + 1}")
        raise TransientError(error)
    return position - first
