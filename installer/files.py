"""Local files: the atomic write, of bytes at once and of a file that grows; bounded reads."""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from installer.errors import AirferryError, StorageError, UsageError

_SECRET_KEY = re.compile(rb"^-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----", re.MULTILINE)
_HEAD = 1024


_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)


def storage_error(exc: OSError, path: Path, doing: str, *, missing: type[AirferryError] = UsageError) -> AirferryError:
    """The error for a failed system call on `path`, with the next step for the usual causes.

    `missing` is its class where there is no such file, or a folder instead: usually someone has mistyped its name.
    """
    hints = {
        errno.ENOSPC: "free some space or choose another folder, then run the same command again: it continues.",
        errno.EDQUOT: "the quota is used up: choose another folder, then run the same command again.",
        errno.EROFS: "the file system is read-only: choose another folder.",
        errno.EACCES: "check the owner and mode of the file and its folder.",
        errno.EIO: "the medium has a defect: try it in another drive or port, or carry a fresh copy.",
        errno.EFBIG: "the file system cannot hold so large a file (FAT32 ends at 4 GiB): use exFAT, ext4 or NTFS.",
    }
    message = f"{path}: cannot {doing}: {exc.strerror or exc}"
    if exc.errno in _NOT_THERE:
        return missing(message, hint="check the path.")
    return StorageError(message, hint=hints.get(exc.errno or 0, "check the path and the file system."))


def check_output(out: Path, inputs: Iterable[Path] = ()) -> None:
    """Raises UsageError if `out` is one of `inputs`, or a secret key, which it would replace; StorageError."""
    try:
        same = out.exists() and any(path.exists() and out.samefile(path) for path in inputs)
        secret = out.is_file() and _begins_as_secret_key(out)
    except OSError as exc:
        raise storage_error(exc, out, "write") from exc
    if same:
        raise UsageError(f"{out}: is both an input and the output", hint="give another output file.")
    if secret:
        raise UsageError(f"{out}: holds a secret key, and would be replaced", hint="give another output file.")


def _begins_as_secret_key(path: Path) -> bool:
    """Whether a file is a private key in PEM (RFC 7468), perhaps after a block of curve parameters."""
    try:
        with path.open("rb") as file:
            return _SECRET_KEY.search(file.read(_HEAD)) is not None
    except PermissionError:  # what cannot be read may still be replaced
        return False


def look_at(path: Path) -> os.stat_result | None:
    """What is at `path`; None if nothing is. Raises StorageError where that cannot be told.

    `Path.exists` and its like raise OSError there: PermissionError, for one, below a folder of somebody else.
    """
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise storage_error(exc, path, "look at it") from exc


def is_folder(path: Path) -> bool:
    """Whether a folder is at `path`. Raises StorageError where that cannot be told."""
    found = look_at(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def read_bounded(path: Path, limit: int, kind: type[AirferryError] = UsageError) -> bytes:
    """The whole file, if it has at most `limit` bytes.

    Raises `kind` for one that is larger, not there, or a folder; StorageError.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as exc:
        raise storage_error(exc, path, "read", missing=kind) from exc
    if len(data) > limit:
        raise kind(f"{path}: larger than {limit} bytes", hint="this is not the kind of file expected here.")
    return data


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write `data` so that `path` holds either its former content or all of `data`, durable. Raises StorageError."""
    temp = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(fd, "wb") as file, _becoming(path, temp, file):
            file.write(data)
        sync_folder(path.parent)
    except OSError as exc:
        raise storage_error(exc, path, "write") from exc


@contextlib.contextmanager
def new_file(path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A file that becomes `path`, durable, if the block ends well, and vanishes if it does not.

    For large content: what a killed run has left is used again, not added to. Raises StorageError.
    """
    temp = path.with_name(f".{path.name}.partial")
    try:
        fd = os.open(temp, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(fd, "r+b") as file:
            _claim(file.fileno(), temp)
            file.truncate(0)
            with _becoming(path, temp, file):
                yield file
        sync_folder(path.parent)
    except OSError as exc:
        raise storage_error(exc, path, "write") from exc


@contextlib.contextmanager
def _becoming(path: Path, temp: Path, file: BinaryIO) -> Iterator[None]:
    """The open file `temp` becomes `path`, its content on the disk, if the block ends well; else it is removed."""
    try:
        yield
        file.flush()
        os.fsync(file.fileno())
        temp.replace(path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """An empty folder for as long as the block takes; what a killed run has left in it is removed.

    Raises StorageError, also if another process works there.
    """
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _claim(fd, path)
            try:
                for left in path.iterdir():
                    shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(fd)
    except OSError as exc:
        raise storage_error(exc, path, "write") from exc


def _claim(fd: int, temp: Path) -> None:
    """Make a file or folder ours alone: a killed run may have left it, but a live one may still write it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_ino != temp.stat().st_ino:
            raise BlockingIOError
    except (BlockingIOError, FileNotFoundError) as exc:
        raise StorageError(f"{temp}: another process writes it", hint="wait for it, or give another file.") from exc


def forget(path: Path) -> None:
    """Have the kernel drop what it holds of a durable file in memory, so that whoever reads it next asks the disk.

    Raises StorageError.
    """
    try:
        with path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError as exc:
        raise storage_error(exc, path, "read") from exc


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable, where the file system can do that for folders. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as exc:
        # As fsync(2) says of what cannot be synchronized; folders of some network and FUSE file systems cannot.
        if exc.errno != errno.EINVAL:
            raise
    finally:
        os.close(fd)
