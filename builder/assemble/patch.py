"""Answering a request: a patch that holds just what was damaged on the way, or what a registry lacks for an update."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from installer.bundle import canonical
from installer.bundle.envelope import member
from installer.bundle.limits import CHUNK
from installer.bundle.manifest import BundleBlob
from installer.bundle.patch import PATCH_JSON, Extent, PatchList, Request, members_of
from installer.bundle.reader import Bundle
from installer.bundle.tar import TRAILER, header, padded
from installer.errors import ContentError, UsageError
from installer.files import new_file
from installer.oci.source import BlobSource


def write_patch(bundle: Bundle, request: Request, out: Path, source: BlobSource | None = None) -> tuple[int, int]:
    """Write the patch that `request` asks for, from a `bundle` that is whole; its size in bytes and in chunks.

    What an update does not carry comes from `source`. The patch carries the bundle's metadata with all signatures, so
    nobody has to sign it. The same request gives the same bytes. Raises UsageError for a request for another bundle, or
    without a source that is needed, BundleError, IncompleteError, StorageError, ContentError where bytes differ from
    their digest, and what `source` raises.
    """
    wanted = request.wanted(bundle.manifest, bundle.verdict.sums)
    size = 0
    with new_file(out) as file:
        for piece in _content(bundle, wanted, source):
            size += file.write(piece)
    return size, sum(count for *_, count in wanted)


def _content(bundle: Bundle, extents: Sequence[Extent], source: BlobSource | None) -> Iterator[bytes | memoryview]:
    yield from bundle.metadata()
    yield member(PATCH_JSON, canonical.encode(PatchList(tuple(extents))))
    buffer = bytearray(CHUNK)
    for name, length, (number, first, count) in members_of(bundle.manifest, extents):
        blob = bundle.manifest.blobs[number]
        yield header(name, length)
        if blob.carried:
            for chunk in range(first, first + count):
                yield bundle.chunk(blob, chunk, buffer)
        else:
            yield from _fetched(blob, source, buffer)
        yield bytes(padded(length) - length)
    yield TRAILER


def _fetched(blob: BundleBlob, source: BlobSource | None, buffer: bytearray) -> Iterator[memoryview]:
    """All of a blob that the bundle itself does not carry."""
    if source is None:
        raise UsageError(
            f"{blob.digest}: asked for, but this update does not carry it",
            hint="name what holds it: --from OLD.tar, or --lock airferry.lock to fetch it.",
        )
    whole, left = hashlib.sha256(), blob.size
    with source.open(blob.descriptor) as stream:
        while left:
            view = memoryview(buffer)[: min(CHUNK, left)]
            count = stream.readinto(view)
            if not count:
                break
            whole.update(view[:count])
            yield view[:count]
            left -= count
    if left or whole.hexdigest() != blob.digest.hex:
        raise ContentError(f"blob {blob.digest}: its source delivers other content", hint="name another source.")
