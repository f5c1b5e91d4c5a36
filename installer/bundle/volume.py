"""Where everything lies: the layout of volumes, computed before a byte is fetched, and the files that hold them."""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from installer.bundle import canonical
from installer.bundle.limits import BUNDLE_JSON, CHUNK, INDEX_JSON, MANIFEST_JSON, OCI_LAYOUT, SLOTS, SUMS
from installer.bundle.manifest import HASH, BundleBlob, BundleManifest, BundleVolume, chunk_count
from installer.bundle.tar import BLOCK, TRAILER, padded
from installer.errors import BundleError, StorageError
from installer.files import storage_error
from installer.oci import media
from installer.oci.model import Descriptor

OCI_LAYOUT_TEXT = b'{"imageLayoutVersion":"1.0.0"}'


def place(
    blobs: Iterable[Descriptor], volume_size: int | None = None, metadata: int = 0
) -> tuple[tuple[BundleBlob, ...], tuple[BundleVolume, ...]]:
    """Blobs in the given order at their places, with chunk hashes still zero, and the volumes that result.

    With `volume_size`, a volume of that many bytes in all (`metadata` of them before the payload) is never exceeded:
    whole blobs go to the next volume, and only a blob larger than a volume is cut, at a multiple of CHUNK.
    """
    room = None if volume_size is None else volume_size - metadata - len(TRAILER)
    if room is not None and room < BLOCK + CHUNK:
        raise BundleError(f"volumes of {volume_size} bytes are too small for this bundle")
    fills = [0]
    placed = []
    for blob in blobs:
        pieces: list[tuple[int, int, int]] = []
        left = blob.size
        if room is not None and fills[-1] and fills[-1] + BLOCK + padded(left) > room:
            fills.append(0)
        while room is not None and BLOCK + padded(left) > room:
            length = (room - BLOCK) // CHUNK * CHUNK
            pieces.append((len(fills) - 1, BLOCK, length))
            fills[-1] += BLOCK + length
            fills.append(0)
            left -= length
        pieces.append((len(fills) - 1, fills[-1] + BLOCK, left))
        fills[-1] += BLOCK + padded(left)
        placed.append(BundleBlob(blob.digest, blob.media_type, blob.size, tuple(pieces), _zero(blob.size)))
    return tuple(placed), tuple(BundleVolume(fill) for fill in fills)


def _zero(size: int) -> bytes:
    return bytes(HASH * chunk_count(size))


def index_json(manifest: BundleManifest) -> bytes:
    """`index.json` of the OCI layout: every image under its name.

    Charts are left out: `ctr images import` stops at an entry that is no container image.
    """
    entries = [
        {
            "annotations": {
                "io.containerd.image.name": image.source,
                "org.opencontainers.image.ref.name": image.source,
            },
            "digest": image.digest,
            "mediaType": image.media_type,
            "size": image.size,
        }
        for image in manifest.images
    ]
    return canonical.encode({"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": entries})


@dataclass(frozen=True, slots=True)
class Metadata:
    """The sizes of the members in front of every payload."""

    sums: int
    bundle_json: int
    index_json: int
    manifest_json: int

    def places(self) -> dict[str, int]:
        """The offset of each member's content from the start of the volume."""
        sizes = {
            SUMS: self.sums,
            **SLOTS,
            BUNDLE_JSON: self.bundle_json,
            OCI_LAYOUT: len(OCI_LAYOUT_TEXT),
            INDEX_JSON: self.index_json,
            MANIFEST_JSON: self.manifest_json,
        }
        found, offset = {}, 0
        for name, size in sizes.items():
            found[name] = offset + BLOCK
            offset += BLOCK + padded(size)
        found[""] = offset
        return found

    @property
    def length(self) -> int:
        """The bytes before the payload."""
        return self.places()[""]


def sums_size(manifest: BundleManifest) -> int:
    """The size of `SHA256SUMS`, which follows from the names."""
    names = [BUNDLE_JSON, OCI_LAYOUT, INDEX_JSON, MANIFEST_JSON, *members(manifest)]
    return sum(64 + 2 + len(name) + 1 for name in names)


def members(manifest: BundleManifest) -> list[str]:
    """The names of all payload members of all volumes."""
    return [blob.member(number) for blob in manifest.blobs for number in range(len(blob.pieces))]


def metadata_of(manifest: BundleManifest, manifest_json: bytes) -> Metadata:
    """The sizes of the metadata, exact although chunk hashes may still be zero."""
    return Metadata(sums_size(manifest), len(manifest.encode()), len(index_json(manifest)), len(manifest_json))


def volume_sizes(manifest: BundleManifest, metadata: Metadata) -> list[int]:
    """The exact size of each volume file in bytes."""
    return [metadata.length + volume.payload + len(TRAILER) for volume in manifest.volumes]


class VolumeFile:
    """A volume, or what claims to be one: `size` bytes of the file at `path` from `base` on. Only ever read.

    Raises StorageError (NotFoundError) when opened on something that is no regular file.
    """

    def __init__(self, path: Path, base: int = 0, size: int | None = None) -> None:
        self.path, self.base = path, base
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            status = os.fstat(self._fd)
        except OSError as exc:
            raise storage_error(exc, path, "open") from exc
        self.size = status.st_size - base if size is None else size
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise StorageError(f"{path}: not a regular file", hint="give the bundle file itself.")

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from `offset` of the volume. Raises BundleError where the volume ends early, StorageError."""
        if offset + len(view) > self.size:
            raise BundleError(
                f"{self.path}: ends at byte {self.size}, but {offset + len(view)} are needed",
                hint="the file is cut short: copy it again.",
            )
        done = 0
        while done < len(view):
            try:
                count = os.preadv(self._fd, [view[done:]], self.base + offset + done)
            except OSError as exc:
                raise storage_error(exc, self.path, f"read at byte {self.base + offset + done}") from exc
            if not count:
                raise BundleError(
                    f"{self.path}: has become shorter than byte {self.base + offset + done}",
                    hint="the file is cut short: copy it again.",
                )
            done += count

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` of the volume; the caller has bounded `size`."""
        buffer = bytearray(size)
        self.read_into(memoryview(buffer), offset)
        return bytes(buffer)

    def close(self) -> None:
        """Close the file; closing again does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def order(blobs: Iterable[Descriptor]) -> list[Descriptor]:
    """`blobs` in payload order: small ones first, so that manifests and charts stand at the front."""
    return sorted(blobs, key=lambda blob: (blob.size, blob.digest))
