"""Parity beside the volumes (PAR2), so that a volume that is lost on the way can be rebuilt on site."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from installer.bundle.reader import Bundle
from installer.errors import AirferryError, StorageError, UsageError
from installer.files import scratch_folder, storage_error, sync_folder
from installer.report import Reporter
from installer.report import size as human
from installer.value import Value
from installer.verify import par2

BLOCKS = 64
"""Blocks of a volume. The work grows with them; damage in as many places as one volume has blocks can be mended."""
FINE = 2000
"""Blocks of all volumes, where a share of them is wanted."""
MAX_BLOCKS = 32768
MAX_FILES = 31
FAT_FILE = 2**32 - 1
_EXTRA = 16 << 20
"""What PAR2 files hold besides recovery blocks, generously."""


class Parity(Value):
    """`recovery` blocks of `block` bytes each, in `files` files; they mend as many blocks of the volumes."""

    block: int
    recovery: int
    files: int

    @classmethod
    def for_lost(cls, sizes: Sequence[int], lost: int) -> Self:
        """Enough to rebuild any `lost` of volumes of `sizes` bytes. Raises UsageError."""
        if not 1 <= lost < len(sizes) or lost > MAX_FILES:
            raise UsageError(
                f"parity for {lost} lost of {len(sizes)} volumes makes no sense",
                hint="choose fewer, or --redundancy for damage in places.",
            )
        block = _aligned(max(sizes), min(BLOCKS, MAX_BLOCKS // len(sizes)))
        blocks = sorted(-(-size // block) for size in sizes)
        recovery = sum(blocks[-lost:])
        # One file for each volume that may be lost goes onto media of the same kind; FAT32 has a limit of its own.
        tight = max(sizes) <= FAT_FILE < recovery * block / lost + _EXTRA
        return cls(block, recovery, lost + tight)

    @classmethod
    def for_share(cls, sizes: Sequence[int], percent: int) -> Self:
        """Enough to mend `percent` of volumes of `sizes` bytes, wherever the damage is."""
        block = max(_aligned(sum(sizes), FINE), _aligned(max(sizes), MAX_BLOCKS // len(sizes)))
        recovery = -(-sum(-(-size // block) for size in sizes) * percent // 100)
        return cls(block, recovery, 1 + recovery * block // FAT_FILE)

    @property
    def size(self) -> int:
        """Bytes of the recovery blocks."""
        return self.block * self.recovery


def _aligned(size: int, count: int) -> int:
    """The length of a block if `size` bytes are to be about `count` of them; a multiple of 4, as PAR2 asks for."""
    return max(4, -(-size // count // 4) * 4)


def write_parity(bundle: Bundle, parity: Parity, out: Path, reporter: Reporter) -> list[Path]:
    """Write the PAR2 files for the volumes of `bundle` into the folder `out`; older ones for it are removed.

    The volumes lie in one folder under the names that the builder gave them. Raises UsageError, StorageError.
    """
    paths = [bundle.volumes.file(number).path.absolute() for number in range(len(bundle.manifest.volumes))]
    folder = paths[0].parent
    for number, path in enumerate(paths):
        if path != folder / bundle.volumes.file_name(number) or path.is_symlink():
            raise UsageError(
                f"{path}: PAR2 needs all volumes in one folder, and this one as {bundle.volumes.file_name(number)}",
                hint="move it there.",
            )
    try:
        with scratch_folder(out.absolute() / f".{bundle.volumes.stem}.parity") as scratch:
            _check_space(parity.size + _EXTRA, out)
            made = scratch / f"{bundle.volumes.stem}{par2.SUFFIX}"
            sizes = [f"-s{parity.block}", f"-c{parity.recovery}", "-u", f"-n{min(parity.files, MAX_FILES)}"]
            code, said = par2.run("create", [*sizes, "-B", folder, made, *paths], bundle.volumes.size, reporter)
            if code:
                raise AirferryError(f"par2 ended with code {code}:\n{said}", hint="see what it said.")
            for old in [*out.glob(f"{bundle.volumes.stem}.vol*{par2.SUFFIX}"), *out.glob(made.name)]:
                old.unlink()
            return [_placed(path, out) for path in sorted(scratch.iterdir())]
    except OSError as exc:
        raise storage_error(exc, out, "write") from exc


def _check_space(needed: int, out: Path) -> None:
    free = shutil.disk_usage(out).free
    if free < needed:
        raise StorageError(
            f"{out}: {human(needed)} are needed there, and {human(free)} are free",
            hint="choose another folder with -o.",
        )


def _placed(path: Path, out: Path) -> Path:
    """Make a finished file durable under its name in `out`. Raises OSError."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    path.replace(out / path.name)
    sync_folder(out)
    return out / path.name
