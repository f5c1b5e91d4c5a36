"""Floors that this machine remembers: one small file for each application and place, in a folder of the user's."""

import fcntl
import os
from pathlib import Path

from installer.bundle import canonical
from installer.errors import BundleError, StorageError
from installer.files import look_at, read_bounded, storage_error, write_atomic
from installer.floor.floor import Floor
from installer.oci.digest import Digest

_MAX_FILE = 1000


class FloorFile:
    """The file of the application `name` at `place` in `folder`, which is made when it is needed."""

    def __init__(self, folder: Path, name: str, place: str) -> None:
        self._folder = folder
        self._path = folder / f"{name}-{Digest.of(os.fsencode(place)).hex[:16]}.json"

    def read(self) -> Floor | None:
        """The floor; None if there is none. Raises StorageError."""
        if look_at(self._path) is None:
            return None
        raw = read_bounded(self._path, _MAX_FILE, StorageError)
        try:
            return canonical.decode(raw, Floor, str(self._path))
        except BundleError as exc:
            hint = "remove this file, if you know that what you bring is not older than what is there."
            raise StorageError(f"{self._path}: not a floor that this program wrote", hint=hint) from exc

    def raise_to(self, floor: Floor) -> None:
        """Remember `floor`, unless a greater one has been since. Raises StorageError."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:
            raise storage_error(exc, self._folder, "write", missing=StorageError) from exc
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            before = self.read()
            if before is None or before < floor:
                write_atomic(self._path, canonical.encode(floor), mode=0o600)
        finally:
            os.close(fd)
