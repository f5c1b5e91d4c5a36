"""Reading a bundle: authenticity first, then structure, then content chunk by chunk in the buffer that is used.

The order is that of FORMAT.md, section "Reading"; step numbers in the code are those of that section. Nothing from a
volume is parsed before a trusted signature, or the typed checksum, covers it.

    with Bundle.open([VolumeFile(path)], trust) as bundle:
        bundle.manifest.images                # what it holds
        bundle.volumes.missing                # which files it still needs
        bundle.images.closure(image)          # what an image consists of
        bundle.read(digest)                   # a small blob
        for view in bundle.chunks(digest):    # any blob
            ...
"""

import hashlib
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from typing import Protocol, Self

from blake3 import blake3

from installer.bundle import signature, sums
from installer.bundle.envelope import Envelope, check_metadata, read_envelope, read_metadata
from installer.bundle.failures import ContradictionError, OtherBundleError, damaged_chunk, not_carried
from installer.bundle.image_graph import ImageGraph
from installer.bundle.limits import CHUNK, MANIFEST_JSON, MAX_SMALL_BLOB
from installer.bundle.manifest import HASH, BundleBlob, BundleImage, BundleManifest, chunk_count
from installer.bundle.signature import PublicKey, Trust, Verdict
from installer.bundle.volume import Metadata, VolumeFile
from installer.bundle.volume_set import VolumeSet
from installer.errors import BundleError, NotFoundError, StorageError
from installer.oci.digest import Digest
from installer.oci.model import Descriptor


class MediaPrompt(Protocol):
    """Somebody who can bring volumes that are not at hand."""

    def __call__(self, bundle: "Bundle", volumes: frozenset[int], why: str) -> None:
        """Add at least one of `volumes` (numbers from 0) to `bundle`; `why` is for the person who is asked.

        Raises IncompleteError if there is none of them.
        """


class Bundle:
    """A genuine bundle: its metadata is authenticated, and the structure of its volumes is checked.

    `manifest` is bundle.json, `verdict` tells who signed it, `volumes` and `images` are the files and the images.
    A context manager that closes the files. Safe to use from several threads.
    """

    def __init__(
        self,
        manifest: BundleManifest,
        metadata: Metadata,
        envelope: Envelope,
        verdict: Verdict,
        trust: Trust,
        on_missing_volume: MediaPrompt | None = None,
    ) -> None:
        self.manifest, self.verdict, self.trust = manifest, verdict, trust
        self._metadata, self._envelope, self._prompt = metadata, envelope, on_missing_volume
        self._blobs = {blob.digest: blob for blob in manifest.blobs}
        self._kept: dict[Digest, bytes] = {}
        self.volumes = VolumeSet(manifest, metadata)
        self.images = ImageGraph(manifest, self._blobs, self.read)

    @classmethod
    def open(cls, files: Sequence[VolumeFile], trust: Trust, *, on_missing_volume: MediaPrompt | None = None) -> Self:
        """The bundle whose volumes, or some of them, are `files`, in any order. Takes over closing them.

        `on_missing_volume` is asked for volumes that are needed and not at hand; without it that is an error.
        Raises UntrustedError, BundleError, IncompleteError, StorageError.
        """
        try:
            envelope = read_envelope(files[0])
            verdict = signature.verify(envelope.sums, envelope.slots, trust)  # step 2
            bundle = cls(*_first_metadata(files, envelope.sums), envelope, verdict, trust, on_missing_volume)
            for file in files[1:]:
                bundle._authenticate(file)
            bundle.volumes.add(files)
        except BaseException:
            for file in files:
                file.close()
            raise
        return bundle

    def add(self, file: VolumeFile) -> None:
        """Take over another volume, or a patch. For one thread, while no other one reads.

        Raises BundleError (OtherBundleError if it belongs to another one), UntrustedError, StorageError; the file is
        closed then.
        """
        try:
            self._authenticate(file)
            self.volumes.add([file])
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
            raise OtherBundleError(f"{file.path}: a volume of another bundle", hint="give the volumes of one bundle.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self.volumes.close()

    # --- metadata ---

    @property
    def signing_keys(self) -> tuple[PublicKey, ...]:
        """The trusted keys that signed."""
        return tuple(key for key in self.trust.keys if key.fingerprint in self.verdict.signers)

    def signed_digest(self, blob: BundleBlob, piece: int) -> Digest:
        """The digest that SHA256SUMS states of piece number `piece` of a blob."""
        return sums.digest_of(self._envelope.sums, blob.member(piece))

    def check_metadata(self, file: VolumeFile) -> None:
        """Step 3 for what a file repeats: nobody but stock tools ever reads it. Raises BundleError, StorageError."""
        check_metadata(file, self._envelope.sums)

    def check_docker_index(self) -> None:
        """Raises ContradictionError unless `manifest.json`, which only docker and podman read, follows from images."""
        if Digest.of(self.images.docker_index()) != sums.digest_of(self._envelope.sums, MANIFEST_JSON):
            raise ContradictionError(
                "manifest.json, which `docker load` reads, names other images, configurations or layers"
            )

    def metadata(self) -> Iterator[bytes]:
        """The bytes before the payload, the same in every file. Raises BundleError, StorageError."""
        file = next(iter((*self.volumes.files.values(), *self.volumes.patches)))
        self.check_metadata(file)
        for start in range(0, self._metadata.length, CHUNK):
            yield file.read(start, min(CHUNK, self._metadata.length - start))

    # --- volumes that are not at hand ---

    @property
    def can_ask(self) -> bool:
        """Whether somebody can be asked for volumes that are not at hand."""
        return self._prompt is not None

    def require(self, volumes: Collection[int], why: str) -> None:
        """Have at least one of `volumes` (numbers from 0) at hand; the media prompt is asked for it.

        For one thread, while no other one reads. Raises IncompleteError.
        """
        if self._prompt is None:
            raise self.volumes.incomplete(volumes)
        self._prompt(self, frozenset(volumes), why)

    def require_all(self) -> None:
        """Raises IncompleteError if a volume is not at hand."""
        self.volumes.require_all()

    def absent(self, digest: Digest) -> frozenset[int]:
        """The volumes, by number from 0, that are not at hand and that are needed to read a blob."""
        return frozenset() if digest in self._kept else self.volumes.absent(self.blob(digest))

    def lacking(self, image: BundleImage) -> list[BundleBlob]:
        """The blobs of an image that neither the bundle nor a patch holds: a registry must hold them."""
        return [blob for blob in self.manifest.parts(image) if not self.volumes.holds(blob)]

    # --- content ---

    def blob(self, digest: Digest) -> BundleBlob:
        """The entry of a blob. Raises NotFoundError."""
        try:
            return self._blobs[digest]
        except KeyError:
            raise NotFoundError(f"{digest}: not in this bundle") from None

    def read(self, digest: Digest, limit: int = MAX_SMALL_BLOB) -> bytes:
        """A whole blob of at most `limit` bytes, verified against its chunks and its digest.

        While volumes are missing, content that was read stays in memory (MAX_SMALL_BLOB bytes in all): its medium may
        be gone next time. Raises NotFoundError, BundleError, IncompleteError, StorageError.
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
        if self.volumes.missing and sum(map(len, self._kept.values())) + len(data) <= MAX_SMALL_BLOB:
            self._kept[digest] = data
        return data

    def keep(self, digests: Iterable[Digest]) -> None:
        """While volumes are missing: read those of the blobs that are at hand into memory, since their medium may go.

        Raises BundleError, IncompleteError, StorageError.
        """
        for digest in digests if self.volumes.missing else ():
            if not self.absent(digest):
                self.read(digest)

    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> "BlobReader":
        """A stream over a blob's verified bytes from `offset` on. Raises NotFoundError."""
        return BlobReader(self, self.blob(descriptor.digest), offset)

    def chunks(self, digest: Digest, start: int = 0, buffer: bytearray | None = None) -> Generator[memoryview]:
        """The chunks of a blob from number `start` on, each verified. A view is valid until the next is asked for.

        `buffer` holds a chunk; without it there is a new one. Raises NotFoundError, BundleError for damage,
        StorageError for a failing medium, IncompleteError for an absent volume.
        """
        blob = self.blob(digest)
        if digest in self._kept:
            for position in range(start * CHUNK, blob.size, CHUNK):
                yield memoryview(self._kept[digest])[position : position + CHUNK]
            return
        buffer = buffer or bytearray(min(CHUNK, blob.size))
        if not blob.carried:
            yield from self._patch_chunks(blob, start, buffer)
            return
        for number in range(start, chunk_count(blob.size)):
            try:
                yield self.chunk(blob, number, buffer)
            except BundleError as exc:
                raise BundleError(exc.message + self.images.needed_by(digest), hint=exc.hint) from exc

    def chunk(self, blob: BundleBlob, number: int, buffer: bytearray) -> memoryview:
        """Chunk `number` of a carried `blob`, read into `buffer` and verified there (step 7); from a patch, if one
        has it. Raises BundleError, StorageError, IncompleteError.
        """
        place = self.volumes.place(blob, number)
        if place.piece >= 0:
            self.volumes.check_frame(blob, place.piece)
        view = memoryview(buffer)[: place.length]
        place.file.read_into(view, place.offset)
        if blake3(view).digest() != blob.chunks[HASH * number : HASH * (number + 1)]:
            raise damaged_chunk(place.file.path, place.start, place.length, blob, number)
        return view

    def _patch_chunks(self, blob: BundleBlob, start: int, buffer: bytearray) -> Iterator[memoryview]:
        """The chunks of a blob that only a patch holds.

        No chunk hashes are signed for it, only its digest: the last chunk is held back until the whole is right.
        """
        if not self.volumes.holds(blob):
            raise not_carried(blob, self.images.needed_by(blob.digest))
        whole, last = hashlib.sha256(), chunk_count(blob.size) - 1

        def read(number: int) -> memoryview:
            file, offset = self.volumes.patch_place(blob, number)
            view = memoryview(buffer)[: min(CHUNK, blob.size - number * CHUNK)]
            file.read_into(view, offset)
            return view

        for number in range(start, last + 1):
            for before in range(last) if number == last and start else ():
                # Whoever begins in the middle has not hashed what lies before.
                whole.update(read(before))
            view = read(number)
            if number == last or not start:
                whole.update(view)
            if number == last and whole.hexdigest() != blob.digest.hex:
                path = self.volumes.patch_place(blob, number)[0].path
                raise BundleError(f"{path}: blob {blob.digest} is damaged in this patch", hint="copy it again.")
            yield view


def _first_metadata(files: Sequence[VolumeFile], signed: bytes) -> tuple[BundleManifest, Metadata]:
    """The metadata of the first of `files` in which they are whole; all repeat the same. Raises what the first does."""
    failure: BundleError | StorageError | None = None
    for file in files:
        try:
            return read_metadata(file, signed)
        except (BundleError, StorageError) as exc:
            failure = failure or exc
    raise failure or ValueError("no file at all")


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
