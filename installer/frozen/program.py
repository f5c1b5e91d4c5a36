"""The program itself: where its file is, what is appended to it, and the surroundings it runs in.

The frozen program unpacks itself into a temporary folder and runs there as the child of a small static program (the
one that was started). That asks for some care, all of it here and all of it before anything else is imported:

- The child ends with its parent. Otherwise SIGKILL on the visible process would leave an orphan at work.
- The temporary folder must not be open to other users, and folders left by killed runs are removed.
- Variables that steer libraries (LD_*, OPENSSL_CONF, SSL_CERT_FILE, ...) come from whoever called; under sudo that
  may be someone else. They are removed.
- Large libraries stay compressed until they are needed (`installer.frozen.compressed_libs`).

Only light modules may be imported here at the top: what loads OpenSSL must come after `begin`.
"""

import contextlib
import fcntl
import os
import signal
import stat
import struct
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from installer.errors import BundleError, StorageError
from installer.frozen import compressed_libs

if TYPE_CHECKING:
    from installer.frozen.header import PinnedKey

RUN_MARK = "airferry-run"
"""A file in the temporary folder, locked while the program runs; empty until it has started."""

# --- the file and what is appended to it ---

_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_NULL, _NO_BITS = 0, 8
_MAX_HEADERS = 4096


@dataclass(frozen=True)
class Embedded:
    """What a frozen file carries behind its program: `volume_size` bytes of volume at `volume_offset`, or none (0)."""

    name: str
    keys: tuple["PinnedKey", ...]
    volume_offset: int
    volume_size: int


def locate(executable: Path) -> Embedded | None:
    """What is appended to `executable`; None if it is no 64-bit ELF program or nothing is appended.

    Raises BundleError if something other than exactly a front and its volume is appended, StorageError.
    """
    from installer.files import storage_error
    from installer.frozen.header import ALIGNMENT

    try:
        with executable.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            end = program_end(file, size)
            if end is None or end == size:
                return None
            start = end + -end % ALIGNMENT
            file.seek(end)
            if size < start or any(file.read(start - end)):
                raise BundleError(f"{executable}: the program is followed by something else than zeros", hint=_AGAIN)
            return _embedded(file, start, size, executable)
    except OSError as exc:
        raise storage_error(exc, executable, "read") from exc


_AGAIN = "the file is damaged: carry it again, and compare its SHA-256 with the one from the release engineer."


def _embedded(file: BinaryIO, start: int, size: int, executable: Path) -> Embedded:
    from installer.frozen import header

    try:
        file.seek(start)
        head = file.read(header.ALIGNMENT)
        found = header.decode(head + file.read(header.front_size(head) - len(head)))
    except BundleError as exc:
        raise BundleError(f"{executable}: {exc.message}", hint=_AGAIN) from exc
    offset = file.tell()
    if offset + found.volume_size != size:
        raise BundleError(
            f"{executable}: {size} bytes, but program, front and volume make {offset + found.volume_size}", hint=_AGAIN
        )
    return Embedded(found.name, found.keys, offset, found.volume_size)


def program_end(file: BinaryIO, size: int) -> int | None:
    """Where the ELF program at the start of `file` (`size` bytes) ends; None if it is no 64-bit little-endian ELF.

    That is the end of the last of: section table, sections with bytes, segments (ELF-64 object file format, 1.5).
    Raises BundleError if the headers point outside the file.
    """
    file.seek(0)
    raw = file.read(_ELF_HEADER.size)
    if len(raw) < _ELF_HEADER.size or raw[:6] != b"\x7fELF\x02\x01":
        return None
    _, _, _, _, _, phoff, shoff, _, header, phsize, phnum, shsize, shnum, _ = _ELF_HEADER.unpack(raw)
    end: int = header
    for section in _table(file, size, shoff, shsize, shnum, _SECTION):
        kind, offset, length = section[1], section[4], section[5]
        if kind not in (_NULL, _NO_BITS):
            end = max(end, offset + length)
    for segment in _table(file, size, phoff, phsize, phnum, _SEGMENT):
        end = max(end, segment[2] + segment[5])
    end = max(end, shoff + shnum * shsize, phoff + phnum * phsize)
    if end > size:
        raise BundleError(f"the program's headers speak of {end} bytes, the file has {size}", hint=_AGAIN)
    return end


def _table(
    file: BinaryIO, size: int, offset: int, step: int, count: int, form: struct.Struct
) -> Iterator[tuple[int, ...]]:
    """The entries of a header table; every number is checked before it is used."""
    if count == 0:
        return
    if step != form.size or count > _MAX_HEADERS or offset + count * step > size:
        raise BundleError("the program's headers are malformed", hint=_AGAIN)
    file.seek(offset)
    yield from form.iter_unpack(file.read(count * step))


# --- the surroundings ---

_STEERING = (
    # dynamic loader, C library, Python, the two unpackers, OpenSSL, Go (the Helm library), and this program's libraries
    ("LD_", "PYTHON", "STATICX_", "_PYI_", "PYI", "OPENSSL_", "GLIBC_", "MALLOC_", "HELM_", "PYDANTIC_", "URLLIB3_"),
    frozenset(
        (
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "SSLKEYLOGFILE",
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
            "GODEBUG",
            "GCONV_PATH",
            "LOCPATH",
            "NLSPATH",
            "HOSTALIASES",
            "GETCONF_DIR",
            "TZDIR",
        )
    ),
)


def steers_libraries(variable: str) -> bool:
    """Whether a variable can make libraries load, trust or log something else than they would without it."""
    prefixes, names = _STEERING
    return variable in names or variable.startswith(prefixes)


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process that we start: without what steers libraries, ours and its own."""
    return {name: value for name, value in environ.items() if not steers_libraries(name)}


def begin(environ: MutableMapping[str, str], now: float) -> Path | None:
    """Put the program into order; call it before all else. Returns the frozen file, None when run from source.

    `now` is the time in seconds since 1970. Raises StorageError if the temporary folder is unfit.
    """
    open_closed_streams()
    frozen = getattr(sys, "frozen", False)
    executable = Path(environ.get("STATICX_PROG_PATH", sys.executable))
    folder = environ.get("STATICX_BUNDLE_DIR", "")
    for name in [name for name in environ if steers_libraries(name)]:
        del environ[name]
    if not frozen:
        return None
    if folder:
        _end_with_parent(executable)
        _check_temporary(Path(folder).parent)
        _mark_run(Path(folder))
        remove_stale(Path(folder).parent, now)
    find_libraries()
    return executable if executable.is_absolute() and executable.is_file() else None


def find_libraries() -> None:
    """Have the libraries that the frozen program keeps compressed unpacked when they are needed.

    For a process that the frozen program starts from its own folder, this is all that there is to put into order.
    """
    if folder := getattr(sys, "_MEIPASS", ""):  # PyInstaller's
        compressed_libs.install(Path(folder))


def open_closed_streams() -> None:
    """Give standard streams that the caller has closed a place to go, else the next file opened would take it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Opened in this order, each gets the lowest free descriptor: its own.
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


_PR_SET_PDEATHSIG = 1


def _end_with_parent(executable: Path) -> None:
    """Have the kernel kill this process when its parent ends (prctl(2)); end now if that has already happened."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    try:
        parent = str(Path(f"/proc/{os.getppid()}/exe").readlink())
    except PermissionError:
        orphan = os.getppid() == 1  # a parent of ours has our user and would let us read
    except OSError:
        orphan = False  # a parent outside of our process namespace
    else:
        orphan = parent not in (str(executable), f"{executable} (deleted)")
    if orphan:
        os.kill(os.getpid(), signal.SIGKILL)


def _check_temporary(parent: Path) -> None:
    """Refuse a folder in which other users can replace what we unpack. Raises StorageError."""
    found = parent.stat()
    shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
    if found.st_uid not in (0, os.geteuid()) or shared:
        raise StorageError(
            f"{parent}: other users can replace files in this temporary folder",
            hint="set TMPDIR to a folder of your own (mode 700) on a file system without noexec, and run it again.",
        )


def _mark_run(folder: Path) -> None:
    """Lock the mark in our temporary folder for as long as this process lives."""
    with contextlib.suppress(OSError):
        fd = os.open(folder / RUN_MARK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(fd, b"started\n")
        # The descriptor stays open on purpose: the kernel releases the lock when the process ends, however it ends.


_UNPACKING_SECONDS = 300
"""A run that has not started by then never will; should it still try, it fails and can be repeated."""
_OURS = (RUN_MARK, "airferry-enclave", f"_internal/{compressed_libs.LIST}")


def remove_stale(parent: Path, now: float) -> list[Path]:
    """Remove temporary folders in `parent` that killed runs of this user have left; returns them.

    A folder counts as left if nobody holds the lock on its mark and its run had started. Without a mark, or with one
    that says nothing, the run was killed while it unpacked or cleaned up: then it must be some minutes old, and hold
    a file of ours or nothing. What cannot be looked at or removed stays: a start must not fail because of another's
    remains.
    """
    removed = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(parent):
            if entry.name.startswith("staticx-") and _is_stale(Path(entry.path), now):
                _remove(Path(entry.path))
                removed.append(Path(entry.path))
    return removed


def _remove(folder: Path) -> None:
    """Remove a folder, its mark last: what this leaves when it is killed is still known as ours."""
    import shutil

    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != RUN_MARK:
                path.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _is_stale(folder: Path, now: float) -> bool:
    try:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            return False
        old = now - found.st_mtime > _UNPACKING_SECONDS
        try:
            return _had_started(folder / RUN_MARK) or old
        except FileNotFoundError:
            return old and (any((folder / name).exists() for name in _OURS) or not any(folder.iterdir()))
    except OSError:
        return False


def _had_started(mark: Path) -> bool:
    """Whether the run with this mark has started. Raises BlockingIOError (an OSError) if it still goes on."""
    fd = os.open(mark, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.read(fd, 1) != b""
    finally:
        os.close(fd)
