"""The body of an upload: a blob's verified bytes from any position on, out of the bundle or out of the registry."""

import hashlib
import threading
from collections.abc import Iterator

from installer.bundle.limits import CHUNK
from installer.bundle.manifest import chunk_count
from installer.bundle.reader import Bundle
from installer.errors import AirferryError, BundleError, ContentError
from installer.oci.model import Descriptor
from installer.oci.reference import Repository
from installer.registry.client import Registry
from installer.report import Reporter, size


class BlobBody:
    """The content of `blob` out of the bundle. Each chunk is verified in `buffer` and sent from there.

    With `sha256` the last chunk is held back until the SHA-256 of all is known to be right. With `across`, a volume
    that is not at hand is asked for when its turn comes, while no request is open. `reporter`, if any, hears of each
    chunk that was taken. It ends with an error once `stop` is set. For one thread.
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
        self._bundle, self._blob, self._buffer = bundle, blob, buffer
        self._reporter, self._stop, self._across = reporter, stop, across
        self._whole = hashlib.sha256() if sha256 else None
        self._hashed = self._reported = 0
        self._number, self._view = -1, memoryview(b"")

    def __call__(self, start: int) -> Iterator[memoryview]:
        """The content from byte `start` on. Raises BundleError, StorageError, IncompleteError."""
        self._report(start)
        if start < self._blob.size:
            # Read now, before a request is opened; only the following chunks are read while it is sent.
            self._chunk(start // CHUNK)
        return self._from(start)

    def arrived(self) -> None:
        """Report the end as well: nobody asks for more after the last chunk."""
        self._report(self._blob.size)

    def refused(self) -> None:
        """Take back what was reported: nothing of it has arrived."""
        self._report(0)

    def _report(self, position: int) -> None:
        if self._reporter is not None:
            self._reporter.advance(position - self._reported)
            self._reported = position

    def _from(self, start: int) -> Iterator[memoryview]:
        while start < self._blob.size:
            if self._stop.is_set():
                raise AirferryError(f"blob {self._blob.digest}: given up, since another one failed")
            view = self._chunk(start // CHUNK)[start % CHUNK :]
            yield view
            start += len(view)
            self._report(start)

    def _chunk(self, number: int) -> memoryview:
        """Chunk `number`; with `sha256` those before it are read first, unless they have been."""
        if number != self._number:
            for each in range(min(self._hashed, number) if self._whole else number, number + 1):
                self._read(each)
        return self._view

    def _read(self, number: int) -> None:
        self._number = -1
        self._require_volume(number)
        self._view = next(self._bundle.chunks(self._blob.digest, number, self._buffer))
        if self._whole and number == self._hashed:
            self._whole.update(self._view)
            if number + 1 == chunk_count(self._blob.size) and self._whole.hexdigest() != self._blob.digest.hex:
                raise BundleError(f"blob {self._blob.digest}: its content has another SHA-256")
            self._hashed += 1
        self._number = number

    def _require_volume(self, number: int) -> None:
        """Have the volume of chunk `number` at hand."""
        if self._across and (absent := self._bundle.absent(self._blob.digest)):
            blob = self._bundle.blob(self._blob.digest)
            volume = blob.pieces[blob.locate(number * CHUNK)[0]][0]
            if volume in absent:
                self._bundle.require((volume,), f"a layer of {size(blob.size)} goes on there")


def body_from_registry(registry: Registry, holder: Repository, blob: Descriptor, start: int) -> Iterator[memoryview]:
    """The content of `blob` from byte `start` on out of the repository `holder`, for a registry that does not mount it.

    The last chunk is held back until the SHA-256 of all is known to be right. Raises ContentError if it is not, and
    the errors of `Registry.open`.
    """
    whole, done = hashlib.sha256(), 0
    buffer = memoryview(bytearray(min(CHUNK, blob.size)))
    with registry.open(holder, blob) as stream:
        while done < blob.size and (count := stream.readinto(buffer[: min(CHUNK, blob.size - done)])):
            whole.update(buffer[:count])
            done += count
            if done == blob.size and whole.hexdigest() != blob.digest.hex:
                break
            if done > start:
                yield buffer[max(count - (done - start), 0) : count]
    if done < blob.size or whole.hexdigest() != blob.digest.hex:
        raise ContentError(
            f"{holder}@{blob.digest}: the registry delivers other content",
            hint="its copy is damaged: have this blob deleted there, then run the same command again.",
        )
