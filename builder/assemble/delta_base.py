"""What registries in enclaves hold already, and what a bundle for them may therefore leave out."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from builder.images.previous_bundle import open_own
from builder.recipe.lock import Lock, closure, reach
from installer.bundle.manifest import BundleBase, BundleManifest, content_of
from installer.errors import UsageError
from installer.files import read_bounded, storage_error
from installer.oci.digest import Digest
from installer.transfer.receipt import DIGITS, MAX_RECEIPT, RECEIPT, Receipt
from installer.value import Value


class Holding(Value):
    """A bundle that a registry has loaded: for each blob of its images the upstream repositories that hold it.

    Blobs are named by the first `digits` hex digits of their digests.
    """

    name: str
    version: str
    content: str
    repositories: Mapping[str, frozenset[str]]
    digits: int = 64

    def where(self, digest: Digest) -> frozenset[str]:
        """The repositories that hold a blob."""
        return self.repositories.get(digest.hex[: self.digits], frozenset())

    @classmethod
    def of_lock(cls, lock: Lock) -> "Holding":
        """What a registry holds after it has loaded the bundle of `lock`."""
        trees = lock.manifests_by_digest()
        closures = [(str(image.in_bundle().reference.repository), closure(trees, image)) for image in lock.images]
        content = content_of(blob.digest for blob in lock.blobs)
        return cls(lock.name, lock.version, content, _by_blob(closures))

    @classmethod
    def of_bundle(cls, manifest: BundleManifest) -> "Holding":
        """What a registry holds after it has loaded a bundle, whole or an update."""
        closures = [
            (str(image.reference.repository), {manifest.blobs[number].digest for number in image.parts})
            for image in manifest.images
        ]
        return cls(manifest.name, manifest.version, manifest.content, _by_blob(closures))

    @classmethod
    def of_receipt(cls, receipt: Receipt) -> "Holding":
        """What a receipt says, one with all digests."""
        held: dict[str, set[str]] = {}
        for repository, prefixes in receipt.repositories:
            for start in range(0, len(prefixes), DIGITS):
                held.setdefault(prefixes[start : start + DIGITS], set()).add(repository)
        frozen = {prefix: frozenset(names) for prefix, names in held.items()}
        return cls(receipt.name, receipt.version, receipt.content, frozen, DIGITS)


def _by_blob(closures: Iterable[tuple[str, Collection[Digest]]]) -> dict[str, frozenset[str]]:
    held: dict[str, set[str]] = {}
    for repository, digests in closures:
        for digest in digests:
            held.setdefault(digest.hex, set()).add(repository)
    return {digest: frozenset(names) for digest, names in held.items()}


class Omission(Value):
    """The blobs that a bundle leaves out, and the bases whose holders have them."""

    blobs: frozenset[Digest] = frozenset()
    bases: tuple[BundleBase, ...] = ()


WHOLE = Omission()
"""Nothing is left out."""


def omission(lock: Lock, everywhere: Sequence[Holding], sites: Mapping[str, Sequence[Holding]]) -> Omission:
    """What the bundle of `lock` may leave out.

    `everywhere` are bundles that all its receivers have loaded; `sites` are, by registry, what single ones hold. Left
    out is what each of them has, in whichever of its holdings. Manifests, charts and documents are always carried.
    """
    if not everywhere and not sites:
        return WHOLE
    candidates = _candidates(lock)
    having = [_best_first([*everywhere, *own], candidates) for own in sites.values() or [()]]
    found: set[Digest] = set()
    bases: dict[tuple[str, str, str], set[str]] = {}
    for digest, needed in candidates.items():
        owners = [[holding for holding in holdings if holding.where(digest)] for holdings in having]
        if not all(owners):
            continue
        found.add(digest)
        for holdings in owners:
            near = [holding for holding in holdings if holding.where(digest) & needed]
            chosen = (near or holdings)[0]
            names = bases.setdefault((chosen.name, chosen.version, chosen.content), set())
            if not near:
                names.add(min(chosen.where(digest)))
    entries = (BundleBase(*base, tuple(sorted(names))) for base, names in bases.items())
    return Omission(frozenset(found), tuple(sorted(entries, key=lambda base: f"{base} {base.content}")))


def _best_first(holdings: Iterable[Holding], wanted: Iterable[Digest]) -> list[Holding]:
    """In an order that does not depend on how they were named: those that hold most first, so that few are needed."""
    wanted = list(wanted)
    counts = [(sum(bool(holding.where(digest)) for digest in wanted), holding) for holding in holdings]
    ordered = sorted(counts, key=lambda item: (-item[0], item[1].name, item[1].version, item[1].content))
    return [holding for _, holding in ordered]


def _candidates(lock: Lock) -> dict[Digest, set[str]]:
    """What may be left out at all: layers and configurations of images, with the repositories that need them."""
    trees = lock.manifests_by_digest()
    blobs = lock.blobs_by_digest()
    always = {document.digest for document in lock.documents}
    always = always.union(*(reach(trees, chart.artifact) for chart in lock.charts))
    found: dict[Digest, set[str]] = {}
    for image in lock.images:
        repository = str(image.in_bundle().reference.repository)
        for digest in sorted(closure(trees, image) - trees.keys() - always):
            if blobs[digest].size:
                found.setdefault(digest, set()).add(repository)
    return found


def read_holding(place: Path) -> Holding:
    """What a registry holds after it has loaded the bundle in `place`: a lock, a bundle, or a folder of its volumes.

    Raises RecipeError, BundleError, IncompleteError, UsageError, StorageError.
    """
    if not place.is_dir() and _begins_as_json(place):
        return Holding.of_lock(Lock.load(place))
    with open_own([place]) as bundle:
        return Holding.of_bundle(bundle.manifest)


def _begins_as_json(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(1) == b"{"
    except OSError as exc:
        raise storage_error(exc, path, "read") from exc


def omission_of(lock: Lock, receipts: Sequence[str], earlier: Sequence[Path]) -> Omission:
    """What the bundle of `lock` may leave out by `receipts` (files, or lines of text) and `earlier` locks and bundles.

    A line of text names a bundle only: the earlier one with that content explains it, and says nothing else. Raises
    UsageError if there is none, and what `read_holding` raises.
    """
    read = [Receipt.decode(_content(text)) for text in receipts]
    holdings = [read_holding(place) for place in earlier]
    sites: dict[str, list[Holding]] = {}
    explained = set()
    for receipt in read:
        holding = Holding.of_receipt(receipt)
        if not receipt.repositories:
            found = next((item for item in holdings if item.content == receipt.content), None)
            if found is None:
                raise UsageError(
                    f"this receipt only says that {receipt.registry} holds {receipt.name} {receipt.version} "
                    f"(content {receipt.content})",
                    hint="name the lock or the bundle of that release too: --base OLD.lock.",
                )
            holding = found
            explained.add(receipt.content)
        sites.setdefault(receipt.registry, []).append(holding)
    return omission(lock, [item for item in holdings if item.content not in explained], sites)


def named_files(receipts: Iterable[str]) -> list[Path]:
    """The files among `receipts`; the others are lines of text."""
    return [Path(text) for text in receipts if not text.startswith(RECEIPT)]


def _content(receipt: str) -> bytes:
    files = named_files([receipt])
    return read_bounded(files[0], MAX_RECEIPT) if files else receipt.encode()
