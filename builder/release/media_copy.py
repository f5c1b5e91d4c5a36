"""Copies onto media, read back from the medium itself: what was written is what the carrier takes along."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from blake3 import blake3

from installer.bundle.limits import CHUNK
from installer.bundle.part_files import part_of
from installer.errors import AirferryError, ContentError, UsageError
from installer.files import forget, storage_error, sync_folder, write_atomic
from installer.report import Reporter
from installer.value import Value

_SYNC = 64 * 1024 * 1024
"""Bytes after which the medium is waited for, so that progress means what it says."""


class Copy(Value):
    """A file on its medium, with its SHA-256; `fresh` says that it was not there before."""

    path: Path
    size: int
    sha256: str
    fresh: bool


def put(source: Path, target: Path, reporter: Reporter, stop: Callable[[], bool] = lambda: False) -> Copy:
    """Copy `source` to `target`, make it durable, read it back from the medium, and write `target.sha256` beside it.

    A `target` with the same bytes stays. Another one has its name when it is complete; until then it is called
    `NAME.part`, and an interrupted run is continued there: what it wrote is not written again, unless the medium
    returns something else.

    Raises ContentError with the place if the medium returns other bytes, StorageError, UsageError.
    """
    try:
        size = source.stat().st_size
        if target.exists() and target.samefile(source):
            raise UsageError(f"{target}: is the file to be copied itself", hint="name another folder.")
        fresh = not target.exists() or target.stat().st_size != size
        mode = 0o755 if os.access(source, os.X_OK) else 0o644
    except OSError as exc:
        raise storage_error(exc, source, "read") from exc
    part = part_of(target)
    start = _begun(source, part, size) if fresh else size
    whole, chunks = _copy(source, part, start, mode, reporter, stop) if fresh else _hashes(source, reporter, stop)
    try:
        _compare(part if fresh else target, chunks, reporter, stop)
    except ContentError:
        if not start:
            raise
        if fresh:
            reporter.note(f"{part}: the medium has lost what an interrupted run wrote; it is written again")
        else:
            reporter.note(f"{target}: is not this file (signed again since?), and is replaced")
            _rename(target, part)
            fresh = True
        reporter.advance(-2 * size)
        whole, chunks = _copy(source, part, 0, mode, reporter, stop)
        _compare(part, chunks, reporter, stop)
    if fresh:
        _rename(part, target)
    write_atomic(target.with_name(f"{target.name}.sha256"), f"{whole}  {target.name}\n".encode())
    return Copy(target, size, whole, fresh)


def _begun(source: Path, part: Path, size: int) -> int:
    """How many bytes of whole chunks an interrupted run has written to `part`, if it was of the same file."""
    with contextlib.suppress(OSError), part.open("rb") as there, source.open("rb") as file:
        # A bundle's first chunk holds its SHA256SUMS, and so tells it from any other.
        first = there.read(CHUNK)
        if len(first) == CHUNK and first == file.read(CHUNK):
            return min(os.fstat(there.fileno()).st_size, size) // CHUNK * CHUNK
    return 0


def _copy(
    source: Path, part: Path, start: int, mode: int, reporter: Reporter, stop: Callable[[], bool]
) -> tuple[str, list[bytes]]:
    """Write `source` to `part`, from byte `start` on. What `_hashes` gives."""
    out, position, synced = _Output(part, start, mode), 0, start

    def write(view: memoryview) -> None:
        nonlocal position, synced
        position += len(view)
        if position > start:
            out.write(view)
        if position - synced >= _SYNC:
            out.sync()
            synced = position

    try:
        found = _hashes(source, reporter, stop, write)
        out.sync()
    finally:
        out.close()
    return found


def _hashes(
    source: Path,
    reporter: Reporter,
    stop: Callable[[], bool],
    see: Callable[[memoryview], object] = lambda _view: None,
) -> tuple[str, list[bytes]]:
    """Read `source`, showing `see` each chunk: its SHA-256 and the hash of each chunk."""
    whole, chunks = hashlib.sha256(), []
    for view in _read(source, stop):
        whole.update(view)
        chunks.append(blake3(view).digest())
        see(view)
        reporter.advance(len(view))
    return whole.hexdigest(), chunks


class _Output:
    """The copy, growing from byte `start` on. Raises StorageError."""

    def __init__(self, path: Path, start: int, mode: int) -> None:
        self._path = path
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
            os.ftruncate(self._fd, start)
            os.lseek(self._fd, start, os.SEEK_SET)
        except OSError as exc:
            raise storage_error(exc, path, "write") from exc

    def write(self, view: memoryview) -> None:
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as exc:
            raise storage_error(exc, self._path, "write") from exc

    def sync(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as exc:
            raise storage_error(exc, self._path, "write") from exc

    def close(self) -> None:
        os.close(self._fd)


def _compare(path: Path, chunks: list[bytes], reporter: Reporter, stop: Callable[[], bool]) -> None:
    """Read `path` from its medium, not from memory. Raises ContentError naming each chunk that is not as written."""
    wrong, count = [], 0
    forget(path)
    for number, view in enumerate(_read(path, stop)):
        count += 1
        if number >= len(chunks) or blake3(view).digest() != chunks[number]:
            wrong.append(number)
        reporter.advance(len(view))
    if wrong or count != len(chunks):
        places = ", ".join(f"byte {number * CHUNK}" for number in wrong[:5]) or "its end"
        raise ContentError(
            f"{path}: the medium returns something else than was written, from {places} on",
            hint="do not carry this medium: write it again, or take another one.",
        )


def _read(path: Path, stop: Callable[[], bool]) -> Iterator[memoryview]:
    """The chunks of a file, in one buffer."""
    buffer = memoryview(bytearray(CHUNK))
    try:
        with path.open("rb", buffering=0) as file:
            while count := _fill(file, buffer):
                if stop():
                    raise AirferryError(f"{path}: given up, since another copy failed")
                yield buffer[:count]
    except OSError as exc:
        raise storage_error(exc, path, "read") from exc


def _fill(file: Any, buffer: memoryview) -> int:
    done = 0
    while done < len(buffer) and (count := file.readinto(buffer[done:])):
        done += count
    return done


def _rename(part: Path, target: Path) -> None:
    try:
        part.replace(target)
        sync_folder(target.parent)
    except OSError as exc:
        raise storage_error(exc, target, "write") from exc
