"""From a plan to a bundle: fetch every blob into its place, then read the product back as the installer will."""

from collections.abc import Sequence
from pathlib import Path

from builder.assemble.contents import Contents
from installer.bundle.envelope import envelope_of
from installer.bundle.failures import ContradictionError
from installer.bundle.manifest import BundleBlob
from installer.bundle.part_files import finish_interrupted
from installer.bundle.reader import Bundle
from installer.bundle.signature import Trust
from installer.bundle.volume import VolumeFile
from installer.bundle.writer import write
from installer.errors import AirferryError, BundleError, RecipeError, StorageError
from installer.files import forget
from installer.oci.digest import Digest
from installer.oci.source import BlobSource, BlobStream
from installer.report import Reporter
from installer.verify.verification import verify

THREADS = 4
"""Downloads at a time: enough to keep two cores hashing while others wait for the network."""


def build(
    planned: Contents,
    source: BlobSource,
    outputs: Sequence[Path],
    reporter: Reporter,
    *,
    threads: int = THREADS,
    sync: bool = True,
) -> Digest:
    """Write the planned bundle to `outputs`, one file for each volume; the digest of its SHA256SUMS.

    With `sync` it returns only when the disk has everything and it was read back. The same contents give the same
    bytes. An interrupted build leaves parts (`NAME.part`), and the next one continues them; volumes that are complete
    already, signed or not, stay. Raises StorageError, ContentError, what `source` raises, and RecipeError for a bundle
    that contradicts itself.
    """
    finish_interrupted(outputs)
    if finished := _finished(outputs, planned, reporter):
        return finished

    def open_blob(blob: BundleBlob, offset: int) -> BlobStream:
        return source.open(blob.descriptor, offset)

    def read_back(parts: Sequence[Path], sums: Digest) -> None:
        for path in parts:
            forget(path)
        try:
            with Bundle.open([VolumeFile(path) for path in parts], Trust(sums=sums)) as bundle:
                verify(bundle, reporter)
        except ContradictionError as exc:
            raise RecipeError(exc.message, hint="the lock makes it so: run `airferry lock` again.") from exc
        except BundleError as exc:
            raise StorageError(
                f"the disk returns something else than was written: {exc.message}",
                hint="run the same command again: it writes what is wrong anew; or choose another disk.",
            ) from exc

    return write(
        outputs,
        planned.skeleton,
        planned.manifest_json,
        open_blob,
        reporter,
        threads=threads,
        sync=sync,
        # Without waiting for the disk, what can be read are the same pages of memory.
        check=read_back if sync else lambda _parts, _sums: None,
    )


def _finished(outputs: Sequence[Path], planned: Contents, reporter: Reporter) -> Digest | None:
    """The digest of SHA256SUMS if `outputs` hold exactly what is planned, by the SHA-256 of every blob; else None."""
    try:
        sums = Digest.of(envelope_of(outputs[0]).sums)
        with Bundle.open([VolumeFile(path) for path in outputs], Trust(sums=sums)) as bundle:
            if bundle.volumes.missing or bundle.manifest.without_chunks() != planned.skeleton.without_chunks():
                return None
            reporter.note(f"{', '.join(path.name for path in outputs)}: built already; checked once more")
            verify(bundle, reporter, sha256=True)
    except AirferryError:
        return None
    return sums
