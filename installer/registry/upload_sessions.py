"""Upload sessions: addresses of uploads that have begun, kept on this machine for a later process to continue them.

One small file for each upload, in a folder of the user's. It holds the path of the upload's address and nothing else:
no query, in which some registries put a signed state, and no credentials. So a registry that insists on its query is
asked in vain, and the blob is sent anew. The file's name stands for registry, repository and blob; a path that lies
elsewhere than among the uploads of that repository is not believed. While an upload runs, its file is locked: of two
processes that send the same blob only one goes on with what is there.

All of this saves bytes only: where the folder cannot be used, nothing is kept.
"""

import contextlib
import fcntl
import os
import re
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from installer.oci.digest import Digest
from installer.registry.endpoint import origin

MOST = 500
"""Files that are kept; of more, the oldest go. Registries forget unfinished uploads after a week or so."""
_MAX_PATH = 1000
_PATH = re.compile(r"/[A-Za-z0-9._~%=:@+/-]+", re.ASCII)


class UploadSessions:
    """The addresses kept in `folder`, which is made when it is needed; none are kept without it.

    Safe to use from several threads.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def claim(self, start: str, digest: Digest) -> "Claim":
        """The claim on the upload of a blob that a POST to `start` would begin."""
        if self._folder is None:
            return Claim(None, None, start)
        path = self._folder / Digest.of(f"{origin(start)}{urlsplit(start).path}\n{digest}".encode()).hex[:40]
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _thin_out(self._folder)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            return Claim(None, None, start)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return Claim(None, None, start)
        return Claim(fd, path, start)


class Claim:
    """The right to continue one upload: a context manager. `address` is where it continues, empty if unknown."""

    def __init__(self, fd: int | None, path: Path | None, start: str) -> None:
        self._fd, self._path, self._start = fd, path, start
        self.address = self._read()

    def keep(self, address: str) -> None:
        """Remember that the upload goes on at `address`."""
        path = urlsplit(address).path
        self._write(path if self._is_ours(path) else "")

    def forget(self) -> None:
        """Drop the address: the upload cannot be continued."""
        self.address = ""
        self._write("")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._fd is not None and self._path is not None:
            with contextlib.suppress(OSError):
                if not os.fstat(self._fd).st_size:
                    self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None

    def _is_ours(self, path: str) -> bool:
        """Whether `path` lies below the path that uploads into the repository begin at."""
        own = urlsplit(self._start).path
        inside = path.startswith(own) and len(path) > len(own) and ".." not in path
        return inside and len(path) <= _MAX_PATH and bool(_PATH.fullmatch(path))

    def _read(self) -> str:
        if self._fd is None:
            return ""
        try:
            path = os.pread(self._fd, _MAX_PATH + 1, 0).decode("ascii")
        except (OSError, UnicodeDecodeError):
            return ""
        return urlsplit(self._start)._replace(path=path, query="").geturl() if self._is_ours(path) else ""

    def _write(self, path: str) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, path.encode("ascii"), 0)


def _thin_out(folder: Path) -> None:
    """Remove the oldest of too many files."""
    if len(os.listdir(folder)) > MOST:  # noqa: PTH208 - names are enough
        found = sorted(folder.iterdir(), key=lambda path: path.lstat().st_mtime)
        for path in found[:-MOST]:
            path.unlink(missing_ok=True)
