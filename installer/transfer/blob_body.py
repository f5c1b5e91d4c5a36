"""The content of a blob on its way out of the bundle: verified chunks, from any position on, as often as it takes."""

import hashlib
import threading
from collections.abc import Iterator

from installer.bundle.limits import CHUNK
from installer.bundle.manifest import chunk_count
from installer.bundle.reader import Bundle
from installer.errors import AirferryError, BundleError
from installer.oci.model import Descriptor
from installer.report import Reporter, size


class Outgoing:
    """Gives the content of `blob` from a position on, each chunk verified in `buffer`, from which it is sent.

    With `sha256` the last chunk is held back until the whole is known to be right. With `across` volumes that are not
    at hand are asked for when their turn comes, before a request is opened. `reporter`, if any, hears how far it is.
    `stop` ends it in the middle. For one thread at a time.
    """

    def __init__(
        self,
        bundle: Bundle,
        blob: Descriptor,
        buffer: bytearray,
        reporter: Reporter | None,
        stop: threading.Event,
        *,
        sha256: bool = False,
        across: bool = False,
    ) -> None:
        self._bundle, self._blob, self._reporter, self._stop = bundle, blob, reporter, stop
        self._across = across
        self._whole = hashlib.sha256() if sha256 else None
        self._hashed = self._shown = 0
        self._buffer = buffer
        self._held, self._view = -1, memoryview(b"")

    def __call__(self, start: int) -> Iterator[memoryview]:
        """The content from byte `start` on. Raises BundleError, StorageError, IncompleteError."""
        self._show(start)
        if start < self._blob.size:
            # Only what follows is left to the moment when it is sent.
            self._chunk(start // CHUNK)
        return self._from(start)

    def arrived(self) -> None:
        """Tell the reporter that the end has arrived as well: of what is sent last nobody comes back for more."""
        self._show(self._blob.size)

    def _show(self, position: int) -> None:
        if self._reporter is not None:
            self._reporter.advance(position - self._shown)
            self._shown = position

    def _from(self, start: int) -> Iterator[memoryview]:
        while start < self._blob.size:
            if self._stop.is_set():
                raise AirferryError(f"blob {self._blob.digest}: given up, since another one failed")
            view = self._chunk(start // CHUNK)[start % CHUNK :]
            yield view
            start += len(view)
            self._show(start)

    def _chunk(self, number: int) -> memoryview:
        """Chunk `number`; with `sha256` those before it have been read, too."""
        if number != self._held:
            for each in range(min(self._hashed, number) if self._whole else number, number + 1):
                self._read(each)
        return self._view

    def _read(self, number: int) -> None:
        self._held = -1
        self._bring(number)
        self._view = next(self._bundle.chunks(self._blob.digest, number, self._buffer))
        if self._whole and number == self._hashed:
            self._whole.update(self._view)
            if number + 1 == chunk_count(self._blob.size) and self._whole.hexdigest() != self._blob.digest.hex:
                raise BundleError(f"blob {self._blob.digest}: its content has another SHA-256")
            self._hashed += 1
        self._held = number

    def _bring(self, number: int) -> None:
        """Have the volume with chunk `number` at hand."""
        if self._across and (absent := self._bundle.absent(self._blob.digest)):
            blob = self._bundle.blob(self._blob.digest)
            volume = blob.pieces[blob.locate(number * CHUNK)[0]][0]
            if volume in absent:
                self._bundle.require((volume,), f"a layer of {size(blob.size)} goes on there")
