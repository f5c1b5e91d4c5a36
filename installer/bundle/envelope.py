"""The metadata in front of every volume: signed text, signatures, indexes; in the order of FORMAT.md, "Reading"."""

from collections.abc import Mapping, Sequence
from functools import cached_property
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
    UNSIGNED,
)
from installer.bundle.manifest import BundleManifest
from installer.bundle.tar import BLOCK, TRAILER, header, member_size, padded
from installer.bundle.volume import OCI_LAYOUT_TEXT, Metadata, VolumeFile, index_json
from installer.errors import BundleError, IncompleteError
from installer.oci.digest import Digest
from installer.value import Value

_LIMITS = {BUNDLE_JSON: MAX_BUNDLE_JSON, OCI_LAYOUT: BLOCK, INDEX_JSON: MAX_INDEX_JSON, MANIFEST_JSON: MAX_INDEX_JSON}


class Envelope(Value, dict=True):
    """The signed text of a volume and the contents of its signature slots, nothing of it parsed."""

    sums: bytes
    slots: dict[str, bytes]

    @property
    def signed(self) -> bool:
        """Whether there is any signature, right or wrong."""
        return any(text != UNSIGNED for text in self.slots.values())

    @cached_property
    def raw(self) -> bytes:
        """The bytes that a volume with this envelope begins with."""
        members = {SUMS: self.sums} | {name: text.ljust(_filled(name), b"\n") for name, text in self.slots.items()}
        return b"".join(
            header(name, len(content)) + content.ljust(padded(len(content)), b"\0") for name, content in members.items()
        )


def _filled(name: str) -> int:
    return SLOTS[name] if name in FILLED else 0


class _Members:
    """Reads members one after the other: canonical headers, bounded sizes, zero padding."""

    def __init__(self, file: VolumeFile, offset: int = 0) -> None:
        self._file, self._offset = file, offset

    def next(self, name: str, limit: int) -> bytes:
        block = self._file.read(self._offset, BLOCK)
        if not any(block) and name == SUMS:
            raise IncompleteError(f"{self._file.path}: its build was not finished", hint="run `airferry build` again.")
        try:
            size = member_size(block, name, limit)
        except BundleError as exc:
            raise BundleError(f"{self._file.path}: {exc.message}", hint=exc.hint) from exc
        area = padded(size)
        if area != SLOTS.get(name, area):
            raise BundleError(f"{self._file.path}: {name} has {size} bytes, which its place does not allow")
        content = self._file.read(self._offset + BLOCK, size)
        if any(self._file.read(self._offset + BLOCK + size, area - size)):
            raise BundleError(f"{self._file.path}: padding after {name} is not zero")
        self._offset += BLOCK + area
        return content


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


def read_metadata(file: VolumeFile, signed: bytes) -> tuple[BundleManifest, Metadata]:
    """Steps 3 and 4: the metadata members of a volume, compared with the authenticated `signed` sums.

    Raises BundleError.
    """
    contents = check_metadata(file, signed)
    manifest = BundleManifest.decode(contents[BUNDLE_JSON])
    if contents[OCI_LAYOUT] != OCI_LAYOUT_TEXT or contents[INDEX_JSON] != index_json(manifest):
        raise BundleError("index.json does not follow from bundle.json")
    _check_names(signed, manifest)
    return manifest, Metadata(len(signed), *(len(contents[name]) for name in (BUNDLE_JSON, INDEX_JSON, MANIFEST_JSON)))


def _check_names(signed: bytes, manifest: BundleManifest) -> None:
    """Check that the sums name the parts of the bundle, uncut blobs with their own digests, and nothing else.

    Compared as one text, which is a third of the time of parsing it.
    """
    digests = {name: sums.digest_of(signed, name) for name in sums.FILES}
    for blob in manifest.blobs:
        if len(blob.pieces) == 1:
            digests[blob.member(0)] = blob.digest
        else:
            names = [blob.member(number) for number in range(len(blob.pieces))]
            digests |= {name: sums.digest_of(signed, name) for name in names}
    if sums.encode(digests) == signed:
        return
    if sums.decode(signed).keys() != digests.keys():
        raise BundleError("SHA256SUMS and bundle.json name different files")
    raise BundleError("SHA256SUMS contradicts the name of a blob")


def check_metadata(file: VolumeFile, signed: bytes) -> dict[str, bytes]:
    """Step 3: the metadata members of a volume, compared with the digests in `signed`. Raises BundleError."""
    contents = {}
    reader = _Members(file, Metadata(len(signed), 0, 0, 0).places()[BUNDLE_JSON] - BLOCK)
    for name, limit in _LIMITS.items():
        contents[name] = reader.next(name, limit)
        if Digest.of(contents[name]) != sums.digest_of(signed, name):
            raise BundleError(f"{file.path}: {name} is damaged", hint="copy this file again from its source.")
    return contents


def starts(manifest: BundleManifest) -> dict[bytes, int]:
    """The first header in the payload of each volume, by which volumes are told apart."""
    return {
        header(blob.member(piece), length): volume
        for blob in manifest.blobs
        for piece, (volume, offset, length) in enumerate(blob.pieces)
        if offset == BLOCK
    }


def match_volume(file: VolumeFile, known: Mapping[bytes, int], metadata: int, sizes: Sequence[int]) -> int:
    """Step 5: which volume a file is, told by the first member of its payload, and that it has its exact size.

    `known` are the `starts`, `metadata` the bytes before the payload, `sizes` those of all volumes. Raises BundleError.
    """
    number = known.get(file.read(metadata, BLOCK))
    if number is None:
        raise BundleError(f"{file.path}: its payload begins with nothing that is named", hint="copy it again.")
    if file.size != sizes[number] or file.read(file.size - len(TRAILER), len(TRAILER)) != TRAILER:
        raise BundleError(
            f"{file.path}: {file.size} bytes, but this volume has {sizes[number]} and ends with zeros",
            hint="cut short or extended: copy it again, or leave it out and ask for it (`verify --request FILE`).",
        )
    return number


def member(name: str, content: bytes) -> bytes:
    """A whole member as it stands in the volume. Raises ValueError if its slot cannot hold it."""
    if name in FILLED:
        content = content.ljust(SLOTS[name], b"\n")
    if padded(len(content)) != SLOTS.get(name, padded(len(content))):
        raise ValueError(f"{name}: {len(content)} bytes do not fit the slot")
    return header(name, len(content)) + content.ljust(padded(len(content)), b"\0")


def unsigned_front(
    manifest: BundleManifest, manifest_json: bytes, slices: Mapping[Digest, Sequence[Digest]]
) -> tuple[bytes, bytes]:
    """SHA256SUMS, and the members that stand between it and the payload, with empty slots.

    `slices` are the digests of the pieces of each blob that is cut.
    """
    contents = {
        BUNDLE_JSON: manifest.encode(),
        OCI_LAYOUT: OCI_LAYOUT_TEXT,
        INDEX_JSON: index_json(manifest),
        MANIFEST_JSON: manifest_json,
    }
    digests = {name: Digest.of(content) for name, content in contents.items()}
    for blob in (blob for blob in manifest.blobs if blob.carried):
        names = slices.get(blob.digest, [blob.digest])
        digests |= {blob.member(number): digest for number, digest in enumerate(names)}
    members = dict.fromkeys(SLOTS, UNSIGNED) | contents
    return sums.encode(digests), b"".join(member(name, content) for name, content in members.items())
