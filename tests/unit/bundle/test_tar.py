"""Headers: one for each name and size, and everyone else's tar reads them."""

from __future__ import annotations

import gzip
import io
import random
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from installer.bundle.tar import BLOCK, TRAILER, header, member_size, padded
from installer.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

GIB = 2**30
SIZES = [0, 1, 511, 512, 513, 4 * GIB - 1, 8 * GIB - 1, 8 * GIB, 8 * GIB + 1, 2**53 - 1]
NAMES = ["SHA256SUMS", "blobs/sha256/" + "a" * 64, "blobs/sha256/" + "0" * 64 + ".999", "n" * 100]


def as_documented(name: str, size: int) -> bytes:
    """The header that the table in FORMAT.md describes."""
    block = bytearray(BLOCK)

    def put(offset: int, value: bytes) -> None:
        block[offset : offset + len(value)] = value

    put(0, name.encode())
    put(100, b"0000444\0")
    put(108, b"0000000\0" * 2)
    put(124, f"{size:011o}\0".encode() if size < 8**11 else b"\x80" + size.to_bytes(11, "big"))
    put(136, b"02263523000\0")
    put(148, b" " * 8)
    put(156, b"0")
    put(257, b"ustar\x0000")
    put(329, b"0000000\0" * 2)
    put(148, f"{sum(block):06o}\0 ".encode())
    return bytes(block)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_python_reads_a_header_as_it_was_meant(name: str, size: int) -> None:
    found = tarfile.TarInfo.frombuf(header(name, size), "ascii", "strict")
    assert (found.name, found.size, found.type) == (name, size, tarfile.REGTYPE)
    assert (found.mode, found.uid, found.gid, found.mtime) == (0o444, 0, 0, 315532800)
    assert (found.uname, found.gname, found.linkname) == ("", "", "")
    assert header(name, size) == as_documented(name, size)
    assert member_size(header(name, size), name, 2**60) == size


def test_python_writes_the_same_header() -> None:
    """But for the numbers of a device, which Python leaves empty for a plain file."""
    info = tarfile.TarInfo("SHA256SUMS")
    info.size, info.mode, info.mtime = 1234, 0o444, 315532800
    written = info.tobuf(tarfile.USTAR_FORMAT)
    ours = header("SHA256SUMS", 1234)
    assert [place for place in range(BLOCK) if written[place] != ours[place] and not 148 <= place < 156] in (
        [],
        [*range(329, 336), *range(337, 344)],
    )


@pytest.mark.parametrize("size", [8 * GIB - 1, 8 * GIB, 100 * GIB])
@pytest.mark.parametrize("program", ["tar", "busybox tar"])
def test_strangers_list_members_of_any_size(tmp_path: Path, size: int, program: str) -> None:
    archive = tmp_path / "sparse.tar"
    with archive.open("wb") as file:
        file.write(header("large", size))
        file.seek(BLOCK + padded(size))
        file.write(header("small", 3) + b"abc".ljust(BLOCK, b"\0") + TRAILER)
    listed = subprocess.run(
        [*program.split(), "-tvf", archive], capture_output=True, check=True, env={"TZ": "UTC"}
    ).stdout
    rows = [line.split() for line in listed.decode().splitlines()]
    assert [(row[0], row[2], row[3], row[-1]) for row in rows] == [
        ("-r--r--r--", str(size), "1980-01-01", "large"),
        ("-r--r--r--", "3", "1980-01-01", "small"),
    ]
    with tarfile.open(archive) as found:
        assert [member.size for member in found] == [size, 3]


@pytest.mark.parametrize(
    "change",
    [
        lambda block: block.replace(b"0000444", b"0000644"),
        lambda block: block.replace(b"ustar\x0000", b"ustar  \0"),
        lambda block: block[:156] + b"5" + block[157:],
        lambda block: block[:-1] + b"x",
        lambda block: block[:511],
        lambda block: block + b"\0",
        lambda _: bytes(BLOCK),
        lambda _: b"",
        lambda block: block.replace(b"00000000012\0", b"         12\0"),
        lambda block: block.replace(b"00000000012\0", b"0x00000000a\0"),
        lambda block: block.replace(b"00000000012\0", b"-0000000012\0"),
        lambda block: block.replace(b"00000000012\0", b"+0000000012\0"),
        lambda block: block.replace(b"00000000012\0", b"0_000000012\0"),
        # The same size in the form for large ones.
        lambda block: block.replace(b"00000000012\0", b"\x80" + (10).to_bytes(11, "big")),
        lambda block: block.replace(b"00000000012\0", b"\xff" * 12),
        lambda block: block.replace(b"00000000012\0", b"\x80" + b"\xff" * 11),
    ],
)
def test_any_other_header_is_refused(change) -> None:  # type: ignore[no-untyped-def]
    genuine = header("name", 10)
    other = bytearray(change(genuine))
    assert bytes(other) != genuine
    if len(other) == BLOCK and any(other):
        other[148:156] = b" " * 8
        other[148:156] = b"%06o\0 " % sum(other)
    with pytest.raises(BundleError):
        member_size(bytes(other), "name", 2**60)


def test_limits() -> None:
    assert member_size(header("name", 10), "name", 10) == 10
    with pytest.raises(BundleError, match="at most 9"):
        member_size(header("name", 10), "name", 9)
    with pytest.raises(BundleError, match="expected here"):
        member_size(header("other", 10), "name", 10)
    with pytest.raises(BundleError, match="101 characters"):
        header("n" * 101, 0)
    assert [padded(size) for size in (0, 1, 512, 513)] == [0, 512, 512, 1024]


def test_an_archive_as_a_whole(tmp_path: Path) -> None:
    archive = header("a/b", 3) + b"abc".ljust(BLOCK, b"\0") + header("empty", 0) + TRAILER
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        content = found.extractfile("a/b")
        assert content is not None
        assert content.read() == b"abc"
        assert found.getnames() == ["a/b", "empty"]


def test_what_a_guard_has_packed_is_told() -> None:
    with pytest.raises(BundleError) as caught:
        member_size(gzip.compress(random.Random(1).randbytes(2 * BLOCK))[:BLOCK], "SHA256SUMS", 1000)
    assert "packed by gzip" in caught.value.hint
