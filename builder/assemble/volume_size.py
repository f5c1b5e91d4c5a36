"""How large volumes are: by medium, in bytes, or so many equal parts.

Where capacities come from: FAT32 keeps the size of a file in 32 bits (Microsoft's FAT specification, DIR_FileSize).
Discs have sectors of 2048 bytes: DVD+R 2,295,104 (ECMA-349), a few fewer than DVD-R. Blu-ray discs are formatted with
the default spare area for defects, as growisofs and drives do it: one layer then has 11,826,176 of 12,219,392 sectors
(READ FORMAT CAPACITIES of MMC-6, format types 00h and 32h, as `dvd+rw-mediainfo` shows it); two have 23,652,352 and
BDXL's three 47,305,728, as in dvdisaster's table of media.
"""

import re

from installer.bundle.limits import MAX_VOLUMES
from installer.errors import UsageError
from installer.value import Value

_MIB = 1 << 20
_RESERVE = 32 * _MIB
"""What UDF or ISO 9660, a sidecar, and a label take on a disc, generously."""
PROGRAM = 96 * _MIB
"""Left free on the first medium for the installer, which has about 55 MB."""


PRESETS = {
    "fat32": 2**32 - 1,
    # As UDF or ISO 9660 level 3.
    "dvd": 2_295_104 * 2048 - _RESERVE,
    "bd25": 11_826_176 * 2048 - _RESERVE,
    "bd50": 23_652_352 * 2048 - _RESERVE,
    "bd100": 47_305_728 * 2048 - _RESERVE,
}
"""What a volume may have in all on some medium, in bytes."""
_UNITS = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_SIZE = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,6}))? ?([a-z]+)", re.ASCII)
_PARTS = re.compile(r"([0-9]{1,3})(?: ?parts?)?", re.ASCII)


class VolumeSize(Value):
    """At most `bytes` in each volume file, `reserve` fewer in the first; or about equal volumes, `parts` at most."""

    bytes: int = 0
    reserve: int = 0
    parts: int = 0

    @classmethod
    def parse(cls, text: str) -> "VolumeSize":
        """What `--volume-size` says: a preset, a size such as `4GiB`, or a count of parts. Raises UsageError."""
        plain = text.strip().lower()
        if plain in PRESETS:
            return cls(PRESETS[plain], reserve=PROGRAM)
        if (match := _PARTS.fullmatch(plain)) and 1 <= int(match[1]) <= MAX_VOLUMES:
            return cls(parts=int(match[1]))
        if (match := _SIZE.fullmatch(plain)) and match[3] in _UNITS:
            fraction = match[2] or "0"
            return cls((int(match[1] + fraction) * _UNITS[match[3]]) // 10 ** len(fraction))
        raise UsageError(
            f"not a size of volumes: {text[:40]!r}",
            hint=f"write {', '.join(PRESETS)}, a size such as 4GiB or 700MB, or a count of equal parts such as 5.",
        )
