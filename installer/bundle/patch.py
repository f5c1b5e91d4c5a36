"""Requests for what is damaged, and the patches that answer them; see FORMAT.md, sections "Request" and "Patch".

A patch needs no trust of its own: it stands behind the signed metadata of its bundle, whose chunk hashes tell whether
what it holds is right.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from installer.bundle import canonical
from installer.bundle.limits import CHUNK
from installer.bundle.manifest import BundleManifest, chunk_count
from installer.bundle.tar import BLOCK, TRAILER, header, member_size, padded
from installer.bundle.volume import VolumeFile
from installer.errors import BundleError, UsageError
from installer.oci.digest import Digest

PATCH_JSON = "patch.json"
MAX_PATCH_JSON = 16 * 1024 * 1024
REQUEST = "airferry-request/1"
PATCH = "airferry-patch/1"
_TEXT = re.compile(r"airferry-request/1 ([0-9a-f]{16}) ([0-9:+, ]+) ([0-9a-f]{8})", re.ASCII)
_RANGE = re.compile(r"([0-9]{1,9}):([0-9]{1,9})(?:\+([0-9]{1,9}))?", re.ASCII)

Extent = tuple[int, int, int]
"""The number of a blob in bundle.json, its first chunk, how many chunks."""


def _checked(extents: Sequence[Extent]) -> None:
    ends = [(blob, first + count) for blob, first, count in extents]
    begins = [(blob, first) for blob, first, _ in extents]
    ordered = all(end < begin or end[0] < begin[0] for end, begin in zip(ends, begins[1:], strict=False))
    if not extents or not ordered or any(count < 1 for *_, count in extents):
        raise BundleError("the ranges of chunks are malformed", hint="have it written again.")


@dataclass(frozen=True, slots=True)
class Request:
    """Chunks of the bundle whose SHA256SUMS begin with the 16 hex digits `sums`."""

    sums: str
    extents: tuple[Extent, ...]
    format: str = REQUEST

    def __post_init__(self) -> None:
        if self.format != REQUEST or not re.fullmatch(r"[0-9a-f]{16}", self.sums, re.ASCII):
            raise BundleError("not a request of airferry", hint="`verify --request FILE` writes one.")
        _checked(self.extents)

    @classmethod
    def of(cls, sums: Digest, chunks: Iterable[tuple[int, int]]) -> "Request":
        """A request for chunks, each the number of its blob and its own. Raises BundleError if there are none."""
        runs: list[Extent] = []
        for blob, chunk in sorted(set(chunks)):
            if runs and runs[-1][0] == blob and runs[-1][1] + runs[-1][2] == chunk:
                runs[-1] = (blob, runs[-1][1], runs[-1][2] + 1)
            else:
                runs.append((blob, chunk, 1))
        return cls(sums.hex[:16], tuple(runs))

    def encode(self) -> bytes:
        """The file."""
        return canonical.encode(self) + b"\n"

    @property
    def text(self) -> str:
        """One line to be typed, read out or photographed; its end tells whether it was copied right."""
        ranges = []
        for blob, group in groupby(self.extents, key=lambda extent: extent[0]):
            ranges += [f"{blob}:{first}" + (f"+{count}" if count > 1 else "") for _, first, count in group]
        return self._line(" ".join(ranges))

    def _line(self, ranges: str) -> str:
        plain = f"{REQUEST} {self.sums} {ranges}"
        return f"{plain} {hashlib.sha256(plain.encode()).hexdigest()[:8]}"

    @classmethod
    def decode(cls, raw: bytes) -> "Request":
        """The request in a file, or in a line of text. Raises BundleError, UsageError."""
        if raw.lstrip().startswith(b"{"):
            return canonical.decode(raw.removesuffix(b"\n"), cls, "request")
        line = " ".join(raw.decode("ascii", "replace").split())
        match = _TEXT.fullmatch(line)
        if match is None:
            raise UsageError("not a request of airferry", hint="give the whole line, from airferry-request/1 on.")
        found = [_RANGE.fullmatch(word) for word in match[2].split(" ")]
        extents = tuple((int(item[1]), int(item[2]), int(item[3] or 1)) for item in found if item)
        request = cls(match[1], extents)
        if len(extents) != len(found) or request._line(match[2]) != line:
            raise UsageError("the request was not copied right: its check digits differ", hint="compare it once more.")
        return request

    def check(self, manifest: BundleManifest, sums: Digest) -> None:
        """Raises UsageError if the request is for another bundle, BundleError for chunks that do not exist."""
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


@dataclass(frozen=True, slots=True)
class PatchList:
    """`patch.json`: the chunks that a patch holds, in the order in which they lie in it."""

    extents: tuple[Extent, ...]
    format: str = PATCH

    def __post_init__(self) -> None:
        if self.format != PATCH:
            raise BundleError(f"a patch of format {self.format[:40]!r}; this program reads {PATCH}")
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
    """Where each chunk of a patch lies in `file`; nothing is known about its content. Raises BundleError."""
    size = member_size(file.read(metadata, BLOCK), PATCH_JSON, MAX_PATCH_JSON)
    found = canonical.decode(file.read(metadata + BLOCK, size), PatchList, PATCH_JSON)
    offset = metadata + BLOCK + padded(size)
    places = {}
    for name, length, (blob, first, count) in members_of(manifest, found.extents):
        if file.read(offset, BLOCK) != header(name, length):
            raise BundleError(f"{file.path}: {name} expected here, found something else", hint="copy it again.")
        for number in range(count):
            places[manifest.blobs[blob].digest, first + number] = offset + BLOCK + number * CHUNK
        offset += BLOCK + padded(length)
    if file.size != offset + len(TRAILER):
        raise BundleError(f"{file.path}: was cut short or extended", hint="copy it again.")
    return places
