"""The files of one bundle: which volumes and patches are at hand, and where each chunk lies in them.

This module knows places only. Whether the bytes there are genuine is for `installer.bundle.reader` to check.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from installer.bundle.envelope import match_volume, starts
from installer.bundle.failures import damaged_frame, missing_volumes
from installer.bundle.limits import CHUNK
from installer.bundle.manifest import BundleBlob, BundleManifest, chunk_count
from installer.bundle.patch import begins_as_patch, read_patch
from installer.bundle.tar import BLOCK, header, padded
from installer.bundle.volume import Metadata, VolumeFile, file_names, file_stem, volume_sizes
from installer.errors import BundleError, IncompleteError
from installer.oci.digest import Digest
from installer.value import Value


class VolumeInfo(Value):
    """A volume: its number from 1, the name that its writer gave it, its size in bytes, and where it lies.

    `path` is empty if the volume is not at hand. It begins at byte `offset` of that file: in a frozen file the program
    stands before it.
    """

    volume: int
    file: str
    bytes: int
    path: str
    offset: int


class ChunkPlace(NamedTuple):
    """Where a chunk lies: `length` bytes from `offset` of `file`.

    `volume` (from 0) is the volume that the bundle keeps it in, also where a patch provides it. `piece` is the piece of
    the blob that begins with this chunk, -1 where none does.
    """

    volume: int
    file: VolumeFile
    offset: int
    length: int
    piece: int

    @property
    def start(self) -> int:
        """Its first byte, counted from the start of the file on disk."""
        return self.file.base + self.offset


class VolumeSet:
    """The volumes (numbered from 0) and patches at hand of one bundle. Closes their files.

    Several threads may ask at once. `add` and `release` are for one thread, while no other one reads.
    """

    def __init__(self, manifest: BundleManifest, metadata: Metadata) -> None:
        self._manifest, self._payload = manifest, metadata.length
        self._starts, self._sizes = starts(manifest), volume_sizes(manifest, metadata)
        self._files: dict[int, VolumeFile] = {}
        self._patches: list[VolumeFile] = []
        self._patched = dict[tuple[Digest, int], tuple[VolumeFile, int]]()
        self._replaced: frozenset[int] = frozenset()

    def add(self, files: Collection[VolumeFile]) -> None:
        """Take over `files`, volumes first, since a patch may make up for those that are still missing.

        Raises BundleError if a file does not fit or is there already, StorageError.
        """
        patches = [file for file in files if begins_as_patch(file, self._payload)]
        for file in files:
            if file not in patches:
                self._add_volume(file)
        for file in patches:
            self._add_patch(file)

    def _add_volume(self, file: VolumeFile) -> None:
        number = match_volume(file, self._starts, self._payload, self._sizes)
        if number in self._files:
            there = self._files[number].path
            raise BundleError(f"{file.path}: the same volume as {there}", hint="give each volume once.")
        self._files[number] = file

    def _add_patch(self, file: VolumeFile) -> None:
        places = read_patch(file, self._manifest, self._payload)
        self._patches.append(file)
        self._patched |= {chunk: (file, place) for chunk, place in places.items()}
        volumes = frozenset(range(len(self._manifest.volumes)))
        self._replaced = volumes.difference(self._files, *map(self.absent, self._manifest.blobs))

    def close(self) -> None:
        """Close all files."""
        for file in (*self._files.values(), *self._patches):
            file.close()

    def release(self, *, except_file: Path | None = None) -> None:
        """Close all volumes and patches, but for volumes in `except_file`, so that their medium can be taken out."""
        for number, file in list(self._files.items()):
            if file.path != except_file:
                file.close()
                del self._files[number]
        for file in self._patches:
            file.close()
        self._patches.clear()
        self._patched.clear()
        self._replaced = frozenset()

    # --- what is at hand ---

    @property
    def files(self) -> Mapping[int, VolumeFile]:
        """The files of the volumes at hand, by number."""
        return dict(self._files)

    @property
    def patches(self) -> tuple[VolumeFile, ...]:
        """The files of the patches at hand."""
        return tuple(self._patches)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The paths of volumes and patches at hand."""
        return tuple(file.path for file in (*self._files.values(), *self._patches))

    @property
    def at_hand(self) -> frozenset[int]:
        """The volumes at hand. Patches stand for a volume if they hold all that it held."""
        return self._replaced.union(self._files)

    @property
    def missing(self) -> frozenset[int]:
        """The volumes that are not at hand."""
        return frozenset(range(len(self._sizes))) - self.at_hand

    def require_all(self) -> None:
        """Raises IncompleteError if a volume is not at hand."""
        if self.missing:
            raise self.incomplete(self.missing)

    def incomplete(self, volumes: Collection[int]) -> IncompleteError:
        """The error for missing `volumes`."""
        return missing_volumes({number: self.file_name(number) for number in volumes}, len(self._sizes))

    def file(self, number: int) -> VolumeFile:
        """The file of volume `number`. Raises IncompleteError."""
        if number not in self._files:
            raise self.incomplete((number,))
        return self._files[number]

    # --- names and sizes ---

    @property
    def size(self) -> int:
        """Bytes of all volumes together."""
        return sum(self._sizes)

    @property
    def stem(self) -> str:
        """The beginning of the names of this bundle's files, see `file_stem`."""
        return file_stem(self._manifest)

    def file_name(self, number: int) -> str:
        """The name that its writer gave volume `number`."""
        return file_names(self._manifest)[number]

    def infos(self) -> list[VolumeInfo]:
        """All volumes in order, those that are not at hand too."""
        infos = []
        for number, (name, size) in enumerate(zip(file_names(self._manifest), self._sizes, strict=True)):
            file = self._files.get(number)
            path, offset = (str(file.path), file.base) if file else ("", 0)
            infos.append(VolumeInfo(number + 1, name, size, path, offset))
        return infos

    # --- blobs ---

    def absent(self, blob: BundleBlob) -> frozenset[int]:
        """The volumes that are not at hand and that are needed to read `blob`."""
        return frozenset(
            volume
            for volume, chunks in blob.runs()
            if volume not in self._files and any((blob.digest, number) not in self._patched for number in chunks)
        )

    def holds(self, blob: BundleBlob) -> bool:
        """Whether `blob` belongs to the bundle as it is here: carried by it, or brought whole by a patch."""
        return blob.carried or all((blob.digest, number) in self._patched for number in range(chunk_count(blob.size)))

    def place(self, blob: BundleBlob, number: int) -> ChunkPlace:
        """Where chunk `number` of a carried `blob` lies; in a patch, if one has it. Raises IncompleteError."""
        position = number * CHUNK
        length = min(CHUNK, blob.size - position)
        piece, inside = blob.locate(position) if blob.size else (0, 0)
        volume, offset, _ = blob.pieces[piece]
        if patched := self._patched.get((blob.digest, number)):
            return ChunkPlace(volume, *patched, length, -1)
        return ChunkPlace(volume, self.file(volume), self._payload + offset + inside, length, -1 if inside else piece)

    def patch_place(self, blob: BundleBlob, number: int) -> tuple[VolumeFile, int]:
        """The patch that holds chunk `number` of `blob`, and the chunk's offset there. Raises KeyError."""
        return self._patched[blob.digest, number]

    def check_frame(self, blob: BundleBlob, piece: int) -> None:
        """Step 5 of FORMAT.md, "Reading", for one member of the payload: the header before it, the padding after it.

        Raises BundleError, StorageError, IncompleteError.
        """
        volume, offset, length = blob.pieces[piece]
        if volume in self._replaced:
            return  # a patch has frames of its own
        file, begin = self.file(volume), self._payload + offset
        padding = file.read(begin + length, padded(length) - length)
        if file.read(begin - BLOCK, BLOCK) != header(blob.member(piece), length) or any(padding):
            raise damaged_frame(file.path, file.base + begin, blob)
