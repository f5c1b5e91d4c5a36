"""Reading a bundle: authenticity first, then structure, then content chunk by chunk in the buffer that is used.

The order is the one of FORMAT.md, section "Reading"; the step numbers in the code are those of that section.
Nothing from a volume is parsed before a trusted signature, or the typed checksum, covers it.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from blake3 import blake3

from installer.bundle import signature, sums
from installer.bundle.envelope import Envelope, check_metadata, match_volume, read_envelope, read_metadata, starts
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
from installer.bundle.patch import begins_as_patch, read_patch
from installer.bundle.signature import PublicKey, Trust, Verdict
from installer.bundle.tar import BLOCK, header, padded
from installer.bundle.volume import Metadata, VolumeFile, file_names, file_stem, volume_sizes
from installer.errors import (
    BundleError,
    IncompleteError,
    NotFoundError,
    PolicyError,
    StorageError,
)
from installer.oci.digest import Digest
from installer.oci.model import Descriptor, Index, Manifest, parse_manifest
from installer.report import Reporter
from installer.verify.damage import damage_error, damages, open_images

_CLOCK_SLACK = dt.timedelta(days=1)


Changer = Callable[["Bundle", frozenset[int], str], None]
"""Brings at least one of the volumes with these numbers (from 0), for the stated reason, or raises IncompleteError."""


class Bundle:
    """A genuine bundle: holding one means that its metadata was authenticated and its structure is whole.

    A context manager that closes the volume files. Safe to use from several threads.
    """

    def __init__(
        self,
        manifest: BundleManifest,
        metadata: Metadata,
        envelope: Envelope,
        verdict: Verdict,
        trust: Trust,
    ) -> None:
        self.manifest, self.verdict, self.trust = manifest, verdict, trust
        self._metadata, self._envelope = metadata, envelope
        self._starts, self._sizes = starts(manifest), volume_sizes(manifest, metadata)
        self._volumes: dict[int, VolumeFile] = {}
        self._kept: dict[Digest, bytes] = {}
        self._patches: list[VolumeFile] = []
        self._patched: dict[tuple[Digest, int], tuple[VolumeFile, int]] = {}
        self._replaced: frozenset[int] = frozenset()
        self.changer: Changer | None = None

    @classmethod
    def open(cls, files: Sequence[VolumeFile], trust: Trust) -> Self:
        """The bundle whose volumes, or some of them, are `files`, in any order. Takes over closing them.

        Raises UntrustedError, BundleError, IncompleteError, StorageError.
        """
        try:
            envelope = read_envelope(files[0])
            verdict = signature.verify(envelope.sums, envelope.slots, trust)  # step 2
            bundle = cls(*_first_metadata(files, envelope.sums), envelope, verdict, trust)
            for file in files[1:]:
                bundle._authenticate(file)
            patches = [file for file in files if begins_as_patch(file, bundle._metadata.length)]
            for file in files:
                if file not in patches:
                    bundle._add_volume(file)
            for file in patches:
                bundle._add_patch(file)
        except BaseException:
            for file in files:
                file.close()
            raise
        return bundle

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the volume files."""
        for file in (*self._volumes.values(), *self._patches):
            file.close()

    @cached_property
    def _blobs(self) -> dict[Digest, BundleBlob]:
        return {blob.digest: blob for blob in self.manifest.blobs}

    @property
    def size(self) -> int:
        """Bytes of all volumes together."""
        return sum(self._sizes)

    @property
    def signing_keys(self) -> tuple[PublicKey, ...]:
        """The trusted keys that signed."""
        return tuple(key for key in self.trust.keys if key.fingerprint in self.verdict.signers)

    def path(self, number: int) -> Path:
        """The file of volume `number`, counted from 0. Raises IncompleteError."""
        return self._file(number).path

    @property
    def missing(self) -> tuple[int, ...]:
        """The numbers of volumes that are not at hand, counted from 1."""
        return tuple(number + 1 for number in range(len(self.manifest.volumes)) if number not in self.at_hand)

    def require_all(self) -> None:
        """Raises IncompleteError if a volume is not at hand."""
        if self.missing:
            raise self.incomplete(frozenset(number - 1 for number in self.missing))

    def require(self, volumes: Collection[int], why: str) -> None:
        """Have one of `volumes` (numbers from 0) at hand, or more; whoever can change media is asked for it.

        For one thread, while no other one reads. Raises IncompleteError.
        """
        if self.changer is None:
            raise self.incomplete(frozenset(volumes))
        self.changer(self, frozenset(volumes), why)

    def incomplete(self, volumes: frozenset[int]) -> IncompleteError:
        """The error that says which volumes (numbers from 0) are missing, and what they are called."""
        count = len(self.manifest.volumes)
        if len(volumes) == 1:
            (number,) = volumes
            text = f"volume {number + 1} of {count} ({self.file_name(number)}) is missing"
        else:
            names = ", ".join(f"{number + 1} ({self.file_name(number)})" for number in sorted(volumes))
            text = f"volumes {names} of {count} are missing"
        it, is_ = ("it", "it is") if len(volumes) == 1 else ("them", "they are")
        again = "run the same command again with its file or folder, too"
        lost = f"If {is_} lost, `verify --request FILE` of the installer asks for {it}."
        return IncompleteError(text, hint=f"bring {it}, and {again}. {lost}")

    def file_name(self, number: int) -> str:
        """What the file of volume `number` (from 0) was called by its writer, unless someone renamed it."""
        return file_names(self.manifest)[number]

    @property
    def stem(self) -> str:
        """What the names of files begin with that belong to this bundle."""
        return file_stem(self.manifest)

    def files(self) -> list[dict[str, Any]]:
        """Each volume: its number from 1, its name, its bytes, and where it lies; empty if it is not at hand.

        It begins at `offset` of the file there: a frozen file has the program before it.
        """
        return [
            {
                "volume": number + 1,
                "file": self.file_name(number),
                "bytes": size,
                "path": str(self._volumes[number].path) if number in self._volumes else "",
                "offset": self._volumes[number].base if number in self._volumes else 0,
            }
            for number, size in enumerate(self._sizes)
        ]

    @property
    def at_hand(self) -> frozenset[int]:
        """The numbers, from 0, of the volumes at hand; patches with all that a volume held stand for it."""
        return self._replaced.union(self._volumes)

    @property
    def volumes(self) -> Mapping[int, VolumeFile]:
        """The files of the volumes at hand, by number from 0."""
        return dict(self._volumes)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of volumes and patches at hand."""
        return tuple(file.path for file in (*self._volumes.values(), *self._patches))

    def absent(self, digest: Digest) -> frozenset[int]:
        """The volumes, by number from 0, that are not at hand and that are needed to read a blob."""
        if digest in self._kept:
            return frozenset()
        return self._absent(self.blob(digest))

    def _absent(self, blob: BundleBlob) -> frozenset[int]:
        return frozenset(
            volume
            for volume, chunks in blob.runs()
            if volume not in self._volumes and any((blob.digest, number) not in self._patched for number in chunks)
        )

    def holds(self, digest: Digest) -> bool:
        """Whether a blob belongs to the bundle as it is here: carried by it, or brought whole by a patch."""
        blob = self.blob(digest)
        return blob.carried or all((digest, number) in self._patched for number in range(chunk_count(blob.size)))

    def lacking(self, image: BundleImage) -> list[BundleBlob]:
        """The blobs of an image that neither the bundle nor a patch holds: a registry must hold them."""
        return [blob for blob in self.parts(image).values() if not self.holds(blob.digest)]

    def add(self, file: VolumeFile) -> None:
        """Take over another volume, or a patch.

        Raises BundleError (also if it is of another bundle, or there already), UntrustedError, StorageError; the file
        is closed then.
        """
        try:
            self._authenticate(file)
            if begins_as_patch(file, self._metadata.length):
                self._add_patch(file)
            else:
                self._add_volume(file)
        except BaseException:
            file.close()
            raise

    def _authenticate(self, file: VolumeFile) -> None:
        """Steps 1 and 2 for one more file, which begins like the others unless it is signed otherwise."""
        known = self._envelope.raw
        if file.size >= len(known) and file.read(0, len(known)) == known:
            return
        envelope = read_envelope(file)
        if signature.verify(envelope.sums, envelope.slots, self.trust).sums != self.verdict.sums:
            raise BundleError(f"{file.path}: a volume of another bundle", hint="give the volumes of one bundle.")

    def signed(self, blob: BundleBlob, piece: int) -> Digest:
        """The digest that SHA256SUMS states of piece number `piece` of a blob."""
        return sums.digest_of(self._envelope.sums, blob.member(piece))

    def fronts(self, volumes: Collection[int]) -> list[tuple[int, VolumeFile]]:
        """The files that begin with the metadata: those of `volumes` (from 0) and all patches, with numbers from 1.

        A patch has the number 0.
        """
        files = [(number + 1, file) for number, file in sorted(self._volumes.items()) if number in volumes]
        return [*files, *((0, file) for file in self._patches)]

    def check_metadata(self, file: VolumeFile) -> None:
        """Step 3 for what a file repeats: nobody but stock tools ever reads it. Raises BundleError, StorageError."""
        check_metadata(file, self._envelope.sums)

    def _add_volume(self, file: VolumeFile) -> None:
        number = match_volume(file, self._starts, self._metadata.length, self._sizes)
        if number in self._volumes:
            there = self._volumes[number].path
            raise BundleError(f"{file.path}: the same volume as {there}", hint="give each volume once.")
        self._volumes[number] = file

    def _add_patch(self, file: VolumeFile) -> None:
        places = read_patch(file, self.manifest, self._metadata.length)
        self._patches.append(file)
        self._patched |= {chunk: (file, place) for chunk, place in places.items()}
        volumes = frozenset(range(len(self.manifest.volumes)))
        self._replaced = volumes.difference(self._volumes, *map(self._absent, self.manifest.blobs))

    def front(self) -> Iterator[bytes]:
        """The metadata as it stands in front of a file at hand. Raises BundleError, StorageError."""
        file = next(iter((*self._volumes.values(), *self._patches)))
        check_metadata(file, self._envelope.sums)
        for start in range(0, self._metadata.length, CHUNK):
            yield file.read(start, min(CHUNK, self._metadata.length - start))

    def release(self, *, except_file: Path | None = None) -> None:
        """Close all volumes, but for what lies in `except_file`, so that their medium can be taken out."""
        for number, file in list(self._volumes.items()):
            if file.path != except_file:
                file.close()
                del self._volumes[number]
        for file in self._patches:
            file.close()
        self._patches.clear()
        self._patched.clear()
        self._replaced = frozenset()

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
        if digest in self._kept:
            yield from sliced(self._kept[digest], start)
            return
        buffer = buffer or bytearray(min(CHUNK, blob.size))
        if not blob.carried:
            yield from self._from_patch(blob, start, buffer)
            return
        for number in range(start, chunk_count(blob.size)):
            try:
                yield self.chunk(blob, number, buffer)
            except BundleError as exc:
                raise BundleError(exc.message + self.needed_by(digest), hint=exc.hint) from exc

    def _from_patch(self, blob: BundleBlob, start: int, buffer: bytearray) -> Iterator[memoryview]:
        """The chunks of a blob that only a patch holds; the last one is released if the SHA-256 of all is right."""
        if not self.holds(blob.digest):
            raise BundleError(
                f"blob {blob.digest}: not carried by this update{self.needed_by(blob.digest)}",
                hint="load the bundle that the update builds on, or bring a patch: `load --request FILE` asks for one.",
            )
        whole, last = hashlib.sha256(), chunk_count(blob.size) - 1

        def read(number: int) -> memoryview:
            file, place = self._patched[blob.digest, number]
            view = memoryview(buffer)[: min(CHUNK, blob.size - number * CHUNK)]
            file.read_into(view, place)
            return view

        for number in range(start, last + 1):
            for before in range(last) if number == last and start else ():
                # Whoever begins in the middle has not hashed what lies before.
                whole.update(read(before))
            view = read(number)
            if number == last or not start:
                whole.update(view)
            if number == last and whole.hexdigest() != blob.digest.hex:
                path = self._patched[blob.digest, number][0].path
                raise BundleError(f"{path}: blob {blob.digest} is damaged in this patch", hint="copy it again.")
            yield view

    def where(self, blob: BundleBlob, number: int) -> tuple[int, Path, int, int]:
        """Where chunk `number` of `blob` lies: volume from 0, file, offset in that file, length."""
        position = number * CHUNK
        piece, inside = blob.locate(position) if blob.size else (0, 0)
        volume, offset, _ = blob.pieces[piece]
        if patched := self._patched.get((blob.digest, number)):
            return volume, patched[0].path, patched[1], min(CHUNK, blob.size - position)
        file = self._file(volume)
        place = file.base + self._metadata.length + offset + inside
        return volume, file.path, place, min(CHUNK, blob.size - position)

    def chunk(self, blob: BundleBlob, number: int, buffer: bytearray) -> memoryview:
        """Chunk `number` of `blob`, read into `buffer` and verified there (step 7); from a patch, if one has it."""
        position = number * CHUNK
        view = memoryview(buffer)[: min(CHUNK, blob.size - position)]
        if patched := self._patched.get((blob.digest, number)):
            file, place = patched
        else:
            piece, inside = blob.locate(position)
            volume, offset, _ = blob.pieces[piece]
            file = self._file(volume)
            if not inside:
                self.check_frame(blob, piece)
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
            raise self.incomplete(frozenset((volume,)))
        return self._volumes[volume]

    def check_frame(self, blob: BundleBlob, piece: int) -> None:
        """Step 5: the header before, and the padding after, one member of the payload."""
        volume, offset, length = blob.pieces[piece]
        if volume in self._replaced:
            return  # a patch has frames of its own
        file, begin = self._file(volume), self._metadata.length + offset
        padding = file.read(begin + length, padded(length) - length)
        if file.read(begin - BLOCK, BLOCK) != header(blob.member(piece), length) or any(padding):
            raise BundleError(
                f"{file.path}: the frame of blob {blob.digest.hex[:12]} at byte {file.base + begin} is damaged",
                hint="copy this file again from its source.",
            )

    def owners(self, digest: Digest) -> Sequence[str]:
        """The images that a blob belongs to."""
        return self._owners.get(digest, ())

    def needed_by(self, digest: Digest) -> str:
        """Which images a blob belongs to, for messages; empty if it is none of an image."""
        names = self.owners(digest)
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
        """A whole blob of at most `limit` bytes, verified against its chunks and its digest.

        While volumes are missing what was read is kept in memory, within limits: its medium may be gone next time.
        Raises BundleError, IncompleteError, StorageError.
        """
        blob = self.blob(digest)
        if blob.size > limit:
            raise BundleError(f"blob {digest}: {blob.size} bytes; at most {limit} make sense for it")
        if digest in self._kept:
            return self._kept[digest]
        if absent := self.absent(digest):
            self.require(absent, "it holds what is needed now")
        data = b"".join(bytes(view) for view in self.chunks(digest))
        if Digest.of(data) != digest:
            raise BundleError(f"blob {digest}: signed chunk hashes and digest disagree")
        if self.missing and sum(map(len, self._kept.values())) + len(data) <= MAX_SMALL_BLOB:
            self._kept[digest] = data
        return data

    def keep_manifests(self) -> None:
        """While volumes are missing: have the manifests at hand in memory, for their medium may go.

        Raises BundleError, IncompleteError, StorageError.
        """
        for blob in self.manifest.blobs if self.missing else ():
            if blob.is_manifest and not self.absent(blob.digest):
                self.read(blob.digest)

    def manifests(self, image: BundleImage) -> list[Manifest | Index]:
        """The manifests of an image, children before their index, then those of its referrers; each once.

        Raises BundleError.
        """
        found: dict[Digest, Manifest | Index] = {}
        for root in (image.root, *(self.blob(digest).descriptor for digest in image.referrers)):
            self._collect(root, found, depth=0)
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
        """Everything an image and its referrers consist of: manifests, configs, layers.

        Raises BundleError unless its parts say so too.
        """
        found: dict[Digest, Descriptor] = {}
        for node in self.manifests(image):
            found[node.descriptor.digest] = node.descriptor
            for blob in node.blobs if isinstance(node, Manifest) else ():
                if blob.digest not in self._blobs or self._blobs[blob.digest].size != blob.size:
                    raise BundleError(f"{image.source}: its blob {blob.digest} is not held")
                found[blob.digest] = blob
        if found.keys() != self.parts(image).keys():
            raise BundleError(f"{image.source}: its manifests and its parts in bundle.json differ")
        return found

    def parts(self, image: BundleImage) -> dict[Digest, BundleBlob]:
        """The blobs that an image consists of, as bundle.json says: known without its manifests."""
        return {blob.digest: blob for blob in self.manifest.parts(image)}

    def verify(self, reporter: Reporter, *, sha256: bool = False, threads: int = 2) -> None:
        """Read every byte of the volumes at hand and compare it; with `sha256`, also every blob with its digest.

        Goes on to the end of the volumes and raises BundleError with all that is wrong.
        """
        found = damages(self, reporter, self.at_hand, sha256=sha256, threads=threads)
        if found := found or (open_images(self) if not self.missing else []):
            raise damage_error(self, found)


def _first_metadata(files: Sequence[VolumeFile], signed: bytes) -> tuple[BundleManifest, Metadata]:
    """The metadata of the first of `files` in which they are whole; all repeat the same. Raises what the first does."""
    failure: BundleError | StorageError | None = None
    for file in files:
        try:
            return read_metadata(file, signed)
        except (BundleError, StorageError) as exc:
            failure = failure or exc
    raise failure or ValueError("no file at all")


def sliced(data: bytes, start: int) -> Iterator[memoryview]:
    """The chunks of `data` from number `start` on."""
    for position in range(start * CHUNK, len(data), CHUNK):
        yield memoryview(data)[position : position + CHUNK]


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
