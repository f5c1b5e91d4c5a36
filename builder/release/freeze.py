"""Freezing: program, front and volume become one executable file.

The program is the same for every bundle of a version, so freezing costs one copy of the volume; on file systems that
can share blocks between files (Btrfs, XFS) not even that.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from installer.errors import StorageError
from installer.files import check_output, new_file, storage_error
from installer.frozen.header import ALIGNMENT, Front, PinnedKey
from installer.report import Reporter, size

STEP = 64 * 1024 * 1024
"""Bytes copied between two reports of progress."""
_FICLONERANGE = 0x4020940D
_NOT_POSSIBLE = frozenset(
    (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EPERM, errno.EBADF, errno.EIO)
)
"""Answers where blocks cannot be shared (ioctl_ficlonerange(2)) or copied in the kernel (copy_file_range(2)); and
EIO, because copying through memory then tells which of the two files it is."""


def freeze(
    program: Path, volume: Path | None, out: Path, *, name: str, keys: Sequence[PinnedKey], reporter: Reporter
) -> None:
    """Write the executable file `out`: `program`, then name and keys, then `volume` (None: volumes lie beside it).

    `out` appears complete or not at all, and its bytes depend on nothing but the arguments. Raises BundleError for a
    name or key that no front can hold, UsageError if `out` is one of the inputs or one is missing, StorageError.
    """
    check_output(out, [program, *([volume] if volume else [])])
    with contextlib.ExitStack() as files:
        source = files.enter_context(_input(program))
        payload = files.enter_context(_input(volume)) if volume else None
        length = _length(payload) if payload else 0
        front = Front(name, tuple(keys), length).encode()
        with new_file(out, 0o600) as target:
            _check_space(out, _length(source) + len(front))
            shutil.copyfileobj(source, target)
            target.write(bytes(-target.tell() % ALIGNMENT) + front)
            target.flush()
            if payload and not _shared(payload, target, length):
                _check_space(out, length)
                reporter.begin(f"copying {name}", length)
                _copy(payload, target, length, reporter)
                reporter.end()
            os.fchmod(target.fileno(), 0o755)


@contextlib.contextmanager
def _input(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as exc:
        raise storage_error(exc, path, "read") from exc


def _length(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _check_space(out: Path, needed: int) -> None:
    free = shutil.disk_usage(out.parent).free
    if free < needed:
        raise StorageError(
            f"{out}: needs {size(needed)}, but only {size(free)} are free",
            hint="free some space or choose another folder, then run the same command again.",
        )


def _shared(source: BinaryIO, target: BinaryIO, length: int) -> bool:
    """Append `source` by sharing its blocks; False if the file systems cannot."""
    start = target.seek(0, os.SEEK_END)
    try:
        fcntl.ioctl(target, _FICLONERANGE, struct.pack("=qQQQ", source.fileno(), 0, 0, start))
    except OSError as exc:
        if exc.errno in _NOT_POSSIBLE:
            return False
        raise
    if _length(target) != start + length:
        raise StorageError(f"{source.name}: changed while it was read", hint="run the same command again.")
    return True


def _copy(source: BinaryIO, target: BinaryIO, length: int, reporter: Reporter) -> None:
    """Append `length` bytes of `source`: inside the kernel where it can, else through memory."""
    step = _kernel_step
    rest = length
    while rest:
        try:
            done = step(source, target, min(rest, STEP))
        except OSError as exc:
            if step is not _kernel_step or exc.errno not in _NOT_POSSIBLE:
                raise
            step = _memory_step
            continue
        if done == 0:
            raise StorageError(f"{source.name}: changed while it was read", hint="run the same command again.")
        rest -= done
        reporter.advance(done)


def _kernel_step(source: BinaryIO, target: BinaryIO, count: int) -> int:
    return os.copy_file_range(source.fileno(), target.fileno(), count)


def _memory_step(source: BinaryIO, target: BinaryIO, count: int) -> int:
    try:
        rest = memoryview(os.read(source.fileno(), min(count, 1 << 20)))
    except OSError as exc:
        raise storage_error(exc, Path(source.name), "read") from exc
    done = len(rest)
    while rest:
        rest = rest[os.write(target.fileno(), rest) :]
    return done
