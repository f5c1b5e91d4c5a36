"""Answering a request: a patch that holds just the chunks that were damaged on the way."""

from collections.abc import Iterator
from pathlib import Path

from installer.bundle import canonical
from installer.bundle.limits import CHUNK
from installer.bundle.patch import PATCH_JSON, PatchList, Request, members_of
from installer.bundle.reader import Bundle
from installer.bundle.tar import TRAILER, header, padded
from installer.bundle.writer import member
from installer.files import new_file


def write_patch(bundle: Bundle, request: Request, out: Path) -> int:
    """Write the patch that `request` asks for, from a `bundle` that is whole; its size in bytes.

    It carries the bundle's metadata with all signatures, so nobody has to sign it. The same request gives the same
    bytes. Raises UsageError for a request for another bundle, BundleError, IncompleteError, StorageError.
    """
    request.check(bundle.manifest, bundle.verdict.sums)
    size = 0
    with new_file(out) as file:
        for piece in _content(bundle, request):
            size += file.write(piece)
    return size


def _content(bundle: Bundle, request: Request) -> Iterator[bytes | memoryview]:
    yield from bundle.front()
    yield member(PATCH_JSON, canonical.encode(PatchList(request.extents)))
    buffer = bytearray(CHUNK)
    for name, length, (blob, first, count) in members_of(bundle.manifest, request.extents):
        yield header(name, length)
        for number in range(first, first + count):
            yield bundle.chunk(bundle.manifest.blobs[blob], number, buffer)
        yield bytes(padded(length) - length)
    yield TRAILER
