"""Damage in the volumes at hand: each unreadable or altered chunk, its place, and the images that need it."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from installer.buffers import Buffers
from installer.bundle.limits import CHUNK
from installer.bundle.manifest import BundleBlob, chunk_count
from installer.bundle.reader import Bundle
from installer.errors import AirferryError, BundleError, StorageError
from installer.report import Reporter
from installer.value import Value, plain

_STRIPE = 4
"""Chunks of a blob that one thread reads in a row."""


class Damage(Value):
    """A chunk that cannot be used, or (with `chunk` -1) something else about a blob or an image.

    `kind` is `unreadable` where the medium fails, `wrong` where bytes are not what was signed. `volume` counts from 1
    (0: none in particular), `offset` and `length` are bytes of its file. `images` are those that need the chunk.
    """

    kind: str
    message: str
    volume: int = 0
    file: str = ""
    offset: int = 0
    length: int = 0
    blob: str = ""
    chunk: int = -1
    images: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """As plain values."""
        return plain(self) | {"images": list(self.images)}


def damages(
    bundle: Bundle,
    reporter: Reporter,
    volumes: Collection[int],
    *,
    sha256: bool = False,
    threads: int = 2,
) -> list[Damage]:
    """Read every byte of `volumes` (numbers from 0, at hand) and compare it; with `sha256`, also with SHA256SUMS.

    Reads to the end even if it finds damage.
    """
    manifest = bundle.manifest
    blobs = [blob for blob in manifest.blobs if bundle.volumes.holds(blob)]
    patched = sum(blob.size for blob in blobs if not blob.carried)
    carried = sum(length for blob in blobs for volume, _, length in blob.pieces if volume in volumes)
    reporter.begin("verify", carried + patched)
    buffers = Buffers(CHUNK)

    def examine(work: tuple[BundleBlob, range]) -> list[Damage]:
        with buffers.one() as buffer:
            return _examine(bundle, *work, buffer, reporter, sha256=sha256)

    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(examine, _stripes(blobs, volumes, whole=sha256))
        findings = _metadata(bundle, volumes) + [damage for each in found for damage in each]
    reporter.end()
    return findings


def _metadata(bundle: Bundle, volumes: Collection[int]) -> list[Damage]:
    """Damage to the metadata in front of each volume and patch."""
    findings = []
    # A patch counts as volume 0.
    numbered = [(number + 1, file) for number, file in sorted(bundle.volumes.files.items()) if number in volumes]
    for number, file in [*numbered, *((0, file) for file in bundle.volumes.patches)]:
        try:
            bundle.check_metadata(file)
        except (BundleError, StorageError) as exc:
            kind = "unreadable" if isinstance(exc, StorageError) else "wrong"
            findings.append(Damage(kind, exc.message, number, str(file.path)))
    return findings


def _examine(
    bundle: Bundle, blob: BundleBlob, numbers: range, buffer: bytearray, reporter: Reporter, *, sha256: bool
) -> list[Damage]:
    """Damage to the given chunks of a blob; with `sha256` they are whole pieces, compared with SHA256SUMS."""
    findings = []
    if not blob.carried:
        return _examine_patched(bundle, blob, buffer, reporter)
    sums = _Sums(bundle, blob, numbers) if sha256 else None
    try:
        if not blob.size:
            bundle.volumes.check_frame(blob, 0)
    except (BundleError, StorageError) as exc:
        findings.append(_damage(bundle, blob, 0, exc))
    for number in numbers:
        try:
            view = bundle.chunk(blob, number, buffer)
        except (BundleError, StorageError) as exc:
            findings.append(_damage(bundle, blob, number, exc))
        else:
            if sums is not None:
                sums.update(number, view)
        reporter.advance(min(CHUNK, blob.size - number * CHUNK))
    if sums is not None and not findings and sums.wrong:
        place = bundle.volumes.place(blob, sums.wrong[0])
        text, owners = f"blob {blob.digest}: its content has another SHA-256", tuple(bundle.images.owners(blob.digest))
        path = str(place.file.path)
        findings.append(Damage("wrong", text, place.volume + 1, path, blob=blob.digest.text, images=owners))
    return findings


class _Sums:
    """Computes the SHA-256 of each piece of a blob, and of the blob where all of it is read. Takes chunks in order."""

    def __init__(self, bundle: Bundle, blob: BundleBlob, numbers: range) -> None:
        pieces = enumerate(blob.runs()) if len(blob.pieces) > 1 else ()
        self._ends = {run.stop - 1: (run.start, bundle.signed_digest(blob, piece)) for piece, (_, run) in pieces}
        self._piece = hashlib.sha256()
        self._whole = hashlib.sha256() if len(numbers) == chunk_count(blob.size) else None
        self._digest, self._wrong = blob.digest, list[int]()

    def update(self, number: int, view: memoryview) -> None:
        """Take chunk `number`."""
        if self._whole is not None:
            self._whole.update(view)
        if self._ends:
            self._piece.update(view)
        if number in self._ends:
            start, signed = self._ends[number]
            self._wrong += [start] if self._piece.hexdigest() != signed.hex else []
            self._piece = hashlib.sha256()

    @property
    def wrong(self) -> list[int]:
        """The first chunk of each piece, or of the blob, that is not as it was signed."""
        if not self._wrong and self._whole is not None and self._whole.hexdigest() != self._digest.hex:
            return [0]
        return self._wrong


def _examine_patched(bundle: Bundle, blob: BundleBlob, buffer: bytearray, reporter: Reporter) -> list[Damage]:
    """Damage to a blob that the bundle does not carry and that a patch provides."""
    left = blob.size
    try:
        for view in bundle.chunks(blob.digest, 0, buffer):
            reporter.advance(len(view))
            left -= len(view)
    except (BundleError, StorageError) as exc:
        reporter.advance(left)
        kind = "unreadable" if isinstance(exc, StorageError) else "wrong"
        return [Damage(kind, exc.message, blob=blob.digest.text, images=tuple(bundle.images.owners(blob.digest)))]
    return []


def _damage(bundle: Bundle, blob: BundleBlob, number: int, exc: AirferryError) -> Damage:
    place = bundle.volumes.place(blob, number)
    return Damage(
        "unreadable" if isinstance(exc, StorageError) else "wrong",
        exc.message + bundle.images.needed_by(blob.digest),
        place.volume + 1,
        str(place.file.path),
        place.start,
        place.length,
        blob.digest.text,
        number,
        tuple(bundle.images.owners(blob.digest)),
    )


def _stripes(
    blobs: Sequence[BundleBlob], volumes: Collection[int], *, whole: bool
) -> Iterator[tuple[BundleBlob, range]]:
    """Work in payload order: each blob with some of its chunks that lie in `volumes`.

    If `whole`, a piece is not divided, nor is a blob whose pieces are all there. A blob has one piece unless it is cut.
    """
    for blob in blobs:
        runs = [run for volume, run in blob.runs() if volume in volumes]
        if not blob.carried or (whole and len(runs) == len(blob.pieces)):
            runs = [range(chunk_count(blob.size))]
        for run in runs:
            step = max(len(run), 1) if whole or not blob.carried else _STRIPE
            for first in range(run.start, max(run.stop, run.start + 1), step):
                yield blob, range(first, min(first + step, run.stop))
