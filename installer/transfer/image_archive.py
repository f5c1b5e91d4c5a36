"""Images of a bundle as one OCI layout in a tar, made while it is read: what `ctr`, k3s and RKE2 import.

A volume is such a tar by itself, but only one that holds everything, and under upstream names only. Here all volumes
go into one stream, each blob once. `index.json` comes last: before it containerd knows no names (containerd,
`core/images/archive/importer.go`), so a stream that ends early leaves nothing behind that could pass for an image.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from installer.bundle import canonical
from installer.bundle.limits import CHUNK, INDEX_JSON, OCI_LAYOUT
from installer.bundle.manifest import BundleBlob, BundleImage, chunk_count
from installer.bundle.reader import Bundle
from installer.bundle.tar import BLOCK, TRAILER, header, padded
from installer.bundle.volume import OCI_LAYOUT_TEXT
from installer.chart.relocation import Relocation
from installer.errors import BundleError, LackingError
from installer.files import new_file, storage_error
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.reference import DigestRef, TagRef
from installer.report import Reporter, count, size
from installer.value import Value

Names = Mapping[BundleImage, tuple[str, ...]]
"""For each image all names that pods may ask for it by."""


NO_IMAGE = "an artifact, which no node can unpack; it is for registries, `load` and `serve` bring it there"
"""Why an artifact is left out, for people."""


def names_on_node(images: Iterable[BundleImage], relocation: Relocation) -> Names:
    """By tag, where there is one, and by digest: a node, unlike a registry, does not find the one by the other.

    An image that is known by tag and digest is asked for by digest alone: container runtimes drop the tag then.
    """
    found = {}
    for image in images:
        target = relocation.target(image.reference)
        digest = DigestRef(target.repository, image.digest)
        found[image] = (str(target), str(digest)) if isinstance(target, TagRef) else (str(digest),)
    return found


def described(names: Names, *, present: bool) -> list[dict[str, Any]]:
    """Images and their names, as plain values; `present` says that they were there before."""
    return [
        {"source": image.source, "names": list(some), "digest": image.digest.text, "present": present}
        for image, some in names.items()
    ]


def artifacts_among(bundle: Bundle, images: Iterable[BundleImage]) -> tuple[BundleImage, ...]:
    """Those that are no container images, such as charts, SBOMs and signatures: no node can unpack them.

    Told by the types in bundle.json, since the volume with the manifests may not be at hand. What referrers add to them
    may let an artifact pass for an image; containerd refuses it then.
    """
    return tuple(image for image in images if _is_artifact(image, _types(bundle, image)))


def _is_artifact(image: BundleImage, types: frozenset[str]) -> bool:
    if types.isdisjoint(media_types.IMAGE_CONFIGS):
        return True
    others = types - media_types.IMAGE_CONFIGS
    about = image.referrers or image.tagged
    return bool(others) and not about and not any(kind.startswith(media_types.LAYERS) for kind in others)


def has_layers(bundle: Bundle, image: BundleImage) -> bool:
    """Whether `image` has anything to unpack."""
    return any(kind.startswith(media_types.LAYERS) for kind in _types(bundle, image))


def _types(bundle: Bundle, image: BundleImage) -> frozenset[str]:
    return frozenset(blob.media_type for blob in bundle.manifest.parts(image) if not blob.is_manifest)


class ImageArchive(Value):
    """The archive of the images in `names`; blobs `without` are left out, since the reader has them."""

    bundle: Bundle
    names: Names
    without: frozenset[Digest] = frozenset()

    @property
    def size(self) -> int:
        """Bytes of the whole."""
        sizes = [len(OCI_LAYOUT_TEXT), *(blob.size for blob in self._blobs()), len(self.index())]
        return sum(BLOCK + padded(count) for count in sizes) + len(TRAILER)

    @property
    def lacking(self) -> dict[Digest, BundleBlob]:
        """The blobs, by digest, that it lacks: an update leaves them out and no patch brings them."""
        blobs = {blob.digest: blob for image in self.names for blob in self.bundle.lacking(image)}
        return {digest: blob for digest, blob in blobs.items() if digest not in self.without}

    def parts(self) -> Iterator[bytes | memoryview]:
        """The bytes of the archive in order, blobs verified; a view is valid until the next is asked for.

        Volumes that are not at hand are asked for. Raises BundleError, IncompleteError, StorageError.
        """
        yield from _member(OCI_LAYOUT, OCI_LAYOUT_TEXT)
        for blob in self._blobs():
            yield header(f"blobs/sha256/{blob.digest.hex}", blob.size)
            yield from self._content(blob)
            yield bytes(padded(blob.size) - blob.size)
        yield from _member(INDEX_JSON, self.index())
        yield TRAILER

    def _blobs(self) -> list[BundleBlob]:
        """In the order of the volumes, so that each is needed once."""
        numbers = {number for image in self.names for number in image.parts}
        blobs = [self.bundle.manifest.blobs[number] for number in sorted(numbers)]
        return sorted((blob for blob in blobs if blob.digest not in self.without), key=lambda blob: blob.pieces[:1])

    def _content(self, blob: BundleBlob) -> Iterator[memoryview]:
        if not blob.carried:
            yield from self.bundle.chunks(blob.digest)
        position = 0
        for volume, _, length in blob.pieces:
            if volume in self.bundle.absent(blob.digest):
                self.bundle.require((volume,), "it holds a part of these images")
            yield from islice(self.bundle.chunks(blob.digest, position // CHUNK), chunk_count(length))
            position += length

    def index(self) -> bytes:
        """Its `index.json`: names and digests. Two images may share a name, by digest; it stands there once."""
        named = {name: image for image, names in self.names.items() for name in names}
        entries = [
            {
                "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name},
                "digest": image.digest,
                "mediaType": image.media_type,
                "size": image.size,
            }
            for name, image in named.items()
        ]
        return canonical.encode({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries})


def _member(name: str, data: bytes) -> Iterator[bytes]:
    yield header(name, len(data)) + data + bytes(padded(len(data)) - len(data))


def put_into_folder(archive: ImageArchive, folder: Path, reporter: Reporter) -> tuple[Path, bool]:
    """Write `archive` as a file that k3s and RKE2 import from `folder`; its path, and whether it had to be written.

    They pass over the name that it has while it grows, and do not always notice that a file they know has changed (k3s,
    `pkg/agent/containerd/watcher.go`): so its name says what it holds. A file that is the same already is left alone.
    Raises BundleError, IncompleteError, StorageError, and LackingError, before anything is written, for an update that
    does not carry everything.
    """
    if archive.lacking:
        raise _lacking(archive)
    manifest, mark = archive.bundle.manifest, Digest.of(archive.index()).hex[:8]
    path = folder / f"{manifest.name}-{manifest.version}-{mark}.tar"
    if _holds(path, archive, reporter):
        return path, False
    reporter.begin("write", archive.size)
    with new_file(path) as file:
        os.posix_fallocate(file.fileno(), 0, archive.size)
        for part in archive.parts():
            file.write(part)
            reporter.advance(len(part))
        if file.tell() != archive.size:
            raise BundleError(f"{path}: {file.tell()} bytes instead of {archive.size}")
    reporter.end()
    return path, True


def _lacking(archive: ImageArchive) -> LackingError:
    blobs, bases = archive.lacking.values(), ", ".join(map(str, archive.bundle.manifest.bases))
    total = size(sum(blob.size for blob in blobs))
    return LackingError(
        f"this update of {bases} leaves out {count(len(blobs), 'blob')} ({total}); an image folder needs everything in "
        "one file",
        hint="bring a whole bundle; or ask for just these: `import --request FILE`; or import with --containerd.",
        digests=tuple(blob.digest.text for blob in blobs),
    )


def _holds(path: Path, archive: ImageArchive, reporter: Reporter) -> bool:
    """Whether the file holds the archive, byte for byte."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != archive.size:
                return False
            reporter.begin("compare", archive.size)
            for part in archive.parts():
                if file.read(len(part)) != part:
                    return False
                reporter.advance(len(part))
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise storage_error(exc, path, "read") from exc
    reporter.end()
    return True
