"""Reading what is compressed: archives, and layers in them.

Programs know the way of compression by the first bytes, whatever a file is called; these are the ways that containers'
own libraries read (github.com/containers/image, pkg/compression).
"""

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from enum import Enum
from typing import BinaryIO, Self, cast

from backports import zstd

from installer.errors import ContentError

READ_SIZE = 1 << 20
START = 6
"""How many bytes tell how something is compressed."""
MAX_PLAIN = 1 << 38
"""The most bytes that anything is unpacked to: 256 GiB, more than registries take as one layer."""
MAX_XZ_MEMORY = 256 << 20
"""What the largest preset of xz needs is a quarter of it."""


class _Xz(io.RawIOBase):
    """Streams of xz after one another. The standard library's own file type reads with any amount of memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, b""
        self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, MAX_XZ_MEMORY)

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, view: bytearray | memoryview, /) -> int:  # type: ignore[override] # any buffer
        """Fill a part of `view`; the count of bytes, 0 at the end. Raises EOFError, LZMAError."""
        while True:
            if self._decompressor.eof:
                # Zeros may pad a stream (xz file format, section 2.2).
                self._left = self._decompressor.unused_data.lstrip(b"\0")
                while not self._left:
                    more = self._file.read(READ_SIZE)
                    if not more:
                        return 0
                    self._left = more.lstrip(b"\0")
                self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, MAX_XZ_MEMORY)
            elif self._decompressor.needs_input:
                self._left = self._file.read(READ_SIZE)
                if not self._left:
                    raise EOFError("it ends early")
            given, self._left = self._left, b""
            if data := self._decompressor.decompress(given, len(view)):
                view[: len(data)] = data
                return len(data)


class Compression(Enum):
    """A way in which content is compressed; the value is what it begins with."""

    NONE = b""
    GZIP = b"\x1f\x8b\x08"
    BZIP2 = b"BZh"
    XZ = b"\xfd7zXZ\0"
    ZSTD = b"\x28\xb5\x2f\xfd"

    @classmethod
    def of(cls, start: bytes) -> "Compression":
        """The way of what begins with `start`."""
        return next(way for way in reversed(cls) if start.startswith(way.value))


class Plain:
    """What `file` holds, unpacked, from byte `offset` on (a `BlobStream`); `what` names it in messages.

    Raises ContentError for what cannot be unpacked, and the errors of `file`.
    """

    def __init__(self, file: BinaryIO, way: Compression, what: str, *, offset: int = 0) -> None:
        self._what, self._skip, self._left = what, offset, MAX_PLAIN
        match way:
            case Compression.NONE:
                self._file = file
            case Compression.GZIP:
                self._file = cast(BinaryIO, gzip.GzipFile(fileobj=file))
            case Compression.BZIP2:
                self._file = cast(BinaryIO, bz2.BZ2File(file))
            case Compression.XZ:
                self._file = cast(BinaryIO, _Xz(file))
            case Compression.ZSTD:
                # By default it takes no frame that wants more than 128 MiB.
                self._file = cast(BinaryIO, zstd.ZstdFile(file))

    def readinto(self, view: memoryview) -> int:
        """See `BlobStream`."""
        while self._skip and (count := self._read(memoryview(bytearray(min(self._skip, READ_SIZE))))):
            self._skip -= count
        return self._read(view)

    def _read(self, view: memoryview) -> int:
        try:
            count = cast(io.RawIOBase, self._file).readinto(view[:READ_SIZE]) or 0
        except (OSError, EOFError, lzma.LZMAError, zlib.error, zstd.ZstdError, tarfile.TarError) as exc:
            raise ContentError(f"{self._what} is damaged: {exc}", hint="have it made anew.") from exc
        self._left -= count
        if self._left < 0:
            raise ContentError(f"{self._what} has more than {MAX_PLAIN} bytes when it is unpacked")
        return count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
