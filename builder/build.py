"""From a lock to a bundle: fetch every blob into its place, then read the product back as the installer will."""

from pathlib import Path

from builder.contents import contents
from builder.lock import Lock
from installer.bundle.manifest import BundleBlob
from installer.bundle.reader import Bundle
from installer.bundle.signature import Trust
from installer.bundle.volume import VolumeFile
from installer.bundle.writer import write
from installer.oci.digest import Digest
from installer.oci.source import BlobSource, BlobStream
from installer.report import Reporter

THREADS = 4
"""Downloads at a time: enough to keep two cores hashing while others wait for the network."""


def build(lock: Lock, source: BlobSource, output: Path, reporter: Reporter, *, threads: int = THREADS) -> Digest:
    """Write the bundle of `lock` to `output` and verify it; the digest of its SHA256SUMS.

    The same lock gives the same bytes. An interrupted build leaves `output.part`, and the next one continues it.
    Raises StorageError, ContentError, RecipeError and what `source` raises.
    """
    planned = contents(lock)

    def open_blob(blob: BundleBlob, offset: int) -> BlobStream:
        return source.open(blob.descriptor, offset)

    digest = write([output], planned.skeleton, planned.manifest_json, open_blob, reporter, threads=threads)
    with Bundle.open([VolumeFile(output)], Trust(sums=digest)) as bundle:
        bundle.verify(reporter)
    return digest
