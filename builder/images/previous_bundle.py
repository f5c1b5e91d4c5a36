"""Bundles that were built before: opened without a key, since they are the sender's own; sources of bytes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from installer.bundle.envelope import envelope_of
from installer.bundle.reader import Bundle
from installer.bundle.signature import Trust
from installer.bundle.volume import VolumeFile
from installer.errors import BundleError, NotFoundError, StorageError
from installer.oci.digest import Digest
from installer.oci.model import Descriptor
from installer.oci.source import BlobSource, BlobStream
from installer.opening.volume_discovery import expand
from installer.report import Reporter


def open_own(places: Sequence[Path]) -> Bundle:
    """The bundle in `places` (files, folders of volumes). Nobody vouches for it: what is taken from it is compared
    with digests from elsewhere.

    Raises BundleError, IncompleteError, UsageError, StorageError.
    """
    files = expand(places)
    return Bundle.open([VolumeFile(path) for path in files], Trust(sums=Digest.of(envelope_of(files[0]).sums)))


class EarlierBundles:
    """Blobs out of bundles, as a `BlobSource`; what they lack, or have only damaged, comes from `otherwise`.

    Takes over closing the bundles.
    """

    def __init__(self, bundles: Sequence[Bundle], otherwise: BlobSource | None, reporter: Reporter) -> None:
        self._bundles, self._otherwise, self._reporter = bundles, otherwise, reporter
        self._holders = {
            blob.digest: bundle
            for bundle in bundles
            for blob in bundle.manifest.blobs
            if blob.carried and not bundle.absent(blob.digest)
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for bundle in self._bundles:
            bundle.close()

    def open(self, descriptor: Descriptor, offset: int = 0) -> BlobStream:
        """The blob from byte `offset` on. Raises NotFoundError where nobody has it, and what `otherwise` raises."""
        bundle = self._holders.get(descriptor.digest)
        if bundle is not None:
            return _Stream(bundle, descriptor, offset, self._otherwise, self._reporter)
        if self._otherwise is None:
            raise NotFoundError(
                f"{descriptor.digest}: in none of these bundles", hint="name others, or `--lock airferry.lock`."
            )
        return self._otherwise.open(descriptor, offset)


class _Stream:
    """A blob from a bundle, and from where that is damaged on from elsewhere."""

    def __init__(
        self,
        bundle: Bundle,
        descriptor: Descriptor,
        offset: int,
        otherwise: BlobSource | None,
        reporter: Reporter,
    ) -> None:
        self._descriptor, self._position, self._otherwise = descriptor, offset, otherwise
        self._reporter = reporter
        self._stream: BlobStream = bundle.open_blob(descriptor, offset)

    def readinto(self, view: memoryview) -> int:
        """See `BlobStream`."""
        try:
            count = self._stream.readinto(view)
        except (BundleError, StorageError) as exc:
            if self._otherwise is None:
                raise
            self._reporter.note(f"note: {exc.message}; fetched instead")
            otherwise, self._otherwise = self._otherwise, None
            self._stream.__exit__(None, None, None)
            self._stream = otherwise.open(self._descriptor, self._position).__enter__()
            count = self._stream.readinto(view)
        self._position += count
        return count

    def __enter__(self) -> Self:
        self._stream.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.__exit__(*exc)
