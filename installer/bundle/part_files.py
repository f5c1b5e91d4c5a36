"""The part files of a build: volumes while they grow.

While it grows, a volume is called `NAME.part`. Its `SHA256SUMS` stays empty until everything else is in place, so it
can never pass for a finished one. `bundle.json` stands in the first volume from the start with all chunk hashes zero;
each hash is filled in after its chunk is written, the last one of a blob only after the blob's SHA-256 was right.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from blake3 import blake3

from installer.bundle import sums
from installer.bundle.envelope import member, read_envelope, unsigned_front
from installer.bundle.limits import BUNDLE_JSON, CHUNK, SIGNATURE, SUMS
from installer.bundle.manifest import HASH, BundleBlob, BundleManifest, chunk_count
from installer.bundle.tar import BLOCK, header
from installer.bundle.volume import VolumeFile, metadata_of, volume_sizes
from installer.errors import AirferryError, BundleError, IncompleteError, StorageError, UsageError
from installer.files import storage_error, sync_folder
from installer.oci.digest import Digest
from installer.parallel import INTERRUPTIONS
from installer.report import size
from installer.value import replace

Check = Callable[[Sequence[Path], Digest], object]
_NO_HASH = bytes(HASH)
_KEY = b'"chunks":"'
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_LIBC.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
_SYNC_FILE_RANGE_WRITE = 2
_WRITE = 1 << 18
"""Bytes of one write. For larger ones Linux takes larger pages, which virtual machines have lent back to their host:
getting those back costs several times the copy. Smaller ones are many more calls."""


class PartFiles:
    """The volumes of `skeleton` while they grow. Safe to use from several threads, each with blobs of its own.

    A context manager that closes the files. Running work ends soon after `stop` is set. Raises StorageError, UsageError
    if another build has the files.
    """

    def __init__(self, paths: Sequence[Path], skeleton: BundleManifest, manifest_json: bytes, *, sync: bool) -> None:
        if len(paths) != len(skeleton.volumes):
            raise ValueError(f"{len(paths)} paths for {len(skeleton.volumes)} volumes")
        self.skeleton, self._paths, self._manifest_json, self._wait = skeleton, paths, manifest_json, sync
        self._names = [part_of(path) for path in paths]
        self._metadata = metadata_of(skeleton, manifest_json)
        self._sizes = volume_sizes(skeleton, self._metadata)
        self._places = self._metadata.places()
        self._template = skeleton.encode()
        self._journal = _hash_places(skeleton, self._template)
        self._fds: list[int] = []
        self._turns = [threading.Lock() for _ in paths]
        self.stop = threading.Event()

    def __enter__(self) -> Self:
        try:
            for path in self._names:
                self._fds.append(_open_part(path))
            if not self._continues():
                self._clear()
                self._write(0, self._places[BUNDLE_JSON] - BLOCK, member(BUNDLE_JSON, self._template))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *rest: object) -> None:
        if kind is not None and issubclass(kind, INTERRUPTIONS):
            # Threads may still write: their files must not become another's. The process ends and closes them.
            return
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def _clear(self) -> None:
        """Begin anew. Leaves no part behind if there is no room for all of them."""
        try:
            for fd, path, wanted in zip(self._fds, self._names, self._sizes, strict=True):
                _clear(fd, path, wanted)
        except StorageError:
            for path in self._names:
                path.unlink(missing_ok=True)
            raise

    def _continues(self) -> bool:
        """Whether the parts were begun for this very content."""
        if any(os.fstat(fd).st_size != wanted for fd, wanted in zip(self._fds, self._sizes, strict=True)):
            return False
        found = bytearray(len(self._template))
        self._read(0, self._places[BUNDLE_JSON], memoryview(found))
        for blob in self.skeleton.blobs:
            place = self._journal[blob.digest]
            found[place : place + 2 * len(blob.chunks)] = b"0" * (2 * len(blob.chunks))
        return found == self._template

    def _hashes(self, blob: BundleBlob) -> bytes:
        """The chunk hashes recorded so far; zero where a chunk is not there yet."""
        raw = bytearray(2 * len(blob.chunks))
        self._read(0, self._places[BUNDLE_JSON] + self._journal[blob.digest], memoryview(raw))
        try:
            return bytes.fromhex(raw.decode("ascii"))
        except ValueError:
            return bytes(len(blob.chunks))

    def _record(self, blob: BundleBlob, number: int, digest: bytes) -> None:
        place = self._places[BUNDLE_JSON] + self._journal[blob.digest] + 2 * HASH * number
        self._write(0, place, digest.hex().encode("ascii"))

    def present(self, blob: BundleBlob, buffer: memoryview, feed: Callable[[memoryview], object]) -> int:
        """The number of chunks from the start of `blob` that are in place and as recorded; `feed` gets each of them."""
        hashes = self._hashes(blob)
        for number in range(chunk_count(blob.size)):
            expected = hashes[HASH * number : HASH * (number + 1)]
            if expected == _NO_HASH or self.stop.is_set():
                return number
            view = buffer[: min(CHUNK, blob.size - number * CHUNK)]
            self.get(blob, number, view)
            if blake3(view).digest() != expected:
                return number
            feed(view)
        return chunk_count(blob.size)

    def forget(self, blob: BundleBlob) -> None:
        """Clear the chunk hashes recorded for `blob`: its content is wrong."""
        self._write(0, self._places[BUNDLE_JSON] + self._journal[blob.digest], b"0" * (2 * len(blob.chunks)))

    def get(self, blob: BundleBlob, number: int, view: memoryview) -> None:
        """Read a chunk back."""
        piece, inside = blob.locate(number * CHUNK)
        volume, offset, _ = blob.pieces[piece]
        self._read(volume, self._metadata.length + offset + inside, view)

    def put(self, blob: BundleBlob, number: int, view: memoryview) -> None:
        """Write a chunk to its place, then record its hash."""
        digest = blake3(view).digest()
        piece, inside = blob.locate(number * CHUNK)
        volume, offset, _ = blob.pieces[piece]
        if not inside:
            self.frame(blob, piece)
        place = self._metadata.length + offset + inside
        self._write(volume, place, view)
        if self._wait:
            _start_writeback(self._fds[volume], place, len(view))
        self._record(blob, number, digest)

    def frame(self, blob: BundleBlob, piece: int = 0) -> None:
        """Write the header of a member; its padding is zero already."""
        volume, offset, length = blob.pieces[piece]
        self._write(volume, self._metadata.length + offset - BLOCK, header(blob.member(piece), length))

    def finish(self, slices: Mapping[Digest, Sequence[Digest]], check: Check) -> Digest:
        """Write the metadata, make everything durable, have it checked, give the volumes their names.

        `slices` are the digests of the pieces of each blob that is cut. Returns the digest of SHA256SUMS.
        """
        blobs = tuple(replace(blob, chunks=self._hashes(blob)) for blob in self.skeleton.blobs)
        manifest = replace(self.skeleton, blobs=blobs)
        signed, front = unsigned_front(manifest, self._manifest_json, slices)
        for volume in range(len(self._fds)):
            self._write(volume, self._places[SIGNATURE] - BLOCK, front)
            self._sync(volume)
            self._write(volume, 0, member(SUMS, signed))
            self._sync(volume)
        digest = Digest.of(signed)
        try:
            check(self._names, digest)
        except AirferryError:
            for volume in range(len(self._fds)):
                self._write(volume, 0, bytes(BLOCK))
            raise
        _rename(self._names, self._paths)
        return digest

    def _sync(self, volume: int) -> None:
        if not self._wait:
            return
        try:
            os.fsync(self._fds[volume])
        except OSError as exc:
            raise storage_error(exc, self._names[volume], "write") from exc

    def _write(self, volume: int, offset: int, data: bytes | memoryview) -> None:
        """Write it all. One thread at a time: the kernel lets no more than one into a file, and others would spin."""
        view = memoryview(data)
        try:
            with self._turns[volume]:
                while view:
                    count = os.pwrite(self._fds[volume], view[:_WRITE], offset)
                    view, offset = view[count:], offset + count
        except OSError as exc:
            raise storage_error(exc, self._names[volume], "write") from exc

    def _read(self, volume: int, offset: int, view: memoryview) -> None:
        try:
            if os.preadv(self._fds[volume], [view], offset) != len(view):
                raise StorageError(f"{self._names[volume]}: ends early", hint="delete it and build again.")
        except OSError as exc:
            raise storage_error(exc, self._names[volume], "read") from exc


def _rename(parts: Sequence[Path], paths: Sequence[Path]) -> None:
    """Give finished volumes their names, the first one last: while it is a part, others may have their names already.

    Raises StorageError.
    """
    for part, path in reversed(list(zip(parts, paths, strict=True))):
        try:
            if part.exists():
                part.replace(path)
                sync_folder(path.parent)
        except OSError as exc:
            raise storage_error(exc, path, "write") from exc


def finish_interrupted(paths: Sequence[Path]) -> None:
    """Give volumes their names if a run was interrupted while it did so; else do nothing. Raises StorageError."""
    parts = [part_of(path) for path in paths]
    present = [part if part.exists() else path for part, path in zip(parts, paths, strict=True)]
    if present[0] == parts[0] and all(path.exists() for path in present):
        with contextlib.ExitStack() as files:
            opened = [VolumeFile(path) for path in present]
            for file in opened:
                files.callback(file.close)
            try:
                found = {read_envelope(file).sums for file in opened}
                # Of sums that were being written when the power failed, a part may be there.
                same = len(found) == 1 and bool(sums.decode(found.pop()))
            except (BundleError, IncompleteError):
                return
        if same:
            _rename(parts, paths)


def part_of(path: Path) -> Path:
    """The name of the volume `path` while it grows."""
    return path.with_name(f"{path.name}.part")


def _hash_places(skeleton: BundleManifest, raw: bytes) -> dict[Digest, int]:
    """The offset in the bytes of bundle.json at which the chunk hashes of each blob begin.

    The key cannot occur inside a string, where its quotes would be escaped, and only blobs have it.
    """
    places, position = {}, 0
    for blob in skeleton.blobs:
        position = raw.index(_KEY, position) + len(_KEY)
        places[blob.digest] = position
    return places


def _open_part(path: Path) -> int:
    """Open or create a part file, for this process alone. Raises StorageError, UsageError if another one has it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise storage_error(exc, path, "create") from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(fd)
        if exc.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise storage_error(exc, path, "lock") from exc
        raise UsageError(f"{path}: another build is writing it", hint="wait for it, or end it.") from exc
    try:
        still_there = os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        still_there = False
    if not still_there:  # another build finished, and renamed it, between our opening and our lock
        os.close(fd)
        return _open_part(path)
    return fd


def _clear(fd: int, path: Path, wanted: int) -> None:
    """Empty the file and give it `wanted` bytes of real space where the file system can. Raises StorageError."""
    try:
        os.ftruncate(fd, 0)
        _allocate(fd, wanted)
    except OSError as exc:
        free = os.fstatvfs(fd)
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            room = size(free.f_bavail * free.f_frsize)
            raise StorageError(
                f"{path.parent}: {size(wanted)} are needed, {room} are free",
                hint="free some space, or choose another file with --file.",
            ) from exc
        raise storage_error(exc, path, "write") from exc


def _start_writeback(fd: int, offset: int, length: int) -> None:
    """`sync_file_range(2)`: the disk starts now, while the next chunks arrive, so that the final fsync finds little."""
    _LIBC.sync_file_range(fd, offset, length, _SYNC_FILE_RANGE_WRITE)


def _allocate(fd: int, wanted: int) -> None:
    """`fallocate(2)`; where the file system lacks it, a sparse file after a look at the free space.

    Not os.posix_fallocate: the C library imitates that by writing to every block, which a slow stick pays twice.
    """
    if _LIBC.fallocate(fd, 0, 0, wanted) == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EOPNOTSUPP, errno.ENOSYS):
        raise OSError(code, os.strerror(code))
    free = os.fstatvfs(fd)
    # Some file systems in user space do not say how large they are.
    if free.f_blocks and free.f_bavail * free.f_frsize < wanted:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(fd, wanted)
