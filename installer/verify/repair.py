"""Rebuilding lost or damaged volumes on site from parity that their sender made (PAR2).

Parity is not signed and need not be: a rebuilt volume is verified by its signature and chunk hashes like any other.
"""

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from installer.bundle.limits import CHUNK
from installer.bundle.reader import Bundle
from installer.bundle.volume import VolumeFile
from installer.errors import BundleError, StorageError, UsageError
from installer.files import is_folder, look_at, new_file, scratch_folder, storage_error, sync_folder
from installer.report import Reporter, size
from installer.verify import par2
from installer.verify.damage import damages
from installer.verify.findings import damage_error


def repair(bundle: Bundle, parity: Path, out: Path, reporter: Reporter) -> list[Path]:
    """Write every volume into the folder `out` that is missing or damaged, from those at hand and from `parity`.

    `parity` is one of the PAR2 files, or their folder; all of them lie in one. Nothing is written anywhere else.
    Raises UsageError without parity or `out`, BundleError if it is not enough, StorageError.
    """
    index = _index(parity, bundle)
    if not is_folder(out):
        raise UsageError(f"{out}: no such folder", hint="make it, on a disk with room for the rebuilt volumes.")
    found = damages(bundle, reporter, bundle.volumes.at_hand)
    damaged = {damage.volume - 1 for damage in found if damage.volume and damage.volume - 1 in bundle.volumes.files}
    wanted = sorted(bundle.volumes.missing | damaged)
    # PAR2 gives up on a file that it cannot read: such a volume counts as lost.
    unreadable = {damage.volume - 1 for damage in found if damage.kind == "unreadable"}
    usable = {number: file for number, file in bundle.volumes.files.items() if number not in unreadable}
    if not wanted:
        return []
    try:
        with scratch_folder(out.absolute() / f".{bundle.volumes.stem}.repair") as scratch:
            _check(bundle, wanted, usable, out)
            for number, file in usable.items():
                _provide(file, scratch / bundle.volumes.file_name(number))
            code, said = par2.run("repair", ["-B", scratch, index], bundle.volumes.size, reporter)
            if code:
                raise _failure(code, said, index)
            return [_taken(bundle, number, scratch, out, reporter) for number in wanted]
    except OSError as exc:
        raise storage_error(exc, out, "write") from exc


def _index(parity: Path, bundle: Bundle) -> Path:
    """One of the PAR2 files of the bundle, from which PAR2 finds the others."""
    if not is_folder(parity):
        if look_at(parity) is None:
            raise UsageError(f"{parity}: no such file", hint="name the .par2 file, or its folder.")
        return parity.absolute()
    try:
        found = sorted(path for path in parity.iterdir() if path.name.lower().endswith(par2.SUFFIX))
    except OSError as exc:
        raise storage_error(exc, parity, "read") from exc
    own = [path for path in found if path.name.startswith(f"{bundle.volumes.stem}.")]
    if not found:
        raise UsageError(f"{parity}: holds no .par2 file", hint="name the folder of the parity files.")
    return (own or found)[0].absolute()


def _check(bundle: Bundle, wanted: Collection[int], usable: Mapping[int, VolumeFile], out: Path) -> None:
    """Room and names are free. Raises StorageError, UsageError, OSError."""
    free = shutil.disk_usage(out).free
    sizes = [info.bytes for info in bundle.volumes.infos()]
    # What a frozen file carries has to be a file of its own for PAR2.
    needed = sum(sizes[number] for number in wanted) + sum(file.size for file in usable.values() if file.base)
    if needed > free:
        raise StorageError(
            f"{out}: {size(needed)} are needed there, and {size(free)} are free", hint="name another folder with --out."
        )
    for number in wanted:
        if (out / bundle.volumes.file_name(number)).exists():
            raise UsageError(
                f"{out / bundle.volumes.file_name(number)} is there already", hint="name another folder with --out."
            )


def _provide(file: VolumeFile, link: Path) -> None:
    """Give a volume at hand its name beside the others, without a copy where it is a whole file."""
    if not file.base:
        link.symlink_to(file.path.absolute())
        return
    with new_file(link) as copy:
        for start in range(0, file.size, CHUNK):
            copy.write(file.read(start, min(CHUNK, file.size - start)))


def _failure(code: int, said: str, index: Path) -> BundleError | StorageError:
    """The error for an exit code of PAR2."""
    if code == par2.NOT_ENOUGH:
        return BundleError(
            f"{index}: this parity cannot rebuild what is lost:\n{said}",
            hint="was it made before the volumes were signed? Else `verify --request FILE` asks for what is lost.",
        )
    if code == par2.INSUFFICIENT:
        return BundleError(f"{index}: damaged, or not all of it is in this folder:\n{said}", hint="copy it again.")
    return StorageError(f"{index}: par2 ended with code {code}:\n{said}", hint="see what it said.")


def _taken(bundle: Bundle, number: int, scratch: Path, out: Path, reporter: Reporter) -> Path:
    """Move a rebuilt volume to `out` when it proves to be genuine and whole. Raises UntrustedError, BundleError."""
    name = bundle.volumes.file_name(number)
    with Bundle.open([VolumeFile(scratch / name)], bundle.trust) as rebuilt:
        if rebuilt.verdict.sums != bundle.verdict.sums:
            raise BundleError(f"{name}: the parity is for another bundle", hint="take the parity of this one.")
        if found := damages(rebuilt, reporter, rebuilt.volumes.at_hand):
            raise damage_error(rebuilt, found)
    (scratch / name).replace(out / name)
    sync_folder(out)
    return out / name
