"""Which blobs that an update leaves out the registry holds already; it is asked before anything is written there.

Such a blob must lie in a repository that needs it, or in one of the base that the update names, from where it can be
mounted. Each costs two requests, the second one for its last byte. A receipt that names a blob proves nothing.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from installer.bundle.manifest import BundleBlob, BundleImage, chunk_count
from installer.bundle.patch import Request
from installer.bundle.reader import Bundle
from installer.chart.relocation import Relocation
from installer.errors import ContentError, LackingError, NotFoundError, RegistryAccessError, RegistryUnreachableError
from installer.oci.digest import Digest
from installer.oci.reference import Repository
from installer.parallel import each
from installer.registry.client import Registry
from installer.report import count, size
from installer.value import Value

_MAX_LINES = 20


class ExistingBlobs(Value):
    """`holders`: for each blob that the bundle leaves out, a repository that holds it. `lacking`: those in none."""

    holders: Mapping[Digest, Repository]
    lacking: tuple[BundleBlob, ...]


def find_existing_blobs(
    bundle: Bundle, registry: Registry, relocation: Relocation, images: Iterable[BundleImage], *, threads: int = 4
) -> ExistingBlobs:
    """Look for all blobs that `images` need and that neither `bundle` nor its patches hold.

    Looks in the repositories of these images, then in those of the bases. Raises RegistryUnreachableError,
    RegistryAccessError, ContentError.
    """
    needed_in: dict[Digest, dict[Repository, None]] = {}
    for image in images:
        for blob in bundle.lacking(image):
            needed_in.setdefault(blob.digest, {})[relocation.target(image.reference).repository] = None
    names = {name for base in bundle.manifest.bases for name in base.repositories}
    bases = [relocation.repository(name) for name in sorted(names)]
    wanted = [bundle.blob(digest) for digest in needed_in]
    holders: dict[Digest, Repository] = {}

    def look(blob: BundleBlob) -> None:
        found = next((place for place in needed_in[blob.digest] if registry.has_blob(place, blob.descriptor)), None)
        found = found or next(_allowed(registry, blob, bases), None)
        if found:
            _deliver(registry, found, blob)
            holders[blob.digest] = found

    each(look, wanted, threads=threads, stop=threading.Event(), waits=lambda _: True)
    return ExistingBlobs(holders, tuple(blob for blob in wanted if blob.digest not in holders))


def _deliver(registry: Registry, place: Repository, blob: BundleBlob) -> None:
    """Fetch the last byte of a blob: some registries still list a blob that was cleared away. Raises ContentError."""
    try:
        with registry.open(place, blob.descriptor, blob.size - 1) as stream:
            stream.readinto(memoryview(bytearray(1)))
    except (NotFoundError, RegistryUnreachableError) as exc:
        raise ContentError(
            f"{place}@{blob.digest}: the registry says that it holds this blob, and does not deliver it",
            hint="something was cleared away behind its back: restart the registry, then run the same command again.",
        ) from exc


def _allowed(registry: Registry, blob: BundleBlob, places: Sequence[Repository]) -> Iterator[Repository]:
    """The `places` that hold a blob, except those that we may not look into."""
    for place in places:
        try:
            if registry.has_blob(place, blob.descriptor):
                yield place
        except RegistryAccessError:
            continue


def request_for(bundle: Bundle, lacking: Sequence[BundleBlob]) -> Request | None:
    """The request for a patch that brings these blobs; None if nothing is lacking."""
    numbers = {blob.digest: number for number, blob in enumerate(bundle.manifest.blobs)}
    chunks = [(numbers[blob.digest], chunk) for blob in lacking for chunk in range(chunk_count(blob.size))]
    return Request.of(bundle.verdict.sums, chunks) if chunks else None


def lacking_document(bundle: Bundle, lacking: Sequence[BundleBlob]) -> list[dict[str, Any]]:
    """The lacking blobs as plain values."""
    return [
        {"digest": blob.digest.text, "bytes": blob.size, "images": list(bundle.images.owners(blob.digest))}
        for blob in lacking
    ]


def lacking_error(bundle: Bundle, lacking: Sequence[BundleBlob]) -> LackingError:
    """The error that names what the registry lacks, and says which images need nothing of it."""
    bases = ", ".join(map(str, bundle.manifest.bases))
    total = size(sum(blob.size for blob in lacking))
    blobs = f"{count(len(lacking), 'blob')} ({total})"
    lines = [f"this update of {bases} leaves out {blobs} that the registry does not hold either:"]
    lines += [
        f"{blob.digest} ({size(blob.size)}){bundle.images.needed_by(blob.digest)}" for blob in lacking[:_MAX_LINES]
    ]
    if len(lacking) > _MAX_LINES:
        lines.append(f"and {len(lacking) - _MAX_LINES} more")
    images = bundle.manifest.images
    hurt = {source for blob in lacking for source in bundle.images.owners(blob.digest)}
    lines.append(f"{len(images) - len(hurt)} of {len(images)} images need nothing of that; nothing was sent")
    return LackingError(
        "\n".join(lines),
        hint=f"load {bases} first, or a whole bundle; or ask for just these: `load --request FILE`.",
        digests=tuple(blob.digest.text for blob in lacking),
    )
