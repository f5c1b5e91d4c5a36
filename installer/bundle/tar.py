"""The tar that volumes are: POSIX ustar headers that follow from a member's name and size alone.

Source: POSIX.1-2017 pax, "ustar Interchange Format"; sizes from 8 GiB on use the base-256 form of GNU tar, which
GNU tar, bsdtar, BusyBox, Go and Python read.
"""

from installer.errors import BundleError

BLOCK = 512
TRAILER = bytes(2 * BLOCK)
# 1980-01-01 00:00 UTC, the earliest time that FAT can hold: extracted files carry the same time everywhere.
_MTIME = 315532800
_OCTAL_LIMIT = 8**11
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"7z\xbc\xaf": "7-Zip"}
"""Archives that guards and mail servers pack files into, by their first bytes."""


def padded(size: int) -> int:
    """`size` rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def header(name: str, size: int) -> bytes:
    """The one header that a member of this name and size has."""
    raw = name.encode("ascii")
    if len(raw) > 100:
        raise BundleError(f"member name of {len(raw)} characters; 100 are allowed")
    size_field = b"%011o\0" % size if size < _OCTAL_LIMIT else b"\x80" + size.to_bytes(11, "big")
    parts = (
        raw.ljust(100, b"\0"),
        b"0000444\0" + b"0000000\0" * 2 + size_field + b"%011o\0" % _MTIME,
        b" " * 8,
        b"0".ljust(101, b"\0"),
        b"ustar\x0000",
        bytes(64),
        b"0000000\0" * 2,
        bytes(167),
    )
    block = bytearray(b"".join(parts))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member_size(block: bytes, name: str, limit: int) -> int:
    """The size that `block`, the header of member `name`, states: at most `limit`, in canonical form only.

    Raises BundleError for any other header.
    """
    field = block[124:136]
    try:
        size = int.from_bytes(field[1:], "big") if field[:1] == b"\x80" else int(field[:11], 8)
    except ValueError:
        size = -1
    if len(block) != BLOCK or size < 0 or block != header(name, size):
        packer = next((what for start, what in _PACKED.items() if block.startswith(start)), "")
        hint = f"it was packed by {packer} on its way: unpack it." if packer else "this is no finished airferry bundle."
        raise BundleError(f"{name}: expected here, found something else", hint=hint)
    if size > limit:
        raise BundleError(f"{name}: {size} bytes; at most {limit} are allowed")
    return size
