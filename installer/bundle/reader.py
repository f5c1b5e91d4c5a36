"""Reading a bundle: authenticity first, then structure, then content chunk by chunk in the buffer that is used.

The order is the one of FORMAT.md, section "Reading"; the step numbers in the code are those of that section.
Nothing from a volume is parsed before a trusted signature, or the typed checksum, covers it.
"""

import datetime as dt
import hashlib
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Self

from blake3 import blake3

from installer.bundle import signature
from installer.bundle.envelope import match_volumes, read_envelope, read_metadata
from installer.bundle.limits import CHUNK, MAX_SMALL_BLOB
from installer.bundle.manifest import (
    HASH,
    NEVER,
    BundleBlob,
    BundleImage,
    BundleManifest,
    chunk_count,
    parse_release,
    parse_time,
)
from installer.bundle.signature import Trust, Verdict
from installer.bundle.tar import BLOCK, header, padded
from installer.bundle.volume import Metadata, VolumeFile, volume_sizes
from installer.errors import (
    AirferryError,
    BundleError,
    IncompleteError,
    NotFoundError,
    PolicyError,
    StorageError,
)
from installer.oci.digest import Digest
from installer.oci.model import Descriptor, Index, Manifest, parse_manifest
from installer.report import Reporter

_CLOCK_SLACK = dt.timedelta(days=1)
_MAX_FINDINGS = 20
_STRIPE = 4


class Bundle:
    """A genuine bundle: holding one means that its metadata was authenticated and its structure is whole.

    A context manager that closes the volume files. Safe to use from several threads.
    """

    def __init__(
        self, manifest: BundleManifest, verdict: Verdict, metadata: Metadata, volumes: dict[int, VolumeFile]
    ) -> None:
        self.manifest, self.verdict = manifest, verdict
        self._metadata, self._volumes = metadata, volumes

    @classmethod
    def open(cls, files: Sequence[VolumeFile], trust: Trust) -> Self:
        """The bundle whose volumes, or some of them, are `files`, in any order. Takes over closing them.

        Raises UntrustedError, BundleError, IncompleteError, StorageError.
        """
        try:
            envelopes = [read_envelope(file) for file in files]
            verdicts = [signature.verify(envelope.sums, envelope.slots, trust) for envelope in envelopes]  # step 2
            if len({verdict.sums for verdict in verdicts}) != 1:
                raise BundleError("these volumes belong to different bundles", hint="give the volumes of one bundle.")
            manifest, metadata = read_metadata(files, envelopes[0].sums)
            volumes = match_volumes(files, manifest, metadata)
        except BaseException:
            for file in files:
                file.close()
            raise
        return cls(manifest, verdicts[0], metadata, volumes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the volume files."""
        for file in self._volumes.values():
            file.close()

    @cached_property
    def _blobs(self) -> dict[Digest, BundleBlob]:
        return {blob.digest: blob for blob in self.manifest.blobs}

    @property
    def size(self) -> int:
        """Bytes of all volumes together."""
        return sum(volume_sizes(self.manifest, self._metadata))

    def path(self, number: int) -> Path:
        """The file of volume `number`, counted from 0. Raises IncompleteError."""
        return self._file(number).path

    @property
    def missing(self) -> tuple[int, ...]:
        """The numbers of volumes that are not at hand, counted from 1."""
        return tuple(number + 1 for number in range(len(self.manifest.volumes)) if number not in self._volumes)

    def require_all(self) -> None:
        """Raises IncompleteError if a volume is not at hand."""
        if self.missing:
            numbers = ", ".join(str(number) for number in self.missing)
            raise IncompleteError(
                f"volume {numbers} of {len(self.manifest.volumes)} is missing", hint="give the files of all volumes."
            )

    def check_time(self, now: dt.datetime) -> None:
        """Step 6. Raises PolicyError if the bundle has expired at `now`, or `now` is before the bundle was made."""
        created = parse_time(self.manifest.created)
        if now < created - _CLOCK_SLACK:
            raise PolicyError(
                f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, but the bundle was made on {created:%Y-%m-%d}",
                hint="set the clock of this machine; the bundle itself is genuine.",
            )
        if self.manifest.expires != NEVER and now >= parse_time(self.manifest.expires):
            raise PolicyError(
                f"the bundle expired on {self.manifest.expires}, and this machine's clock says {now:%Y-%m-%d}",
                hint="ask for a current bundle; if the clock is wrong, set it.",
            )

    def check_program(self, version: str) -> None:
        """Step 6. Raises PolicyError if the bundle asks for a newer program than `version`."""
        if parse_release(version) < parse_release(self.manifest.minimum_installer):
            raise PolicyError(
                f"the bundle needs airferry {self.manifest.minimum_installer} or later, this is {version}",
                hint="use the program that came with the bundle, or ask its sender for it.",
            )

    def blob(self, digest: Digest) -> BundleBlob:
        """The entry of a blob. Raises NotFoundError."""
        try:
            return self._blobs[digest]
        except KeyError:
            raise NotFoundError(f"{digest}: not in this bundle") from None

    def chunks(self, digest: Digest, start: int = 0, buffer: bytearray | None = None) -> Generator[memoryview]:
        """The chunks of a blob from number `start` on, each verified. A view is valid until the next is asked for.

        Raises BundleError for damage, StorageError for a failing medium, IncompleteError for an absent volume.
        """
        blob = self.blob(digest)
        buffer = buffer or bytearray(min(CHUNK, blob.size))
        for number in range(start, chunk_count(blob.size)):
            try:
                yield self._chunk(blob, number, buffer)
            except BundleError as exc:
                raise BundleError(exc.message + self._needed_by(digest), hint=exc.hint) from exc

    def _chunk(self, blob: BundleBlob, number: int, buffer: bytearray) -> memoryview:
        """Chunk `number` of `blob`, read into `buffer` and verified there (step 7)."""
        position = number * CHUNK
        piece, inside = blob.locate(position)
        volume, offset, _ = blob.pieces[piece]
        file = self._file(volume)
        if not inside:
            self._check_frame(blob, piece)
        view = memoryview(buffer)[: min(CHUNK, blob.size - position)]
        place = self._metadata.length + offset + inside
        file.read_into(view, place)
        if blake3(view).digest() != blob.chunks[HASH * number : HASH * (number + 1)]:
            raise BundleError(
                f"{file.path}: damaged between byte {file.base + place} and {file.base + place + len(view)}"
                f" (blob {blob.digest.hex[:12]}, chunk {number})",
                hint="copy this file again from its source, and compare its checksum.",
            )
        return view

    def _file(self, volume: int) -> VolumeFile:
        if volume not in self._volumes:
            raise IncompleteError(f"volume {volume + 1} is missing", hint="give the files of all volumes.")
        return self._volumes[volume]

    def _check_frame(self, blob: BundleBlob, piece: int) -> None:
        """Step 5: the header before, and the padding after, one member of the payload."""
        volume, offset, length = blob.pieces[piece]
        file, begin = self._file(volume), self._metadata.length + offset
        padding = file.read(begin + length, padded(length) - length)
        if file.read(begin - BLOCK, BLOCK) != header(blob.member(piece), length) or any(padding):
            raise BundleError(
                f"{file.path}: the frame of blob {blob.digest.hex[:12]} at byte {file.base + begin} is damaged",
                hint="copy this file again from its source.",
            )

    def _needed_by(self, digest: Digest) -> str:
        """Which images a blob belongs to, for messages; empty if it is none of an image."""
        names = self._owners.get(digest, [])
        return f", needed by {', '.join(names[:3])}{' and others' if len(names) > 3 else ''}" if names else ""

    @cached_property
    def _owners(self) -> dict[Digest, list[str]]:
        """The images that each blob belongs to."""
        owners: dict[Digest, list[str]] = {}
        for image in self.manifest.images:
            for digest in self.parts(image):
                owners.setdefault(digest, []).append(image.source)
        return owners

    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> "BlobReader":
        """A stream over a blob's verified bytes from `offset` on. Raises NotFoundError."""
        return BlobReader(self, self.blob(descriptor.digest), offset)

    def read(self, digest: Digest, limit: int = MAX_SMALL_BLOB) -> bytes:
        """A whole blob of at most `limit` bytes, verified against its chunks and its digest. Raises BundleError."""
        blob = self.blob(digest)
        if blob.size > limit:
            raise BundleError(f"blob {digest}: {blob.size} bytes; at most {limit} make sense for it")
        buffer = bytearray(min(CHUNK, blob.size))
        data = b"".join(bytes(self._chunk(blob, number, buffer)) for number in range(chunk_count(blob.size)))
        if Digest.of(data) != digest:
            raise BundleError(f"blob {digest}: signed chunk hashes and digest disagree")
        return data

    def manifests(self, image: BundleImage) -> list[Manifest | Index]:
        """The manifests of an image, children before their index, each once. Raises BundleError."""
        found: dict[Digest, Manifest | Index] = {}
        self._collect(image.root, found, depth=0)
        return list(found.values())

    def _collect(self, descriptor: Descriptor, found: dict[Digest, Manifest | Index], depth: int) -> None:
        if depth > 3:
            raise BundleError(f"{descriptor.digest}: indexes nested deeper than 3")
        if descriptor.digest in found:
            return
        try:
            node = parse_manifest(self.read(descriptor.digest), descriptor.media_type)
        except NotFoundError as exc:
            raise BundleError(f"manifest {descriptor.digest}: named by an image but not held") from exc
        for child in node.manifests if isinstance(node, Index) else ():
            self._collect(child, found, depth + 1)
        found[descriptor.digest] = node

    def closure(self, image: BundleImage) -> dict[Digest, Descriptor]:
        """Everything an image consists of: manifests, configs, layers. Raises BundleError unless its parts say so too.

        Referrers are not among them.
        """
        found: dict[Digest, Descriptor] = {}
        for node in self.manifests(image):
            found[node.descriptor.digest] = node.descriptor
            for blob in node.blobs if isinstance(node, Manifest) else ():
                if blob.digest not in self._blobs or self._blobs[blob.digest].size != blob.size:
                    raise BundleError(f"{image.source}: its blob {blob.digest} is not held")
                found[blob.digest] = blob
        if not image.referrers and found.keys() != self.parts(image).keys():
            raise BundleError(f"{image.source}: its manifests and its parts in bundle.json differ")
        return found

    def parts(self, image: BundleImage) -> dict[Digest, BundleBlob]:
        """The blobs that an image consists of, as bundle.json says: known without its manifests."""
        return {blob.digest: blob for blob in (self.manifest.blobs[number] for number in image.parts)}

    def verify(self, reporter: Reporter, *, sha256: bool = False, threads: int = 2) -> None:
        """Read every byte of the volumes at hand and compare it; with `sha256`, also every blob with its digest.

        Goes on to the end of the volumes and raises BundleError with all that is wrong.
        """
        lengths = [
            length for blob in self.manifest.blobs for volume, _, length in blob.pieces if volume in self._volumes
        ]
        reporter.begin("verify", sum(lengths))

        own = threading.local()

        def prepare() -> None:
            own.buffer = bytearray(CHUNK)

        def examine(work: tuple[BundleBlob, range]) -> list[str]:
            return self._examine(*work, own.buffer, reporter, sha256=sha256)

        with ThreadPoolExecutor(threads, initializer=prepare) as pool:
            findings = [text for found in pool.map(examine, self._stripes(whole=sha256)) for text in found]
        reporter.end()
        if not findings and not self.missing:
            findings = self._open_images()
        if findings:
            more = f"\nand {len(findings) - _MAX_FINDINGS} more" if len(findings) > _MAX_FINDINGS else ""
            raise BundleError(
                "\n".join(findings[:_MAX_FINDINGS]) + more, hint="copy the damaged file again, then verify it again."
            )

    def _examine(
        self, blob: BundleBlob, numbers: range, buffer: bytearray, reporter: Reporter, *, sha256: bool
    ) -> list[str]:
        """What is wrong with the given chunks of a blob; with `sha256`, and if they are all, with its digest."""
        findings: list[str] = []
        whole = hashlib.sha256() if sha256 and len(numbers) == chunk_count(blob.size) else None
        try:
            if not blob.size:
                self._check_frame(blob, 0)
        except (BundleError, StorageError) as exc:
            findings.append(exc.message)
        for number in numbers:
            try:
                view = self._chunk(blob, number, buffer)
            except (BundleError, StorageError) as exc:
                findings.append(exc.message + self._needed_by(blob.digest))
            else:
                if whole is not None:
                    whole.update(view)
            reporter.advance(min(CHUNK, blob.size - number * CHUNK))
        if whole is not None and not findings and whole.hexdigest() != blob.digest.hex:
            findings.append(f"blob {blob.digest}: its content has another SHA-256")
        return findings

    def _stripes(self, *, whole: bool) -> Iterator[tuple[BundleBlob, range]]:
        """Work for `verify` in payload order: runs of chunks at hand, or `whole` blobs where possible."""
        for blob in self.manifest.blobs:
            runs, start = [], 0
            for volume, _, length in blob.pieces:
                stop = start + chunk_count(length)
                if volume in self._volumes:
                    runs.append(range(start, stop))
                start = stop
            if whole and len(runs) == len(blob.pieces):
                yield blob, range(start)
                continue
            for run in runs:
                for first in range(run.start, max(run.stop, run.start + 1), _STRIPE):
                    yield blob, range(first, min(first + _STRIPE, run.stop))

    def _open_images(self) -> list[str]:
        """Images with parts that the bundle does not hold."""
        findings = []
        for image in self.manifest.images:
            try:
                self.closure(image)
            except AirferryError as exc:
                findings.append(exc.message)
        return findings


class BlobReader:
    """A blob's verified bytes as a stream; see installer.oci.source."""

    def __init__(self, bundle: Bundle, blob: BundleBlob, offset: int) -> None:
        self._chunks = bundle.chunks(blob.digest, offset // CHUNK)
        self._rest = memoryview(b"")
        self._skip = offset % CHUNK

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._chunks.close()

    def readinto(self, view: memoryview) -> int:
        """Fill a part of `view`; 0 at the end. Raises BundleError, StorageError."""
        if not self._rest:
            self._rest = next(self._chunks, memoryview(b""))[self._skip :]
            self._skip = 0
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
