"""The front of a volume: signed text, signatures and metadata, read in the order of FORMAT.md, section "Reading"."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from installer.bundle import sums
from installer.bundle.limits import (
    BUNDLE_JSON,
    FILLED,
    INDEX_JSON,
    MANIFEST_JSON,
    MAX_BUNDLE_JSON,
    MAX_INDEX_JSON,
    MAX_SUMS,
    OCI_LAYOUT,
    SLOTS,
    SUMS,
)
from installer.bundle.manifest import BundleManifest
from installer.bundle.tar import BLOCK, TRAILER, header, member_size, padded
from installer.bundle.volume import OCI_LAYOUT_TEXT, Metadata, VolumeFile, index_json, members, volume_sizes
from installer.errors import BundleError, IncompleteError
from installer.oci.digest import Digest

_LIMITS = {BUNDLE_JSON: MAX_BUNDLE_JSON, OCI_LAYOUT: BLOCK, INDEX_JSON: MAX_INDEX_JSON, MANIFEST_JSON: MAX_INDEX_JSON}


@dataclass(frozen=True, slots=True)
class Envelope:
    """The signed text of a volume and the contents of its signature slots, nothing of it parsed."""

    sums: bytes
    slots: dict[str, bytes]


class _Members:
    """Reads members one after the other: canonical headers, bounded sizes, zero padding."""

    def __init__(self, file: VolumeFile, offset: int = 0) -> None:
        self._file, self._offset = file, offset

    def next(self, name: str, limit: int) -> bytes:
        block = self._file.read(self._offset, BLOCK)
        if not any(block) and name == SUMS:
            raise IncompleteError(f"{self._file.path}: its build was not finished", hint="run `airferry build` again.")
        size = member_size(block, name, limit)
        area = padded(size)
        if area != SLOTS.get(name, area):
            raise BundleError(f"{self._file.path}: {name} has {size} bytes, which its place does not allow")
        content = self._file.read(self._offset + BLOCK, area)
        if any(content[size:]):
            raise BundleError(f"{self._file.path}: padding after {name} is not zero")
        self._offset += BLOCK + area
        return content[:size]


def read_envelope(file: VolumeFile) -> Envelope:
    """Step 1: `SHA256SUMS` and the signatures, read once, not parsed. Raises BundleError, IncompleteError."""
    reader = _Members(file)
    signed = reader.next(SUMS, MAX_SUMS)
    slots = {name: reader.next(name, area) for name, area in SLOTS.items()}
    for name in FILLED:
        text = slots[name].rstrip(b"\n") + b"\n"
        if text.ljust(SLOTS[name], b"\n") != slots[name]:
            raise BundleError(f"{file.path}: {name} does not fill its place")
        slots[name] = text
    return Envelope(signed, slots)


def envelope_of(volume: Path) -> Envelope:
    """The same of the file at `volume`. Raises StorageError too."""
    file = VolumeFile(volume)
    try:
        return read_envelope(file)
    finally:
        file.close()


def read_metadata(files: Sequence[VolumeFile], signed: bytes) -> tuple[BundleManifest, Metadata]:
    """Steps 3 and 4: the metadata members of all volumes, compared with the authenticated `signed` sums.

    Raises BundleError.
    """
    named = sums.decode(signed)
    contents: dict[str, bytes] = {}
    for file in files:
        contents = _contents(file, named, len(signed))
    manifest = BundleManifest.decode(contents[BUNDLE_JSON])
    if contents[OCI_LAYOUT] != OCI_LAYOUT_TEXT or contents[INDEX_JSON] != index_json(manifest):
        raise BundleError("index.json does not follow from bundle.json")
    if named.keys() != {*sums.FILES, *members(manifest)}:
        raise BundleError("SHA256SUMS and bundle.json name different files")
    for blob in manifest.blobs:
        if len(blob.pieces) == 1 and named[blob.member(0)] != blob.digest:
            raise BundleError(f"SHA256SUMS contradicts the name of blob {blob.digest}")
    return manifest, Metadata(len(signed), *(len(contents[name]) for name in (BUNDLE_JSON, INDEX_JSON, MANIFEST_JSON)))


def check_metadata(file: VolumeFile, signed: bytes) -> None:
    """Step 3 for one more volume of a bundle that is known already. Raises BundleError."""
    _contents(file, sums.decode(signed), len(signed))


def _contents(file: VolumeFile, named: Mapping[str, Digest], length: int) -> dict[str, bytes]:
    """The metadata members behind `length` bytes of sums, compared with the digests that those name."""
    contents = {}
    reader = _Members(file, Metadata(length, 0, 0, 0).places()[BUNDLE_JSON] - BLOCK)
    for name, limit in _LIMITS.items():
        contents[name] = reader.next(name, limit)
        if Digest.of(contents[name]) != named[name]:
            raise BundleError(f"{file.path}: {name} is damaged", hint="copy this file again from its source.")
    return contents


def match_volumes(files: Sequence[VolumeFile], manifest: BundleManifest, metadata: Metadata) -> dict[int, VolumeFile]:
    """Step 5: which volume each file is, told by the first member of its payload, and that it has its exact size.

    Raises BundleError.
    """
    firsts: dict[bytes, int] = {}
    for blob in reversed(manifest.blobs):
        for piece, (volume, offset, length) in enumerate(blob.pieces):
            if offset == BLOCK:
                firsts[header(blob.member(piece), length)] = volume
    sizes = volume_sizes(manifest, metadata)
    found: dict[int, VolumeFile] = {}
    for file in files:
        number = firsts.get(file.read(metadata.length, BLOCK))
        if number is None:
            raise BundleError(f"{file.path}: its payload begins with nothing that is named", hint="copy it again.")
        if number in found:
            raise BundleError(f"{file.path}: the same volume as {found[number].path}", hint="give each volume once.")
        if file.size != sizes[number] or file.read(file.size - len(TRAILER), len(TRAILER)) != TRAILER:
            raise BundleError(
                f"{file.path}: {file.size} bytes, but this volume has {sizes[number]} and ends with zeros",
                hint="the file was cut short or extended: copy it again.",
            )
        found[number] = file
    return found
