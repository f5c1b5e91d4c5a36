"""Writing a bundle: every blob straight into its final place, metadata last, an interrupted build resumed.

A later run knows what to expect at every place of the part files, checks that it is really there, and fetches only the
rest; see `installer.bundle.part_files`.
"""

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from installer.buffers import Buffers
from installer.bundle.limits import CHUNK
from installer.bundle.manifest import BundleBlob, BundleManifest, chunk_count
from installer.bundle.part_files import Check, PartFiles
from installer.errors import REFUSALS, AirferryError, ContentError, several
from installer.oci.digest import Digest
from installer.oci.source import BlobStream
from installer.parallel import SMALL, Pace, each
from installer.report import Reporter

OpenBlob = Callable[[BundleBlob, int], BlobStream]
"""The bytes of a blob from an offset on."""


def write(
    paths: Sequence[Path],
    skeleton: BundleManifest,
    manifest_json: bytes,
    open_blob: OpenBlob,
    reporter: Reporter,
    *,
    threads: int = 4,
    sync: bool = True,
    check: Check = lambda _parts, _sums: None,
) -> Digest:
    """Write the volumes of `skeleton` (its chunk hashes are ignored) to `paths`, and return the digest of SHA256SUMS.

    `open_blob(blob, offset)` gives a blob's bytes from an offset on. Continues what an interrupted run left beside
    `paths`. With `sync` it returns only when the disk has everything. `check` sees the finished files before they get
    their names; what it raises leaves them unfinished. Raises StorageError, ContentError where bytes differ from their
    digest, and what `open_blob` raises: the REFUSALS of all images in one, when the other images are there.
    """
    with PartFiles(paths, skeleton.without_chunks(), manifest_json, sync=sync) as parts:
        carried = [blob for blob in parts.skeleton.blobs if blob.carried]
        reporter.begin("build", sum(blob.size for blob in carried))
        work = sorted(carried, key=lambda blob: blob.size, reverse=True)
        pace, buffers = Pace(threads), Buffers(CHUNK)
        slices: dict[Digest, list[Digest]] = {}
        refused: dict[Digest, AirferryError] = {}
        owners: dict[Digest, list[str]] = {}
        for image in parts.skeleton.images:
            for blob in parts.skeleton.parts(image):
                owners.setdefault(blob.digest, []).append(image.source)
        lost: set[str] = set()

        def fill(blob: BundleBlob) -> None:
            needed_by = owners.get(blob.digest, ())
            if needed_by and all(source in lost for source in needed_by):
                return
            try:
                fetch(blob)
            except REFUSALS as exc:
                refused[blob.digest] = exc
                lost.update(needed_by)

        def fetch(blob: BundleBlob) -> None:
            turn = contextlib.nullcontext() if _waits(blob) else pace.turn()
            with turn, buffers.holding(blob.size) as buffer:
                _fill(parts, blob, open_blob, memoryview(buffer), reporter, pace)
                if len(blob.pieces) > 1 and not parts.stop.is_set():
                    slices[blob.digest] = _slices(parts, blob, memoryview(buffer))

        each(
            fill,
            work,
            threads=threads,
            stop=parts.stop,
            waits=_waits,
        )
        if refused:
            raise _refusal(parts.skeleton, refused)
        reporter.end()
        return parts.finish(slices, check)


def _refusal(skeleton: BundleManifest, refused: Mapping[Digest, AirferryError]) -> AirferryError:
    """One error for all images and other content that need a blob in `refused`."""
    errors: list[AirferryError] = []
    alone = dict(refused)
    for image in skeleton.images:
        digests = [blob.digest for blob in skeleton.parts(image) if blob.digest in refused]
        if digests:
            error = refused[digests[0]]
            errors.append(type(error)(f"{image.source}: {error.message}", hint=error.hint))
        for digest in digests:
            alone.pop(digest, None)
    return several([*errors, *alone.values()], "refusals; all other content is kept for the next run")


def _waits(blob: BundleBlob) -> bool:
    return blob.size <= SMALL


def _fill(
    parts: PartFiles, blob: BundleBlob, open_blob: OpenBlob, buffer: memoryview, reporter: Reporter, pace: Pace
) -> None:
    """Write one blob to its place, from where the last run stopped. `buffer` holds a chunk of it."""
    count = chunk_count(blob.size)
    whole = hashlib.sha256()
    start = parts.present(blob, buffer, whole.update)
    if start == count and whole.hexdigest() != blob.digest.hex:
        # Whoever may write beside the output can also write what the journal says.
        parts.forget(blob)
        start, whole = 0, hashlib.sha256()
    reporter.advance(min(start * CHUNK, blob.size))
    if start or not blob.size:
        # A header may be lost where the power failed after its chunk had reached the disk.
        for piece in range(len(blob.pieces)):
            parts.frame(blob, piece)
    if start < count:
        with open_blob(blob, start * CHUNK) as stream:
            for number in range(start, count):
                if parts.stop.is_set():
                    return
                view = buffer[: min(CHUNK, blob.size - number * CHUNK)]
                before = pace.clock()
                _read_full(stream, view, blob)
                fetched = pace.clock()
                whole.update(view)
                if number == count - 1 and whole.hexdigest() != blob.digest.hex:
                    parts.forget(blob)
                    raise ContentError(
                        f"blob {blob.digest}: its source delivers other content (sha256:{whole.hexdigest()})",
                        hint="the source is damaged or was tampered with; run again, or fetch from another mirror.",
                    )
                parts.put(blob, number, view)
                if not _waits(blob):
                    pace.took(fetched - before, pace.clock() - fetched)
                reporter.advance(len(view))


def _read_full(stream: BlobStream, view: memoryview, blob: BundleBlob) -> None:
    done = 0
    while done < len(view):
        count = stream.readinto(view[done:])
        if not count:
            raise ContentError(f"blob {blob.digest}: its source ends before {blob.size} bytes")
        done += count


def _slices(parts: PartFiles, blob: BundleBlob, buffer: memoryview) -> list[Digest]:
    """The SHA-256 of each piece of a blob that is cut across volumes, as SHA256SUMS names them."""
    digests, position = [], 0
    for _, _, length in blob.pieces:
        whole = hashlib.sha256()
        for start in range(position, position + length, CHUNK):
            view = buffer[: min(CHUNK, position + length - start)]
            parts.get(blob, start // CHUNK, view)
            whole.update(view)
        digests.append(Digest.from_hex(whole.hexdigest()))
        position += length
    return digests
