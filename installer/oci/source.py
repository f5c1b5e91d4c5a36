"""What every place that holds blobs can do, whether registry, OCI layout, docker archive or bundle."""

from typing import Protocol, Self

from installer.oci.model import Descriptor


class BlobStream(Protocol):
    """A blob being read, as a context manager."""

    def readinto(self, view: memoryview) -> int:
        """Fill a part of `view` from the current position; the count of bytes, 0 at the end.

        Raises AirferryError. The bytes are not verified: whoever asked knows the digest.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class BlobSource(Protocol):
    """A place that holds blobs. Safe to use from several threads."""

    def open(self, descriptor: Descriptor, offset: int = 0) -> BlobStream:
        """The blob from byte `offset` on. Raises NotFoundError where the place does not hold it."""
