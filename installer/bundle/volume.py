"""The layout of volumes, computed before a byte is fetched, and the files that hold them."""

import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from installer.bundle import canonical
from installer.bundle.limits import BUNDLE_JSON, INDEX_JSON, MANIFEST_JSON, OCI_LAYOUT, SLOTS, SUMS
from installer.bundle.manifest import HASH, BundleBlob, BundleImage, BundleManifest, BundleVolume, chunk_count
from installer.bundle.tar import BLOCK, TRAILER, padded
from installer.errors import BundleError, IncompleteError, UsageError
from installer.files import storage_error
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor
from installer.value import Value

_STEM = 40
OCI_LAYOUT_TEXT = b'{"imageLayoutVersion":"1.0.0"}'


Shares = Mapping[Digest, Sequence[tuple[int, int]]]
"""For each blob the volumes that take it, by number, and how many bytes each takes; nothing for what is not carried."""


def place(blobs: Iterable[Descriptor], shares: Shares) -> tuple[tuple[BundleBlob, ...], tuple[BundleVolume, ...]]:
    """Blobs in the given order at their places, with chunk hashes still zero, and the volumes that result."""
    fills: dict[int, int] = {}
    placed = []
    for blob in blobs:
        pieces = []
        for volume, length in shares.get(blob.digest, ()):
            offset = fills.get(volume, 0) + BLOCK
            pieces.append((volume, offset, length))
            fills[volume] = offset + padded(length)
        placed.append(
            BundleBlob(blob.digest, blob.media_type, blob.size, tuple(pieces), _zero(blob.size) if pieces else b"")
        )
    return tuple(placed), tuple(BundleVolume(fills[volume]) for volume in range(len(fills)))


def _zero(size: int) -> bytes:
    return bytes(HASH * chunk_count(size))


def index_json(manifest: BundleManifest) -> bytes:
    """`index.json` of the OCI layout: every image that is whole in the bundle, under its name.

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
        for image in manifest.whole_images
    ]
    return canonical.encode({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries})


def docker_index(contents: Iterable[tuple[BundleImage, tuple[Digest, ...]]]) -> bytes:
    """`manifest.json` for `docker load`: each image with the digests of its configuration and layers, in this order.

    Source: Docker image specification v1.2, "Combined Image JSON + Filesystem Changeset Format".
    """
    names: dict[tuple[Digest, ...], list[str]] = {}
    for image, content in contents:
        tags = names.setdefault(content, [])
        if image.tag:
            tags.append(f"{image.reference.repository}:{image.tag}")
    return canonical.encode(
        [
            {"Config": _path(config), "Layers": [_path(layer) for layer in layers], "RepoTags": sorted(tags)}
            for (config, *layers), tags in sorted(names.items(), key=lambda entry: (sorted(entry[1]), entry[0]))
        ]
    )


def _path(digest: Digest) -> str:
    return f"blobs/sha256/{digest.hex}"


class Metadata(Value):
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


def volumes_of_images(manifest: BundleManifest) -> dict[BundleImage, set[int]]:
    """For each image the numbers of the volumes that hold a part of it."""
    lies = [{volume for volume, _, _ in blob.pieces} for blob in manifest.blobs]
    return {image: set().union(*(lies[number] for number in image.parts)) for image in manifest.images}


def file_stem(manifest: BundleManifest) -> str:
    """The beginning of the names of a bundle's files: `platform-1-0`.

    At most 40 letters, digits and hyphens: whatever file system or guard is on the way takes it. What is longer is
    cut, and says what it stands for by the beginning of the manifest's `content`.
    """
    stem = _plain(_title(manifest))
    if len(stem) <= _STEM:
        return stem
    end = f"-{_plain(manifest.version)[:16].strip('-')}-{manifest.content[:8]}"
    return _plain(manifest.name)[: _STEM - len(end)].strip("-") + end


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")


def file_names(manifest: BundleManifest) -> list[str]:
    """The default names of the volume files of a bundle: `platform-1-0-2of5.tar`.

    One alone is called `platform-1.0.tar`.
    """
    count = len(manifest.volumes)
    if count == 1:
        return [f"{_title(manifest)}.tar"]
    width, stem = len(str(count)), file_stem(manifest)
    return [f"{stem}-{number:0{width}d}of{count}.tar" for number in range(1, count + 1)]


def _title(manifest: BundleManifest) -> str:
    return f"{manifest.name}-{manifest.version}{'-update' if manifest.bases else ''}"


class VolumeFile:
    """A volume, or a file that claims to be one: `size` bytes of the file at `path` from `base` on. Read only.

    Raises UsageError when opened on something that is no regular file, StorageError.
    """

    def __init__(self, path: Path, base: int = 0, size: int | None = None) -> None:
        self.path, self.base = path, base
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            status = os.fstat(self._fd)
        except OSError as exc:
            raise storage_error(exc, path, "open") from exc
        self._identity = status.st_dev, status.st_ino
        self.size = status.st_size - base if size is None else size
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise UsageError(f"{path}: not a regular file", hint="give the bundle file itself.")

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from `offset` of the volume.

        Raises BundleError where the volume ends early, IncompleteError if its medium was taken out, StorageError.
        """
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
                if self._is_gone():
                    hint = "put its medium back, and run the same command again."
                    raise IncompleteError(f"{self.path}: was taken away while it was read", hint=hint) from exc
                raise storage_error(exc, self.path, f"read at byte {self.base + offset + done}") from exc
            if not count:
                raise BundleError(
                    f"{self.path}: has become shorter than byte {self.base + offset + done}",
                    hint="the file is cut short: copy it again.",
                )
            done += count

    def _is_gone(self) -> bool:
        """Whether the file is no longer where it was opened."""
        try:
            status = self.path.stat()
        except OSError:
            return True
        return (status.st_dev, status.st_ino) != self._identity

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` of the volume; the caller has bounded `size`."""
        try:
            # Most often all of it comes at once, without a copy.
            content = os.pread(self._fd, size, self.base + offset) if offset + size <= self.size else b""
        except OSError:
            content = b""
        if len(content) == size:
            return content
        buffer = bytearray(size)
        self.read_into(memoryview(buffer), offset)
        return bytes(buffer)

    def close(self) -> None:
        """Close the file; closing again does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
