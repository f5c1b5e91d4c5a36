"""Media as carriers have them, each an image file mounted by a user-space program: no rights and no drivers needed.

Except for `mounted_loop`: only a file system of the kernel's own keeps what it has written in memory.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.parts.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def _run(*command: str | Path) -> None:
    done = subprocess.run(
        command, env={**os.environ, "PATH": _PATH}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"


def fat_image(path: Path, megabytes: int, label: str) -> Path:
    """An empty stick with a FAT32 file system."""
    with path.open("wb") as file:
        file.truncate(megabytes << 20)
    _run("mkfs.fat", "-F", "32", "-n", label, path)
    return path


def iso_image(path: Path, folder: Path, label: str) -> Path:
    """A disc with the files of `folder`, as people burn them."""
    _run("genisoimage", "-quiet", "-J", "-r", "-iso-level", "3", "-V", label, "-o", path, folder)
    return path


@contextlib.contextmanager
def mounted_fat(image: Path, folder: Path, *, writable: bool = False) -> Iterator[Path]:
    """The stick `image` at the new `folder`."""
    options = ("-o", "rw+") if writable else ("-o", "ro")
    with _mounted(folder, "fusefat", *options, image, folder):
        yield folder


@contextlib.contextmanager
def mounted_iso(image: Path, folder: Path) -> Iterator[Path]:
    """The disc `image` at the new `folder`."""
    with _mounted(folder, "fuseiso", image, folder):
        yield folder


@contextlib.contextmanager
def mounted_loop(image: Path, folder: Path, size: int) -> Iterator[Path]:
    """A disk of `size` bytes at the new `folder`, which lies in the new file `image`. Needs root."""
    with image.open("wb") as file:
        file.truncate(size)
    _run("mkfs.ext4", "-q", image)
    folder.mkdir()
    _run("mount", "-o", "loop", image, folder)
    try:
        yield folder
    finally:
        _run("umount", folder)


@contextlib.contextmanager
def _mounted(folder: Path, *command: str | Path) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    _run(*command)
    try:
        yield
    finally:
        _run("fusermount", "-u", folder)
        # The program writes what it still holds after that.
        assert wait_until(lambda: not _served(folder), 60)


def _served(folder: Path) -> bool:
    """Whether a process runs whose command line names `folder`."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.fsencode(folder) in (process / "cmdline").read_bytes().split(b"\0"):
                return True
    return False
