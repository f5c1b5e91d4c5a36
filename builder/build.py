"""From a lock to a bundle: fetch every blob into its place, then read the product back as the installer will."""

from pathlib import Path

from builder.contents import Contents, contents
from builder.lock import Lock
from builder.sign import sums_of
from installer.bundle.manifest import BundleBlob
from installer.bundle.reader import Bundle
from installer.bundle.signature import Trust
from installer.bundle.volume import VolumeFile
from installer.bundle.writer import write
from installer.errors import AirferryError
from installer.oci.digest import Digest
from installer.oci.source import BlobSource, BlobStream
from installer.report import Reporter

THREADS = 4
"""Downloads at a time: enough to keep two cores hashing while others wait for the network."""


def build(
    lock: Lock, source: BlobSource, output: Path, reporter: Reporter, *, threads: int = THREADS, sync: bool = True
) -> Digest:
    """Write the bundle of `lock` to `output`; the digest of its SHA256SUMS.

    With `sync` it returns only when the disk has everything and it was read back. The same lock gives the same bytes.
    An interrupted build leaves `output.part`, and the next one continues it; an `output` that is complete already,
    signed or not, stays.
    Raises StorageError, ContentError, RecipeError and what `source` raises.
    """
    planned = contents(lock)
    if finished := _finished(output, planned, reporter):
        return finished

    def open_blob(blob: BundleBlob, offset: int) -> BlobStream:
        return source.open(blob.descriptor, offset)

    digest = write([output], planned.skeleton, planned.manifest_json, open_blob, reporter, threads=threads, sync=sync)
    if not sync:
        # What could be read now are the same pages of memory.
        return digest
    with Bundle.open([VolumeFile(output)], Trust(sums=digest)) as bundle:
        bundle.verify(reporter)
    return digest


def _finished(output: Path, planned: Contents, reporter: Reporter) -> Digest | None:
    """The digest of SHA256SUMS if `output` holds exactly what is planned, by the SHA-256 of every blob; else None."""
    try:
        sums = Digest.of(sums_of(output))
        with Bundle.open([VolumeFile(output)], Trust(sums=sums)) as bundle:
            if bundle.manifest.without_chunks() != planned.skeleton.without_chunks():
                return None
            reporter.note(f"{output} was built already; it is checked once more")
            bundle.verify(reporter, sha256=True)
    except AirferryError:
        return None
    return sums
