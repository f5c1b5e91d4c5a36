"""What is wrong with the volumes at hand: each unreadable or altered chunk, its place, and the images that need it."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from installer.bundle.buffers import Buffers
from installer.bundle.limits import CHUNK
from installer.bundle.manifest import BundleBlob, chunk_count
from installer.bundle.patch import Request
from installer.errors import AirferryError, BundleError, IncompleteError, StorageError
from installer.report import Reporter
from installer.value import Value, plain

if TYPE_CHECKING:
    from installer.bundle.reader import Bundle
    from installer.verify.verification_report import Witness

_STRIPE = 4
_MAX_LINES = 20


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
    bundle: "Bundle",
    reporter: Reporter,
    volumes: Collection[int],
    *,
    sha256: bool = False,
    threads: int = 2,
) -> list[Damage]:
    """Read every byte of `volumes` (numbers from 0, at hand) and compare it; with `sha256`, also with SHA256SUMS.

    Goes on to the end, whatever it meets.
    """
    manifest = bundle.manifest
    blobs = [blob for blob in manifest.blobs if bundle.holds(blob.digest)]
    patched = sum(blob.size for blob in blobs if not blob.carried)
    carried = sum(length for blob in blobs for volume, _, length in blob.pieces if volume in volumes)
    reporter.begin("verify", carried + patched)
    buffers = Buffers()

    def examine(work: tuple[BundleBlob, range]) -> list[Damage]:
        with buffers.one() as buffer:
            return _examine(bundle, *work, buffer, reporter, sha256=sha256)

    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(examine, _stripes(blobs, volumes, whole=sha256))
        findings = _metadata(bundle, volumes) + [damage for each in found for damage in each]
    reporter.end()
    return findings


def _metadata(bundle: "Bundle", volumes: Collection[int]) -> list[Damage]:
    """What is wrong with the metadata in front of each volume and patch."""
    findings = []
    for number, file in bundle.fronts(volumes):
        try:
            bundle.check_metadata(file)
        except (BundleError, StorageError) as exc:
            kind = "unreadable" if isinstance(exc, StorageError) else "wrong"
            findings.append(Damage(kind, exc.message, number, str(file.path)))
    return findings


class Findings(Value):
    """What came of verifying: damages, and the volumes (numbers from 0) that nobody has looked at."""

    damages: tuple[Damage, ...]
    unseen: frozenset[int]

    def document(self) -> dict[str, Any]:
        """As plain values; volumes count from 1."""
        return {
            "verified": not self.damages and not self.unseen,
            "damages": [damage.document() for damage in self.damages],
            "unseen_volumes": [number + 1 for number in sorted(self.unseen)],
        }

    def request(self, bundle: "Bundle", *, partial: bool = False) -> Request | None:
        """What a patch would have to hold; None if there is nothing that a patch can mend.

        Volumes that nobody has looked at are lost, unless it was meant to be `partial`.
        """
        numbers = {blob.digest.text: number for number, blob in enumerate(bundle.manifest.blobs)}
        chunks = [(numbers[item.blob], item.chunk) for item in self.damages if item.chunk >= 0 and item.length]
        lost = () if partial else tuple(number + 1 for number in sorted(self.unseen))
        return Request.of(bundle.verdict.sums, chunks, lost) if chunks or lost else None

    @property
    def text(self) -> str:
        """The verdict, if nothing is damaged."""
        return "genuine, and every byte of these volumes is whole" if self.unseen else "genuine and whole"

    def check(self, bundle: "Bundle", *, partial: bool) -> None:
        """Raises BundleError if something is damaged, IncompleteError unless all volumes were seen or `partial`."""
        if self.damages:
            raise damage_error(bundle, self.damages)
        if self.unseen and not partial:
            raise bundle.incomplete(self.unseen)


def verify_by_turns(
    bundle: "Bundle",
    reporter: Reporter,
    *,
    sha256: bool = False,
    witness: "Witness | None" = None,
) -> Findings:
    """Verify the volumes at hand, then others as far as somebody brings them; `witness` sees each turn and the end."""
    found: list[Damage] = []
    unseen = frozenset(range(len(bundle.manifest.volumes)))
    while True:
        now = bundle.at_hand & unseen
        if witness:
            witness.attend(bundle)
        found += damages(bundle, reporter, now, sha256=sha256)
        unseen -= now
        if not found:
            bundle.keep_manifests()
        if not unseen or bundle.changer is None:
            break
        try:
            bundle.require(unseen, "not verified yet")
        except IncompleteError:
            break
    if not found and not unseen:
        found = open_images(bundle)
    findings = Findings(tuple(found), unseen)
    if witness:
        witness.conclude(bundle, findings, sha256=sha256)
    return findings


def _examine(
    bundle: "Bundle", blob: BundleBlob, numbers: range, buffer: bytearray, reporter: Reporter, *, sha256: bool
) -> list[Damage]:
    """What is wrong with the given chunks of a blob; with `sha256` they are whole pieces, compared with SHA256SUMS."""
    findings = []
    if not blob.carried:
        return _examine_patched(bundle, blob, buffer, reporter)
    sums = _Sums(bundle, blob, numbers) if sha256 else None
    try:
        if not blob.size:
            bundle.check_frame(blob, 0)
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
        volume, file, *_ = bundle.where(blob, sums.wrong[0])
        text, owners = f"blob {blob.digest}: its content has another SHA-256", tuple(bundle.owners(blob.digest))
        findings.append(Damage("wrong", text, volume + 1, str(file), blob=blob.digest.text, images=owners))
    return findings


class _Sums:
    """The SHA-256 of pieces of a blob, and that of the blob where all of it is read; chunks come in order."""

    def __init__(self, bundle: "Bundle", blob: BundleBlob, numbers: range) -> None:
        pieces = enumerate(blob.runs()) if len(blob.pieces) > 1 else ()
        self._ends = {run.stop - 1: (run.start, bundle.signed(blob, piece)) for piece, (_, run) in pieces}
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


def _examine_patched(bundle: "Bundle", blob: BundleBlob, buffer: bytearray, reporter: Reporter) -> list[Damage]:
    """What is wrong with a blob that the bundle does not carry, and that a patch has brought."""
    left = blob.size
    try:
        for view in bundle.chunks(blob.digest, 0, buffer):
            reporter.advance(len(view))
            left -= len(view)
    except (BundleError, StorageError) as exc:
        reporter.advance(left)
        kind = "unreadable" if isinstance(exc, StorageError) else "wrong"
        return [Damage(kind, exc.message, blob=blob.digest.text, images=tuple(bundle.owners(blob.digest)))]
    return []


def _damage(bundle: "Bundle", blob: BundleBlob, number: int, exc: AirferryError) -> Damage:
    volume, file, offset, length = bundle.where(blob, number)
    return Damage(
        "unreadable" if isinstance(exc, StorageError) else "wrong",
        exc.message + bundle.needed_by(blob.digest),
        volume + 1,
        str(file),
        offset,
        length,
        blob.digest.text,
        number,
        tuple(bundle.owners(blob.digest)),
    )


def _stripes(
    blobs: Sequence[BundleBlob], volumes: Collection[int], *, whole: bool
) -> Iterator[tuple[BundleBlob, range]]:
    """Work in payload order: runs of chunks in `volumes`, or `whole` pieces, and blobs where all of their pieces are.

    A blob is in one piece unless it is cut.
    """
    for blob in blobs:
        runs = [run for volume, run in blob.runs() if volume in volumes]
        if not blob.carried or (whole and len(runs) == len(blob.pieces)):
            runs = [range(chunk_count(blob.size))]
        for run in runs:
            step = max(len(run), 1) if whole or not blob.carried else _STRIPE
            for first in range(run.start, max(run.stop, run.start + 1), step):
                yield blob, range(first, min(first + step, run.stop))


def open_images(bundle: "Bundle") -> list[Damage]:
    """Images with parts that the bundle does not hold, as far as their manifests can be read without changing media."""
    findings = []
    for image in bundle.manifest.images:
        if any(bundle.absent(blob.digest) for blob in bundle.manifest.parts(image) if blob.is_manifest):
            continue
        try:
            bundle.closure(image)
        except AirferryError as exc:
            findings.append(Damage("wrong", exc.message, images=(image.source,)))
    return findings


def damage_error(bundle: "Bundle", found: Sequence[Damage]) -> BundleError:
    """The error that lists what was found, and says which images are whole in spite of it."""
    lines = [damage.message for damage in found[:_MAX_LINES]]
    if len(found) > _MAX_LINES:
        lines.append(f"and {len(found) - _MAX_LINES} more")
    images = [image.source for image in bundle.manifest.images]
    hurt = {source for damage in found for source in damage.images}
    if images:
        lines.append(f"{len(images) - len(hurt)} of {len(images)} images need nothing of that")
    far = "if that is far away: `verify --request FILE` of the installer."
    return BundleError("\n".join(lines), hint=f"copy it again; {far}")
