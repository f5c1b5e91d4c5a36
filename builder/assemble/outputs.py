"""Where the volumes of a bundle are written: one folder or several, such as the sticks that are plugged in."""

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from installer.bundle.limits import SUMS
from installer.bundle.part_files import part_of
from installer.errors import StorageError, UsageError
from installer.files import look_at, storage_error
from installer.report import size

_UNKNOWN = 2**62


def make_folder(folder: Path) -> None:
    """Make `folder`, unless it exists, but none of those above it. Raises UsageError without them, StorageError."""
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError as exc:
        raise UsageError(f"{folder}: not a folder", hint="name one, or a name that is free.") from exc
    except OSError as exc:
        raise storage_error(exc, folder, "make") from exc


def check_replaceable(paths: Sequence[Path]) -> None:
    """Raises UsageError for one of `paths` where something else lies than a volume of a bundle; StorageError."""
    for path in paths:
        if (found := look_at(path)) and not (stat.S_ISREG(found.st_mode) and (not found.st_size or _is_volume(path))):
            raise UsageError(
                f"{path}: is there already, and no bundle", hint="give another name, or --force to replace it."
            )


def _is_volume(path: Path) -> bool:
    """Whether a file begins as a volume of a bundle does: with the name of its first member."""
    try:
        with path.open("rb") as file:
            return file.read(len(SUMS)) == SUMS.encode()
    except OSError as exc:
        raise storage_error(exc, path, "read") from exc


def free_bytes(folders: Sequence[Path]) -> int:
    """Free bytes of the file systems that `folders` lie on, each counted once. Raises UsageError, StorageError."""
    return sum(_rooms(folders)[1].values())


def distribute(files: Mapping[str, int], folders: Sequence[Path]) -> list[Path]:
    """A path for each file, given by name and size: in the first of `folders` that still has room for it.

    What an earlier run has begun or finished stays where it is. Raises StorageError if there is no room for all,
    naming each folder; UsageError for a folder that does not exist, or if a file lies in two of them.
    """
    folders = list(dict.fromkeys(folders))
    devices, room = _rooms(folders)
    found: dict[str, Path] = {}
    for name, wanted in files.items():
        begun = [folder for folder in folders if (folder / name).exists() or part_of(folder / name).exists()]
        if len(begun) > 1:
            raise UsageError(
                f"{name} is in {' and '.join(map(str, begun))}", hint="remove the one that is not wanted any more."
            )
        for folder in begun:
            found[name] = folder / name
            room[devices[folder]] -= max(0, wanted - _allocated(folder / name, wanted))
    for name, wanted in files.items():
        if name not in found:
            fitting = [folder for folder in folders if room[devices[folder]] >= wanted]
            if not fitting:
                raise _too_small(files, folders)
            found[name] = fitting[0] / name
            room[devices[fitting[0]]] -= wanted
    if min(room.values()) < 0:
        raise _too_small(files, folders)
    return [found[name] for name in files]


def _rooms(folders: Sequence[Path]) -> tuple[dict[Path, int], dict[int, int]]:
    """The device of each folder, and the free bytes of each device."""
    devices, room = {}, {}
    for folder in folders:
        try:
            status = os.statvfs(folder)
            devices[folder] = folder.stat().st_dev
        except OSError as exc:
            raise storage_error(exc, folder, "look for free space") from exc
        # Some file systems do not tell (fusefat): then it shows when they are full.
        room[devices[folder]] = status.f_bavail * status.f_frsize if status.f_blocks else _UNKNOWN
    return devices, room


def _allocated(path: Path, wanted: int) -> int:
    """Bytes that an earlier run has taken already; a finished file of the `wanted` size is taken for the same."""
    part = part_of(path)
    if part.exists():
        return part.stat().st_blocks * 512
    return wanted if path.stat().st_size == wanted else 0


def _too_small(files: Mapping[str, int], folders: Sequence[Path]) -> StorageError:
    free = ", ".join(f"{folder} {size(free_bytes([folder]))}" for folder in folders)
    return StorageError(
        f"{len(files)} files of at most {size(max(files.values()))}, {size(sum(files.values()))} in all; free: {free}",
        hint="free some space, name further folders, or choose smaller volumes.",
    )
