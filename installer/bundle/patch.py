"""Requests for chunks that are damaged or lost, and patches that hold them; see FORMAT.md, "Request" and "Patch".

A patch is not signed: it repeats the signed metadata of its bundle, whose chunk hashes prove its chunks.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from installer.bundle import canonical
from installer.bundle.limits import CHUNK
from installer.bundle.manifest import BundleManifest, chunk_count
from installer.bundle.tar import BLOCK, TRAILER, header, member_size, padded
from installer.bundle.volume import VolumeFile
from installer.errors import BundleError, UsageError
from installer.oci.digest import Digest
from installer.value import Value

PATCH_JSON = "patch.json"
MAX_PATCH_JSON = 16 * 1024 * 1024
_OVERHEAD, _EXTENT = 64, 32
"""Bytes of a list without extents, and the most that one of them takes: three numbers of at most nine digits."""
REQUEST = "airferry-request/1"
PATCH = "airferry-patch/1"
_TEXT = re.compile(r"airferry-request/1 ([0-9a-f]{16}) ([0-9a-z:+ ]+) ([0-9a-f]{8})", re.ASCII)
_RANGE = re.compile(r"([0-9]{1,9}):([0-9]{1,9})(?:\+([0-9]{1,9}))?|v([0-9]{1,3})", re.ASCII)

Extent = tuple[int, int, int]
"""The number of a blob in bundle.json, its first chunk, how many chunks."""


def _checked(extents: Sequence[Extent]) -> None:
    ends = [(blob, first + count) for blob, first, count in extents]
    begins = [(blob, first) for blob, first, _ in extents]
    ordered = all(end < begin or end[0] < begin[0] for end, begin in zip(ends, begins[1:], strict=False))
    if not ordered or any(count < 1 for *_, count in extents):
        raise BundleError("the ranges of chunks are malformed", hint="have it written again.")


def _runs(chunks: Iterable[tuple[int, int]]) -> tuple[Extent, ...]:
    """Extents of chunks, each the number of its blob and its own."""
    runs: list[Extent] = []
    for blob, chunk in sorted(set(chunks)):
        if runs and runs[-1][0] == blob and runs[-1][1] + runs[-1][2] == chunk:
            runs[-1] = (blob, runs[-1][1], runs[-1][2] + 1)
        else:
            runs.append((blob, chunk, 1))
    return tuple(runs)


class Request(Value):
    """Chunks of the bundle whose SHA256SUMS begin with the 16 hex digits `sums`; all of `volumes`, counted from 1."""

    sums: str
    extents: tuple[Extent, ...]
    volumes: tuple[int, ...] = ()
    format: str = REQUEST

    def __post_init__(self) -> None:
        if self.format != REQUEST or not re.fullmatch(r"[0-9a-f]{16}", self.sums, re.ASCII):
            raise BundleError("not a request of airferry", hint="`verify --request FILE` writes one.")
        _checked(self.extents)
        if list(self.volumes) != sorted(set(self.volumes)) or 0 in self.volumes or not (self.extents or self.volumes):
            raise BundleError("a request with malformed numbers of volumes", hint="have it written again.")

    @classmethod
    def of(cls, sums: Digest, chunks: Iterable[tuple[int, int]], volumes: Sequence[int] = ()) -> "Request":
        """A request for chunks, each the number of its blob and its own, and for all that `volumes` (from 1) hold.

        Raises BundleError if there are none.
        """
        return cls(sums.hex[:16], _runs(chunks), tuple(volumes))

    def encode(self) -> bytes:
        """The file."""
        return canonical.encode(self) + b"\n"

    @property
    def text(self) -> str:
        """One line to be typed, read out or photographed; its end tells whether it was copied right.

        In capitals it means the same, and has only characters that QR codes hold most compactly.
        """
        ranges = [f"v{number}" for number in self.volumes]
        for blob, group in groupby(self.extents, key=lambda extent: extent[0]):
            ranges += [f"{blob}:{first}" + (f"+{count}" if count > 1 else "") for _, first, count in group]
        return self._line(self.sums, " ".join(ranges))

    @staticmethod
    def _line(sums: str, ranges: str) -> str:
        plain = f"{REQUEST} {sums} {ranges}"
        return f"{plain} {hashlib.sha256(plain.encode()).hexdigest()[:8]}"

    @classmethod
    def decode(cls, raw: bytes) -> "Request":
        """The request in a file, or in a line of text. Raises BundleError, UsageError."""
        if raw.lstrip().startswith(b"{"):
            return canonical.decode(raw.removesuffix(b"\n"), cls, "request")
        line = " ".join(raw.decode("ascii", "replace").lower().split())
        match = _TEXT.fullmatch(line)
        if match is None:
            raise UsageError("not a request of airferry", hint="give the whole line, from airferry-request/1 on.")
        found = [_RANGE.fullmatch(word) for word in match[2].split(" ")]
        if None in found or cls._line(match[1], match[2]) != line:
            raise UsageError("the request was not copied right: its check digits differ", hint="compare it once more.")
        extents = tuple((int(item[1]), int(item[2]), int(item[3] or 1)) for item in found if item and not item[4])
        return cls(match[1], extents, tuple(int(item[4]) for item in found if item and item[4]))

    def wanted(self, manifest: BundleManifest, sums: Digest) -> tuple[Extent, ...]:
        """All chunks that a patch must hold, those of `volumes` included.

        Raises UsageError if the request is for another bundle, BundleError for chunks or volumes that do not exist.
        """
        if not sums.hex.startswith(self.sums):
            raise UsageError(
                f"the request is for the bundle whose SHA256SUMS begin with {self.sums}, this is {sums.hex[:16]}",
                hint="name the volumes of that bundle.",
            )
        for blob, first, count in self.extents:
            if blob >= len(manifest.blobs) or first + count > chunk_count(manifest.blobs[blob].size):
                raise BundleError("the request names chunks that do not exist", hint="compare it once more.")
            entry = manifest.blobs[blob]
            if not entry.carried and (first, count) != (0, chunk_count(entry.size)):
                raise BundleError("the request names a part of a blob that is not carried", hint="ask for all of it.")
        if self.volumes and self.volumes[-1] > len(manifest.volumes):
            raise BundleError("the request names volumes that do not exist", hint="compare it once more.")
        chunks = {(blob, first + number) for blob, first, count in self.extents for number in range(count)}
        runs = ((number, *run) for number, entry in enumerate(manifest.blobs) for run in entry.runs())
        chunks.update((blob, chunk) for blob, volume, run in runs if volume + 1 in self.volumes for chunk in run)
        return _runs(chunks)


class PatchList(Value):
    """`patch.json`: the chunks that a patch holds, in the order in which they lie in it."""

    extents: tuple[Extent, ...]
    format: str = PATCH

    def __post_init__(self) -> None:
        if self.format != PATCH:
            raise BundleError(f"a patch of format {self.format[:40]!r}; this program reads {PATCH}")
        if not self.extents:
            raise BundleError("a patch of nothing", hint="have it made again.")
        _checked(self.extents)


def members_of(manifest: BundleManifest, extents: Sequence[Extent]) -> Iterator[tuple[str, int, Extent]]:
    """The members of a patch behind patch.json: name, size, extent. Raises BundleError for chunks that do not exist."""
    for blob, first, count in extents:
        if blob >= len(manifest.blobs) or first + count > chunk_count(manifest.blobs[blob].size):
            raise BundleError("a patch with chunks that do not exist", hint="have it made again.")
        entry = manifest.blobs[blob]
        length = min(entry.size, (first + count) * CHUNK) - first * CHUNK
        yield f"chunks/{entry.digest.hex}.{first:06d}", length, (blob, first, count)


def begins_as_patch(file: VolumeFile, metadata: int) -> bool:
    """Whether the file has a patch behind `metadata` bytes instead of a payload."""
    return file.read(metadata, BLOCK).startswith(PATCH_JSON.encode() + b"\0")


def read_patch(file: VolumeFile, manifest: BundleManifest, metadata: int) -> dict[tuple[Digest, int], int]:
    """The offset of each chunk of a patch in `file`, by blob and number. Checks no content. Raises BundleError."""
    # It is not signed: its own length says nothing, but no chunk of the bundle stands in it twice.
    most = _OVERHEAD + _EXTENT * sum(chunk_count(blob.size) for blob in manifest.blobs)
    size = member_size(file.read(metadata, BLOCK), PATCH_JSON, min(most, MAX_PATCH_JSON))
    content = file.read(metadata + BLOCK, padded(size))
    found = canonical.decode(content[:size], PatchList, PATCH_JSON)
    offset = metadata + BLOCK + padded(size)
    places, spare = {}, content[size:]
    for name, length, (blob, first, count) in members_of(manifest, found.extents):
        if file.read(offset, BLOCK) != header(name, length):
            raise BundleError(f"{file.path}: {name} expected here, found something else", hint="copy it again.")
        for number in range(count):
            places[manifest.blobs[blob].digest, first + number] = offset + BLOCK + number * CHUNK
        spare += file.read(offset + BLOCK + length, padded(length) - length)
        offset += BLOCK + padded(length)
    if file.size != offset + len(TRAILER):
        raise BundleError(f"{file.path}: was cut short or extended", hint="copy it again.")
    if any(spare) or file.read(offset, len(TRAILER)) != TRAILER:
        raise BundleError(f"{file.path}: padding or end is not zero", hint="copy it again.")
    return places
