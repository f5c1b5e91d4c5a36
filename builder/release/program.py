"""The enclave program: built once for each version of its sources and libraries, then kept in a cache folder."""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import installer
from installer.errors import AirferryError, UsageError
from installer.files import storage_error, sync_folder
from installer.report import Reporter

SOURCE = Path(installer.__file__).resolve().parent
ENTRY = SOURCE / "__main__.py"
HERE = Path(__file__).resolve().parent
RECIPE = (HERE / "installer.spec", HERE / "static_wrapper.py", HERE / "program.py")
TOOLS = {"objcopy": "binutils", "objdump": "binutils", "strip": "binutils", "patchelf": "patchelf", "ldd": "libc-bin"}
KEPT = 4
"""Programs kept in the cache, the most recently used."""
EPOCH = "1577836800"
"""SOURCE_DATE_EPOCH: any constant, so that two builds are identical (reproducible-builds.org)."""


def build_program(cache: Path, reporter: Reporter, *, entry: Path = ENTRY) -> Path:
    """The enclave program for this machine's architecture, from `cache` if it is there, else built (about a minute).

    `entry` is the script that the program runs. Two callers at once build one after the other.
    Raises UsageError if a tool is missing, AirferryError if the build fails, StorageError.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache, reporter):
            program = cache / f"program-{platform.machine()}-{program_key(entry)}"
            if not program.exists():
                check_tools()
                reporter.note("building the enclave program; this is done once for each version (about a minute)")
                _build(cache, program, entry)
            os.utime(program)
            _prune(cache)
            return program
    except OSError as exc:
        raise storage_error(exc, cache, "write") from exc


def program_key(entry: Path = ENTRY) -> str:
    """A name for everything that determines the program: sources, libraries, interpreter, C library, build steps."""
    key = hashlib.sha256()
    for path in sorted([*SOURCE.rglob("*.py"), *RECIPE, entry]):
        name = path.name if path in (*RECIPE, entry) else str(path.relative_to(SOURCE))
        key.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    # From some folders the same distribution is found twice.
    for item in sorted({f"{found.name}=={found.version}" for found in importlib.metadata.distributions()}):
        key.update(f"{item}\n".encode())
    # Not the name of the executable, of which an environment has several.
    key.update(f"{sys.version} {sys.prefix} {platform.libc_ver()}".encode())
    return key.hexdigest()[:16]


def check_tools() -> None:
    """Raises UsageError, naming the package, if a tool of the build is missing."""
    missing = {package for tool, package in TOOLS.items() if _tool(tool) is None}
    if not _has_shared_python():
        missing.add(f"libpython{sys.version_info.major}.{sys.version_info.minor}")
    if missing:
        names = " ".join(sorted(missing))
        raise UsageError(f"building the enclave program needs: {names}", hint=f"apt-get install {names}")


def _has_shared_python() -> bool:
    """Whether the interpreter is there as a library too, which PyInstaller needs.

    Debian's says that it was built with one, and has it in a package of its own.
    """
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    folders = (str(sysconfig.get_config_var("LIBDIR")), f"{sys.base_prefix}/lib")
    return any(Path(folder, name).exists() for folder in folders)


def _tool(name: str) -> str | None:
    """Where a tool is: beside our interpreter (patchelf comes as a Python package), else on the path."""
    return shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)


@contextlib.contextmanager
def _locked(cache: Path, reporter: Reporter) -> Iterator[None]:
    with (cache / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reporter.note("waiting for another airferry that builds the enclave program")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in cache.glob("build-*"):  # of a killed build: we have the lock
            shutil.rmtree(left, ignore_errors=True)
        yield


def _prune(cache: Path) -> None:
    programs = sorted(cache.glob("program-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in programs[KEPT:]:
        old.unlink(missing_ok=True)


def _build(cache: Path, program: Path, entry: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as name:
        folder = Path(name)
        freeze = ["PyInstaller", "--noconfirm", "--distpath", f"{folder}/dist", "--workpath", f"{folder}/work"]
        _run(folder, [*freeze, str(HERE / "installer.spec"), "--", str(SOURCE.parent), str(entry)])
        made = folder / "made"
        _run(folder, ["builder.release.static_wrapper", f"{folder}/dist/program", str(made)])
        with made.open("rb") as file:
            os.fsync(file.fileno())
        made.replace(program)
        sync_folder(cache)


def _run(folder: Path, module: list[str]) -> None:
    """Run a Python module with nothing in its environment that could change the result."""
    tools = dict.fromkeys(str(Path(found).parent) for tool in TOOLS if (found := _tool(tool)))
    environment = {
        "PATH": ":".join([*tools, "/usr/local/bin:/usr/bin:/bin"]),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(SOURCE.parent),
        "PYINSTALLER_CONFIG_DIR": str(folder / "config"),
        "SOURCE_DATE_EPOCH": EPOCH,
    }
    done = subprocess.run(
        [sys.executable, "-m", *module],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise AirferryError(f"building the enclave program: {module[0]} failed:\n{tail}", hint="report this output.")
