"""A blob that lies in a local file, whole or as a part of it."""

import io
import os
import stat
from pathlib import Path

from installer.errors import ContentError, NotFoundError
from installer.files import storage_error
from installer.oci.source import BlobStream


def open_regular(path: Path) -> int:
    """A descriptor for reading the regular file at `path`, not through a link at its end.

    Raises NotFoundError, StorageError, and ContentError for anything but a regular file.
    """
    try:
        # Without O_NONBLOCK the open of a named pipe would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise storage_error(exc, path, "open", missing=NotFoundError) from exc
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ContentError(f"{path}: not a regular file")
    return fd


class LocalBlob(io.RawIOBase):
    """`size` bytes of an open file from byte `start` on, read from byte `offset` of them (a `BlobStream`).

    Reads by position, so that any number of streams may share the descriptor `fd`; it is closed in the end if `owned`.
    """

    def __init__(self, fd: int, path: Path, start: int, size: int, *, offset: int = 0, owned: bool = False) -> None:
        self._fd, self._path, self._owned = fd, path, owned
        self._start, self._size, self._offset = start, size, offset

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be read from any byte on."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go on at another byte. Raises ValueError for one before the first."""
        offset += {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: self._size}[whence]
        if offset < 0:
            raise ValueError(f"no byte {offset}")
        self._offset = offset
        return offset

    def readinto(self, view: bytearray | memoryview, /) -> int:  # type: ignore[override] # any buffer
        """Fill a part of `view`; the count of bytes, 0 at the end. Raises ContentError, StorageError."""
        part = memoryview(view)[: max(self._size - self._offset, 0)]
        if not part:
            return 0
        position = self._start + self._offset
        try:
            count = os.preadv(self._fd, [part], position)
        except OSError as exc:
            raise storage_error(exc, self._path, "read") from exc
        if not count:
            raise ContentError(f"{self._path}: ends at byte {position}, before the blob does")
        self._offset += count
        return count

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the stream."""
        if self._owned:
            self._owned = False
            os.close(self._fd)
        super().close()


def read_whole(stream: BlobStream, size: int) -> bytes:
    """All `size` bytes of a stream, which ends; the caller has bounded `size`."""
    data = bytearray(size)
    view, count = memoryview(data), 0
    with stream:
        while part := stream.readinto(view[count:]):
            count += part
    return bytes(data)
