"""The commands for the way: media, patch."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import click

from builder.assemble.outputs import distribute
from builder.assemble.patch import write_patch
from builder.cli.options import FILE
from builder.cli.places import places_of
from builder.images.previous_bundle import EarlierBundles, open_own
from builder.images.source import LockSource
from builder.recipe.lock import Lock
from builder.release.media_copy import Copy, put
from installer.bundle.envelope import read_envelope
from installer.bundle.patch import MAX_PATCH_JSON, REQUEST, Request
from installer.bundle.reader import Bundle
from installer.bundle.signature import Trust
from installer.bundle.volume import VolumeFile
from installer.device import Device, device_of
from installer.errors import UsageError
from installer.files import check_output, read_bounded, storage_error
from installer.frozen.program import locate
from installer.oci.digest import Digest
from installer.oci.source import BlobSource
from installer.opening.volume_discovery import expand, volumes_in
from installer.parallel import each
from installer.report import size as human
from installer.shell import Session, common
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


@click.group()
def media() -> None:
    """Sticks and discs: write volumes onto them, and prove that the medium returns them.

    \b
      airferry media write /media/stick --from platform-1.0.tar
    """


@media.command()
@click.argument("folders", metavar="DIR...", type=click.Path(path_type=Path, file_okay=False), nargs=-1, required=True)
@click.option(
    "--from",
    "sources",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    required=True,
    help="A volume, the installer, or a folder with volumes; may be repeated.",
)
@common
def write(session: Session, *, folders: tuple[Path, ...], sources: tuple[Path, ...]) -> None:
    """Copy volumes and installer onto mounted media, wait for them, and read everything back from the device.

    Each file goes to the first DIR that has room for it. Beside each lies NAME.sha256, for `sha256sum -c`. What is
    there already, and the same, is left alone; an interrupted run continues, inside a file too.

    \b
      airferry media write /media/stick --from platform-1.0.tar --from platform-installer
      airferry media write /media/a /media/b --from volumes/
    """
    files = _files(sources)
    devices = {folder: device_of(folder) for folder in folders}
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


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
@click.option("--request", required=True, help="The file that `verify --request` wrote, or its line of text.")
@click.option("-o", "--file", "out", type=FILE, required=True, help="The patch to write.")
@click.option(
    "--from",
    "earlier",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    metavar="BUNDLE",
    help="An earlier bundle that holds what an update leaves out; may be repeated.",
)
@click.option("--lock", type=FILE, help="The lock of the bundle: what it leaves out is fetched.")
@common
def patch(
    session: Session,
    *,
    bundle: tuple[Path, ...],
    request: str,
    out: Path,
    earlier: tuple[Path, ...],
    lock: Path | None,
) -> None:
    """Answer a request from the enclave with a small file that holds just what is damaged there.

    It also answers `load --request` for an update: with what the registry there turned out not to hold. BUNDLE are the
    sender's own volumes. Inside, the patch is named beside them; nobody has to sign it. The request may be typed in:
    its end tells whether it was copied right.

    \b
      airferry patch volumes/ --request request.json -o patch.tar
      airferry patch platform-2.0-update.tar --request request.json --from platform-1.0.tar -o patch.tar
      ./wandb-installer load --bundle /media/discs --bundle patch.tar
    """
    typed = request.lower().lstrip().startswith(REQUEST)
    wanted = Request.decode(request.encode() if typed else read_bounded(Path(request), MAX_PATCH_JSON))
    check_output(
        out, [*expand(bundle), *expand(earlier), *([] if typed else [Path(request)]), *([lock] if lock else [])]
    )
    with open_own(bundle) as opened, _left_out(session, earlier, lock, out.parent) as source:
        size, chunks = write_patch(opened, wanted, out, source)
        for info in opened.volumes.infos():
            if info.volume in wanted.volumes:
                session.reporter.note(f"all of volume {info.volume} is wanted: {info.path} itself would do, too")
    session.emit({"file": str(out), "bytes": size, "chunks": chunks}, f"{out}: {size} bytes ({human(size)})")
    session.reporter.note("next: carry it over, and name it with --bundle beside the volumes.")


@contextmanager
def _left_out(session: Session, earlier: Sequence[Path], lock: Path | None, spool: Path) -> Iterator[BlobSource | None]:
    """Where blobs come from that an update does not carry; None if no place is named."""
    with ExitStack() as stack:
        fetched = None
        if lock is not None:
            read = Lock.load(lock)
            fetched = LockSource(read, stack.enter_context(places_of(session, read.registries, lock.parent, spool)))
        bundles = [open_own([place]) for place in earlier]
        found = stack.enter_context(EarlierBundles(bundles, fetched, session.reporter))
        yield found if bundles or fetched else None


def _files(sources: Sequence[Path]) -> list[Path]:
    files = [path for source in sources for path in (volumes_in(source, 0) if source.is_dir() else [source])]
    if not files:
        raise UsageError(f"{sources[0]}: holds no volume of a bundle", hint="name the files.")
    names = [path.name for path in files]
    if len(set(names)) != len(names):
        raise UsageError("two files have the same name", hint="name each once.")
    return files


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


COMMANDS: tuple[click.Command, ...] = (media, patch)
