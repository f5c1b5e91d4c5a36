"""Which volume takes what: whole blobs, images kept together, as few volumes as that allows.

Volumes are filled one after the other, and the manifests of an image come after all else of it. So whoever reads the
volumes in their order meets the manifests of an image when everything that they name has been met already.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from builder.volume_size import VolumeSize
from installer.bundle.limits import CHUNK, MAX_VOLUMES
from installer.bundle.manifest import BundleBlob, BundleVolume
from installer.bundle.tar import BLOCK, TRAILER, padded
from installer.bundle.volume import Shares, place
from installer.errors import UsageError
from installer.oci.digest import Digest
from installer.oci.model import Descriptor

_SMALLEST = BLOCK + CHUNK
_STEPS = 12
"""Halvings in the search for equal parts: within a thousandth of the best size."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A layout: blobs at their places, the volumes, and for each image the numbers of the blobs that it consists of."""

    blobs: tuple[BundleBlob, ...]
    volumes: tuple[BundleVolume, ...]
    parts: Mapping[str, tuple[int, ...]]


def arrange(
    blobs: Sequence[Descriptor],
    images: Mapping[str, AbstractSet[Digest]],
    size: VolumeSize | None = None,
    metadata: int = 0,
) -> Arrangement:
    """Lay out `blobs`, of which each image consists of some; what no image needs goes first, into the first volume.

    Without `size` all goes into one volume. `metadata` are the bytes before each payload. In each volume small blobs
    come first. Raises UsageError if volumes of this size cannot hold the bundle.
    """
    shares: Shares = {blob.digest: ((0, blob.size),) for blob in blobs}
    if size is not None:
        shares = _shares(_groups(blobs, images), size, metadata + len(TRAILER))
    ordered = sorted(blobs, key=lambda blob: (shares[blob.digest][0][0], blob.size, blob.digest))
    placed, volumes = place(ordered, shares)
    numbers = {blob.digest: number for number, blob in enumerate(ordered)}
    parts = {source: tuple(sorted(numbers[digest] for digest in closure)) for source, closure in images.items()}
    return Arrangement(placed, volumes, parts)


def _groups(blobs: Sequence[Descriptor], images: Mapping[str, AbstractSet[Digest]]) -> list[list[Descriptor]]:
    """What belongs together: first all that no image needs, then the blobs of each image."""
    known = {blob.digest: blob for blob in blobs}
    closures = dict.fromkeys(frozenset(images[source]) for source in sorted(images))
    loose = known.keys() - frozenset().union(*closures)
    return [
        sorted((known[digest] for digest in group), key=lambda blob: (-blob.size, blob.digest))
        for group in (loose, *closures)
    ]


def _shares(groups: Sequence[Sequence[Descriptor]], size: VolumeSize, overhead: int) -> Shares:
    if not size.parts:
        return pack(groups, lambda number: size.bytes - overhead - (size.reserve if number == 0 else 0))
    total = sum({blob.digest: _cost(blob.size) for group in groups for blob in group}.values())
    low, high = max(total // size.parts, _SMALLEST), max(total, _SMALLEST)
    best = pack(groups, lambda _: high)
    for _ in range(_STEPS):
        middle = padded((low + high) // 2)
        found = pack(groups, lambda _, room=middle: room)  # type: ignore[misc]
        if 1 + max(volume for pieces in found.values() for volume, _ in pieces) <= size.parts:
            best, high = found, middle
        else:
            low = middle
    return best


def pack(groups: Sequence[Sequence[Descriptor]], room: Callable[[int], int]) -> Shares:
    """For each blob the volumes that take it, and how many bytes; `room` is the payload of each volume.

    The first group goes first. Of the others, the one that shares most with the volume at hand and still fits is
    next; a new volume is begun when none fits. Only a blob that is larger than a volume is cut.
    Raises UsageError for volumes without room for a chunk, or more volumes than the format allows.
    """
    packer = _Packer(room)
    waiting = dict(enumerate(groups))
    fresh = {number: sum(_cost(blob.size) for blob in group) for number, group in waiting.items()}
    users: dict[Digest, list[int]] = {}
    for number, blobs in waiting.items():
        for blob in blobs:
            users.setdefault(blob.digest, []).append(number)
    near = dict.fromkeys(waiting, 0)
    chosen: int | None = 0
    while chosen is not None:
        group = [blob for blob in waiting.pop(chosen) if blob.digest not in packer.shares]
        packer.put_together(group)
        for blob in group:
            for user in users[blob.digest]:
                fresh[user] -= _cost(blob.size)
                near[user] += _cost(blob.size)
        chosen = _next(packer, list(waiting), fresh, near)
    return packer.shares


def _next(packer: "_Packer", waiting: list[int], fresh: dict[int, int], near: dict[int, int]) -> int | None:
    """The group to put next; begins a new volume if none fits into this one. None if none is left."""
    if not waiting:
        return None
    fitting = [number for number in waiting if fresh[number] <= packer.left]
    if not fitting:
        # What fits no volume at all may as well begin here.
        fitting = [number for number in waiting if fresh[number] > packer.following]
    if not fitting and packer.empty:
        fitting = waiting
    if not fitting:
        packer.begin()
        near.update(dict.fromkeys(near, 0))
        fitting = [number for number in waiting if fresh[number] <= packer.left] or waiting
    return max(fitting, key=lambda number: (near[number], fresh[number], -number))


def _cost(size: int) -> int:
    return BLOCK + padded(size)


class _Packer:
    """Fills volumes one after the other."""

    def __init__(self, room: Callable[[int], int]) -> None:
        self._room = room
        self._volume = 0
        self.left = self._checked(0)
        self.shares: dict[Digest, tuple[tuple[int, int], ...]] = {}

    @property
    def following(self) -> int:
        """The room of the next volume."""
        return self._checked(self._volume + 1)

    def begin(self) -> None:
        """Go on to the next volume."""
        self._volume += 1
        if self._volume >= MAX_VOLUMES:
            raise UsageError(f"more than {MAX_VOLUMES} volumes", hint="choose larger volumes with --volume-size.")
        self.left = self._checked(self._volume)

    def put_together(self, blobs: Sequence[Descriptor]) -> None:
        """Place `blobs`, given by falling size: what must be cut, and whatever fits before another volume is begun.

        Manifests come last, all of them into one volume.
        """
        last = [blob for blob in blobs if blob.is_manifest or blob.is_index]
        rest = [blob for blob in blobs if not (blob.is_manifest or blob.is_index)]
        while rest:
            fitting = (blob for blob in rest if _cost(blob.size) <= self.left or _cost(blob.size) > self.following)
            blob = next(fitting, rest[0])
            rest.remove(blob)
            self._put(blob)
        if sum(_cost(blob.size) for blob in last) > self.left and not self.empty:
            self.begin()
        for blob in last:
            self._put(blob)

    @property
    def empty(self) -> bool:
        """Whether this volume holds nothing yet."""
        return self.left == self._room(self._volume)

    def _checked(self, volume: int) -> int:
        room = self._room(volume)
        if room < _SMALLEST:
            raise UsageError(
                f"volumes of this size have {max(room, 0)} bytes for content, and {_SMALLEST} are the least",
                hint="choose larger volumes with --volume-size.",
            )
        return room

    def _put(self, blob: Descriptor) -> None:
        if _cost(blob.size) > self.left and not self.empty and self._better_in_next(blob.size):
            self.begin()
        pieces, left = [], blob.size
        while _cost(left) > self.left:
            length = (self.left - BLOCK) // CHUNK * CHUNK
            pieces.append((self._volume, length))
            left -= length
            self.begin()
        pieces.append((self._volume, left))
        self.left -= _cost(left)
        self.shares[blob.digest] = tuple(pieces)

    def _better_in_next(self, size: int) -> bool:
        """Whether a blob that does not fit here comes into fewer pieces if it begins in the next volume."""
        here = max(self.left - BLOCK, 0) // CHUNK * CHUNK
        each = (self.following - BLOCK) // CHUNK * CHUNK
        return not here or _cost(size) <= self.following or -(-(size - here) // each) >= -(-size // each)
