"""Bundles of any declared size that take little room: everything in front of the payload is real, the payload is holes.

Signatures, checksums and metadata are those of a bundle that was built; whoever reads a blob finds zeros instead.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from blake3 import blake3

from builder.assemble.contents import Contents, contents
from builder.assemble.volume_size import VolumeSize
from builder.recipe import lock as locked
from builder.recipe.findings import Reason
from builder.recipe.lock import Lock, LockedBlob, LockedImage, LockedManifest, Origin
from installer.bundle.envelope import member, unsigned_front
from installer.bundle.limits import CHUNK, SUMS
from installer.bundle.manifest import NEVER, BundleBlob
from installer.bundle.tar import BLOCK, header
from installer.bundle.volume import metadata_of
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Platform
from installer.value import replace

if TYPE_CHECKING:
    from pathlib import Path

BLOBS = 20
"""Blobs for each image: manifest, configuration, 17 layers of its own, and one for each of the ten shared by ten."""
_OWN, _SHARED = 17, 10


def lock(images: int, size: int) -> Lock:
    """A lock of `images` images with 20 blobs each, counted once, `size` bytes in all."""
    source = random.Random(images)
    platform = Platform("linux", "amd64")
    blobs: dict[Digest, LockedBlob] = {}
    manifests: list[LockedManifest] = []
    found: list[LockedImage] = []
    mean = size // (images * (_OWN + 1))

    def blob(name: str, media_type: str, length: int) -> Digest:
        digest = Digest.of(name.encode())
        blobs[digest] = LockedBlob(digest, media_type, length)
        return digest

    for number in range(images):
        name = f"registry.example/team-{number % 37}/app-{number:05d}"
        layers = [blob(f"base {number // 10} {n}", media_types.OCI_LAYER, mean) for n in range(_SHARED)]
        layers += [
            blob(f"{name} {n}", media_types.OCI_LAYER, int(mean * source.uniform(0.1, 1.9))) for n in range(_OWN)
        ]
        config = blob(f"{name} config", media_types.OCI_CONFIG, source.randrange(2_000, 12_000))
        digest = blob(f"{name} manifest", media_types.OCI_MANIFEST, source.randrange(3_000, 6_000))
        manifests.append(LockedManifest(digest, (config, *layers)))
        found.append(
            LockedImage(
                source=f"{name}:1.{number}.0",
                digest=digest,
                media_type=media_types.OCI_MANIFEST,
                size=blobs[digest].size,
                upstream=digest,
                single=digest,
                platforms=(platform,),
                origin=Origin("registry", name, f"1.{number}.0"),
                reasons=(Reason("", "", "", "", "", f"images[{number}]", ""),),
            )
        )
    return Lock(
        format=locked.FORMAT,
        name="synthetic",
        version="1.0",
        sequence=1,
        created="2026-01-01T00:00:00Z",
        expires=NEVER,
        site="",
        platforms=(platform,),
        images=tuple(sorted(found, key=lambda image: image.source)),
        charts=(),
        documents=(),
        excluded=(),
        suspected=(),
        optional=(),
        failures=(),
        registries=(),
        manifests=tuple(sorted(manifests, key=lambda manifest: manifest.digest)),
        blobs=tuple(sorted(blobs.values(), key=lambda blob: blob.digest)),
    )


def write(planned: Contents, folder: Path) -> Digest:
    """Write the volumes of `planned` into `folder`, holes for payload; the digest of their SHA256SUMS."""
    manifest = replace(planned.skeleton, blobs=tuple(map(_of_zeros, planned.skeleton.blobs)))
    slices = {blob.digest: [blob.digest] * len(blob.pieces) for blob in manifest.blobs}
    signed, rest = unsigned_front(manifest, planned.manifest_json, slices)
    front = member(SUMS, signed) + rest
    assert len(front) == metadata_of(planned.skeleton, planned.manifest_json).length
    firsts = {
        volume: header(blob.member(piece), length)
        for blob in manifest.blobs
        for piece, (volume, offset, length) in enumerate(blob.pieces)
        if offset == BLOCK
    }
    for number, (name, size) in enumerate(zip(planned.file_names, planned.volume_sizes, strict=True)):
        with (folder / name).open("wb") as file:
            file.write(front + firsts[number])
            file.truncate(size)
    return Digest.of(signed)


_ZEROS = blake3(bytes(CHUNK)).digest()


def _of_zeros(blob: BundleBlob) -> BundleBlob:
    """`blob` with the chunk hashes of zeros."""
    rest = blob.size % CHUNK
    hashes = _ZEROS * (blob.size // CHUNK) + (blake3(bytes(rest)).digest() if rest else b"")
    return replace(blob, chunks=hashes)


def planned(lock: Lock, volumes: int) -> Contents:
    """The bundle of `lock` in about `volumes` volumes."""
    total = sum(blob.size for blob in lock.blobs)
    return contents(lock, VolumeSize(bytes=total // volumes * 41 // 40) if volumes > 1 else None)
