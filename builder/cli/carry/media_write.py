"""The command `media write`."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from builder.assemble.outputs import distribute
from builder.release.media_copy import Copy, put
from installer.bundle.envelope import read_envelope
from installer.bundle.reader import Bundle
from installer.bundle.signature import Trust
from installer.bundle.volume import VolumeFile
from installer.commands import EXISTING, FOLDER, Command
from installer.device import Device, device_of, disks_of
from installer.errors import BundleError, StorageError, UsageError
from installer.files import storage_error
from installer.frozen.program import locate
from installer.oci.digest import Digest
from installer.opening.volume_discovery import volumes_in
from installer.parallel import each
from installer.report import size as human
from installer.shell import Session
from installer.value import Value

_FAT_FILE = 2**32 - 1


class _Volume(Value):
    """What is worth writing on a disc; `number` is 0 for a patch."""

    title: str
    number: int
    count: int
    sums: Digest

    @property
    def lines(self) -> list[str]:
        start = self.sums.hex[:16]
        groups = " ".join(start[place : place + 4] for place in range(0, len(start), 4))
        what = f"volume {self.number} of {self.count}" if self.number else "patch"
        return [self.title, what, f"SHA256SUMS begins {groups}"]


@click.command("write", cls=Command)
@click.argument("folders", metavar="DIR...", type=FOLDER, nargs=-1, required=True)
@click.option(
    "--from",
    "sources",
    type=EXISTING,
    multiple=True,
    required=True,
    help="A volume, the installer, or a folder with volumes and installers; may be repeated.",
)
@click.option("--own-disk", is_flag=True, help="DIR may be on the disk of this computer, for a share or a test.")
def media_write(session: Session, *, folders: tuple[Path, ...], sources: tuple[Path, ...], own_disk: bool) -> None:
    """Copy volumes and installer onto mounted media, wait for them, and read everything back from the device.

    Each file goes to the first DIR that has room for it. Beside each lies NAME.sha256, for `sha256sum -c`. What is
    there already, and the same, is left alone; an interrupted run continues, inside a file too. A DIR on which no
    medium is mounted is refused: it would fill the disk of this computer.

    \b
      airferry media write /media/stick --from app-1.0.tar --from app-installer
      airferry media write /media/a /media/b --from volumes/
    """
    devices = {folder: device_of(folder) for folder in folders}
    if not own_disk:
        _require_media(devices)
    files = _files(session, sources)
    sizes = {path.name: path.stat().st_size for path in files}
    targets = dict(zip(files, distribute(sizes, folders), strict=True))
    for path, target in targets.items():
        if devices[target.parent].file_system in ("vfat", "msdos") and sizes[path.name] > _FAT_FILE:
            raise UsageError(
                f"{path}: {human(sizes[path.name])}, and FAT on {target.parent} holds files of less than 4 GiB",
                hint="build with --volume-size fat32, or format the medium as exFAT.",
            )
    volumes = {path: found for path in files if (found := _volume(path))}
    copies = _copy_all(session, targets, 2 * sum(sizes.values()))
    document = [_document(folder, device, copies, volumes) for folder, device in devices.items()]
    session.emit({"media": document}, "\n".join(_text(item) for item in document))
    session.reporter.note("next: unmount the media, write these lines on them, and carry the checksums another way.")


def _require_media(devices: Mapping[Path, Device]) -> None:
    """Raises UsageError for a folder on the disk of the system: a stick that is not mounted looks like that."""
    root = Path("/")
    mount, own = device_of(root).mount, disks_of(root)
    for folder, device in devices.items():
        if device.mount == mount or disks_of(folder) & own:
            raise UsageError(
                f"{folder}: no medium is mounted there, it is on the disk of this computer, {device.source or '?'}",
                hint="mount the medium (`findmnt` shows where), or pass --own-disk if that disk is meant.",
            )


def _files(session: Session, sources: Sequence[Path]) -> list[Path]:
    files = [
        path
        for source in sources
        for path in ([*volumes_in(source, 0), *_installers_in(session, source)] if source.is_dir() else [source])
    ]
    if not files:
        raise UsageError(f"{sources[0]}: holds no volume of a bundle", hint="name the files.")
    names = [path.name for path in files]
    if len(set(names)) != len(names):
        raise UsageError("two files have the same name", hint="name each once.")
    return files


def _installers_in(session: Session, folder: Path) -> list[Path]:
    """The frozen programs in `folder`; whoever carries volumes needs one."""
    found = []
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as exc:
        raise storage_error(exc, folder, "read") from exc
    for path in files:
        try:
            if locate(path):
                found.append(path)
        except (BundleError, StorageError) as exc:
            session.reporter.note(f"warning: left out: {exc.message}")
    return found


def _volume(path: Path) -> _Volume | None:
    """Which volume a file is, or carries as installer; None for any other. Raises BundleError for a damaged one."""
    try:
        with path.open("rb") as start:
            bare = start.read(10) == b"SHA256SUMS"
    except OSError as exc:
        raise storage_error(exc, path, "read") from exc
    inside = None if bare else locate(path)
    if not bare and not (inside and inside.volume_size):
        return None
    place = (inside.volume_offset, inside.volume_size) if inside else (0, None)
    with closing(VolumeFile(path, *place)) as file:
        sums = Digest.of(read_envelope(file).sums)
    with Bundle.open([VolumeFile(path, *place)], Trust(sums=sums)) as bundle:
        title = f"{bundle.manifest.name} {bundle.manifest.version}"
        number = next((info.volume for info in bundle.volumes.infos() if info.path), 0)
        return _Volume(title, number, len(bundle.manifest.volumes), sums)


def _copy_all(session: Session, targets: Mapping[Path, Path], total: int) -> dict[Path, Copy]:
    """Copy each file, one at a time on each medium, all media at once."""
    stop = threading.Event()
    copies: dict[Path, Copy] = {}
    by_folder: dict[Path, list[Path]] = {}
    for path, target in targets.items():
        by_folder.setdefault(target.parent, []).append(path)

    def fill(folder: Path) -> None:
        for path in by_folder[folder]:
            copies[path] = put(path, targets[path], session.reporter, stop.is_set)

    session.reporter.begin("copying and reading back", total)
    each(fill, by_folder, threads=len(by_folder), stop=stop)
    session.reporter.end()
    return copies


def _document(
    folder: Path, device: Device, copies: Mapping[Path, Copy], volumes: Mapping[Path, _Volume]
) -> dict[str, Any]:
    own = {source: copy for source, copy in copies.items() if copy.path.parent == folder}
    return {
        "folder": str(folder),
        "device": device.source,
        "file_system": device.file_system,
        "label": device.label,
        "serial": device.serial,
        "model": device.model,
        "described": str(device),
        "files": [
            {
                "file": str(copy.path),
                "bytes": copy.size,
                "sha256": copy.sha256,
                "written": copy.fresh,
                "volume": volumes[source].number if source in volumes else 0,
            }
            for source, copy in own.items()
        ],
        "write_on_it": [line for source in own if source in volumes for line in volumes[source].lines],
    }


def _text(item: Mapping[str, Any]) -> str:
    lines = [f"{item['folder']}: {item['described']}"]
    for file in item["files"]:
        state = "written and read back" if file["written"] else "was there, read back"
        lines += [f"  {file['file']}: {file['bytes']} bytes, {state}", f"    sha256 {file['sha256']}"]
    if item["write_on_it"]:
        lines += ["  write on it:", *(f"    {line}" for line in item["write_on_it"])]
    return "\n".join(lines)
