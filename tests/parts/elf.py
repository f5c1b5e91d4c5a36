"""Small ELF files, as programs are made of."""

from __future__ import annotations

import struct
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def elf(fields: Mapping[str, int] = MappingProxyType({}), *, content: bytes = b"code" * 100) -> bytes:
    """A 64-bit ELF file: a segment and a section over `content`, then the section table. `fields` replace values."""
    phoff, data = 64, 64 + 56
    shoff = data + len(content)
    header = {
        "phoff": phoff,
        "shoff": shoff,
        "phentsize": 56,
        "phnum": 1,
        "shentsize": 64,
        "shnum": 3,
        "seg_offset": 0,
        "seg_size": data,
        "sec_type": 1,
        "sec_offset": data,
        "sec_size": len(content),
    } | dict(fields)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    raw = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, 62, 1, 0, header["phoff"], header["shoff"], 0, 64,
                      header["phentsize"], header["phnum"], header["shentsize"], header["shnum"], 0)  # fmt: skip
    raw += struct.pack("<IIQQQQQQ", 1, 5, header["seg_offset"], 0, 0, header["seg_size"], 0, 4096)
    raw += content
    raw += bytes(64)
    raw += struct.pack("<IIQQQQIIQQ", 1, header["sec_type"], 0, 0, header["sec_offset"], header["sec_size"], 0, 0, 1, 0)
    # A section without bytes in the file (.bss): its size means nothing here.
    return raw + struct.pack("<IIQQQQIIQQ", 1, 8, 0, 0, shoff, 2**62, 0, 0, 1, 0)
