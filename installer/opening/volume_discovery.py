"""Finding volumes by their content: names do not matter, and folders may be whole media."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from installer.bundle.limits import MAX_SUMS, SUMS
from installer.bundle.tar import BLOCK, member_size
from installer.errors import BundleError, StorageError, UsageError
from installer.files import storage_error

DEPTH = 3
"""Levels of folders below a named one: `/media/USER/LABEL` is found from `/media`."""
MAX_FILES = 20_000


def expand(places: Sequence[Path]) -> list[Path]:
    """The files among `places`, and the volumes in the folders among them.

    Raises UsageError for a folder without any, StorageError for one with too many files.
    """
    found = []
    for place in places:
        if place.is_dir():
            inside = volumes_in(place)
            if not inside:
                raise UsageError(f"{place}: holds no volume of a bundle", hint="name the files, or another folder.")
            found += inside
        else:
            found.append(place)
    return found


def volumes_in(folder: Path, depth: int = DEPTH, remark: Callable[[str], None] = lambda _: None) -> list[Path]:
    """The files in `folder`, and `depth` levels below, that begin like volumes; `remark` is told of unreadable ones.

    Raises StorageError if there are too many.
    """
    return [path for path in _files(folder, depth) if _begins_as_volume(path, remark)]


def _files(folder: Path, depth: int) -> Iterator[Path]:
    count = 0
    for name, folders, files in os.walk(folder):
        below = len(Path(name).relative_to(folder).parts)
        folders[:] = sorted(folders) if below < depth else []
        for file in sorted(files):
            count += 1
            if count > MAX_FILES:
                raise StorageError(f"{folder}: more than {MAX_FILES} files", hint="name the folder of the volumes.")
            yield Path(name, file)


def _begins_as_volume(path: Path, remark: Callable[[str], None]) -> bool:
    """Whether a regular, readable file begins with the header of SHA256SUMS."""
    try:
        if not path.is_file():
            return False
        with path.open("rb", buffering=0) as file:
            member_size(file.read(BLOCK), SUMS, MAX_SUMS)
    except OSError as exc:
        remark(storage_error(exc, path, "read").message)
        return False
    except BundleError:
        return False
    return True
