"""What is known about the medium that a folder lies on: file system, label, serial number."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from installer.files import storage_error
from installer.value import Value

_MOUNTS = Path("/proc/self/mountinfo")
_UDEV = Path("/run/udev/data")
_BLOCK = Path("/sys/dev/block")
_OCTAL = re.compile(r"\\([0-7]{3})")


class Device(Value):
    """A mounted medium; texts are empty where nobody knows."""

    mount: str
    source: str
    file_system: str
    label: str
    serial: str
    model: str

    def __str__(self) -> str:
        known = [("label", self.label), ("serial", self.serial), ("model", self.model)]
        parts = [f"{name} {value}" if value else f"no {name} known" for name, value in known]
        return f"{self.source} ({self.file_system}), {', '.join(parts)}"


UNKNOWN = Device("", "", "", "", "", "")


def device_of(folder: Path) -> Device:
    """The medium that `folder` lies on. Raises UsageError, StorageError."""
    found = _mounted(folder)
    if found is None:
        return UNKNOWN
    number, mount, kind, source = found
    facts = _udev(number)
    return Device(
        mount,
        source,
        kind,
        facts.get("ID_FS_LABEL", ""),
        facts.get("ID_SERIAL_SHORT") or facts.get("ID_SERIAL") or _sysfs(number, "serial"),
        facts.get("ID_MODEL") or _sysfs(number, "model"),
    )


def disks_of(folder: Path) -> frozenset[str]:
    """The whole disks that `folder` lies on, or what else its file system is made of; empty where nobody knows.

    Raises UsageError, StorageError.
    """
    found = _mounted(folder)
    return frozenset(_disks(_BLOCK / found[0])) if found else frozenset()


def _disks(block: Path) -> Iterator[str]:
    """Those below a partition, a mapping or an array (Linux, Documentation/ABI/stable/sysfs-block)."""
    try:
        block = block.resolve(strict=True)
        parts = list((block / "slaves").iterdir()) if (block / "slaves").is_dir() else []
    except OSError:
        yield block.name
        return
    for part in parts:
        yield from _disks(part)
    if not parts:
        yield block.parent.name if (block / "partition").exists() else block.name


def _mounted(folder: Path) -> tuple[str, str, str, str] | None:
    """What `_fields` tells of the mount that `folder` is in; None below a changed root, whose own mount has no line."""
    try:
        path = folder.resolve(strict=True)
        # Mount points are bytes in any encoding, like all paths.
        lines = os.fsdecode(_MOUNTS.read_bytes()).rstrip("\n").split("\n")
    except OSError as exc:
        raise storage_error(exc, folder, "look at the medium") from exc
    mounts = [_fields(line) for line in lines]
    inside = [found for found in mounts if path.is_relative_to(found[1])]
    # The last one of the longest path hides those below it.
    return max(enumerate(inside), key=lambda item: (len(item[1][1]), item[0]))[1] if inside else None


def _fields(line: str) -> tuple[str, str, str, str]:
    """Device number, mount point, type and source of a line of mountinfo (proc(5))."""
    left, _, right = line.partition(" - ")
    kind, source, *_ = right.split(" ")
    _, _, number, _, mount, *_ = left.split(" ")
    return number, _plain(mount), kind, _plain(source)


def _plain(text: str) -> str:
    """A path without the octal escapes that mountinfo has for blanks."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)


def _udev(number: str) -> dict[str, str]:
    """The properties that udev keeps of a block device; none where there is no udev."""
    try:
        lines = (_UDEV / f"b{number}").read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    pairs = (line[2:].partition("=") for line in lines if line.startswith("E:"))
    return {name: value.strip() for name, _, value in pairs}


def _sysfs(number: str, name: str) -> str:
    """A property of a disk, or of the disk that a partition is on; empty if it has none."""
    try:
        block = (_BLOCK / number).resolve(strict=True)
    except OSError:
        return ""
    for folder in (block, block.parent):
        try:
            return (folder / "device" / name).read_text("utf-8", "replace").strip()
        except OSError:
            continue
    return ""
