"""Which volume takes what: whole blobs, images kept together, as few volumes as that allows.

Volumes are filled one after the other, and the manifests of an image come after all else of it. So whoever reads the
volumes in their order meets the manifests of an image when everything that they name has been met already.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from builder.assemble.volume_size import VolumeSize
from installer.bundle.limits import CHUNK, MAX_VOLUMES
from installer.bundle.manifest import BundleBlob, BundleVolume
from installer.bundle.tar import BLOCK, TRAILER, padded
from installer.bundle.volume import Shares, place
from installer.errors import UsageError
from installer.oci.digest import Digest
from installer.oci.model import Descriptor
from installer.value import Value

_SMALLEST = BLOCK + CHUNK
_STEPS = 12
_PRECISION = 200
"""The search for equal parts ends within this fraction of their size."""


class Arrangement(Value):
    """A layout: blobs at their places, the volumes, and for each image the numbers of the blobs that it consists of."""

    blobs: tuple[BundleBlob, ...]
    volumes: tuple[BundleVolume, ...]
    parts: Mapping[str, tuple[int, ...]]


def arrange(
    blobs: Sequence[Descriptor],
    images: Mapping[str, AbstractSet[Digest]],
    size: VolumeSize | None = None,
    metadata: int = 0,
    left_out: AbstractSet[Digest] = frozenset(),
) -> Arrangement:
    """Lay out `blobs`, of which each image consists of some; what no image needs goes first, into the first volume.

    Those `left_out` are not carried: they get numbers behind all others, and no place. Without `size` all goes into one
    volume. `metadata` are the bytes before each payload. In each volume small blobs come first. Raises UsageError if
    volumes of this size cannot hold the bundle.
    """
    carried = [blob for blob in blobs if blob.digest not in left_out]
    shares: Shares = {blob.digest: ((0, blob.size),) for blob in carried}
    if size is not None:
        shares = _shares(_Groups(carried, images), size, metadata + len(TRAILER))
    first = {digest: pieces[0][0] for digest, pieces in shares.items()}
    ordered = sorted(blobs, key=lambda blob: (first.get(blob.digest, MAX_VOLUMES), blob.size, blob.digest.text))
    placed, volumes = place(ordered, shares)
    numbers = {blob.digest: number for number, blob in enumerate(ordered)}
    parts = {source: tuple(sorted(numbers[digest] for digest in closure)) for source, closure in images.items()}
    return Arrangement(placed, volumes, parts)


class _Groups:
    """What belongs together: first all that no image needs, then the blobs of each image; blobs by falling size."""

    def __init__(self, blobs: Sequence[Descriptor], images: Mapping[str, AbstractSet[Digest]]) -> None:
        self.blobs = sorted(blobs, key=lambda blob: (-blob.size, blob.digest.text))
        self.costs = [_cost(blob.size) for blob in self.blobs]
        self.is_manifest = [blob.is_manifest or blob.is_index for blob in self.blobs]
        numbers = {blob.digest: number for number, blob in enumerate(self.blobs)}
        closures = dict.fromkeys(
            tuple(sorted(numbers[digest] for digest in images[source] if digest in numbers))
            for source in sorted(images)
        )
        used = set().union(*closures)
        self.groups = [[number for number in range(len(self.blobs)) if number not in used], *map(list, closures)]
        self.users: list[list[int]] = [[] for _ in self.blobs]
        for group, members in enumerate(self.groups):
            for number in members:
                self.users[number].append(group)


Pieces = dict[int, tuple[tuple[int, int], ...]]
"""For each blob, by its number, the volumes that take it, and how many bytes each takes."""


def _shares(groups: _Groups, size: VolumeSize, overhead: int) -> Shares:
    if size.parts:
        pieces = _equal(groups, size.parts)
    else:
        pieces = pack(groups, lambda number: size.bytes - overhead - (size.reserve if number == 0 else 0))
    return {groups.blobs[number].digest: found for number, found in pieces.items()}


def _equal(groups: _Groups, parts: int) -> Pieces:
    """The smallest volumes, more or less, of which `parts` are enough."""
    total = sum(groups.costs)
    low, high = max(total // parts, _SMALLEST), max(total, _SMALLEST)
    best = pack(groups, lambda _: high)
    # Most often a tenth more than the mean is enough.
    middle = padded(min(low + low // 10, high))
    for _ in range(_STEPS):
        found = pack(groups, lambda _, room=middle: room)  # type: ignore[misc]
        if 1 + max(volume for pieces in found.values() for volume, _ in pieces) <= parts:
            best, high = found, middle
        else:
            low = middle
        if high - low <= total // parts // _PRECISION:
            break
        middle = padded((low + high) // 2)
    return best


def pack(groups: _Groups, room: Callable[[int], int]) -> Pieces:
    """Where each blob goes; `room` is the payload of each volume.

    The first group goes first. Of the others, the one that shares most with the volume at hand and still fits is
    next; a new volume is begun when none fits. Only a blob that is larger than a volume is cut.
    Raises UsageError for volumes without room for a chunk, or more volumes than the format allows.
    """
    packer = _Packer(groups, room)
    fresh = [sum(groups.costs[number] for number in group) for group in groups.groups]
    near = [0] * len(fresh)
    waiting = list(range(1, len(fresh)))
    chosen: int | None = 0
    while chosen is not None:
        members = [number for number in groups.groups[chosen] if number not in packer.pieces]
        packer.put_together(members)
        for number in members:
            cost = groups.costs[number]
            for user in groups.users[number]:
                fresh[user] -= cost
                near[user] += cost
        chosen = _next(packer, waiting, fresh, near)
        if chosen is not None:
            waiting.remove(chosen)
    return packer.pieces


def _next(packer: "_Packer", waiting: list[int], fresh: list[int], near: list[int]) -> int | None:
    """The group to put next; begins a new volume if none fits into this one. None if none is left."""
    if not waiting:
        return None
    left = packer.left
    fitting = [number for number in waiting if fresh[number] <= left]
    if not fitting:
        # What fits no volume at all may as well begin here.
        following = packer.following
        fitting = [number for number in waiting if fresh[number] > following]
    if not fitting and packer.empty:
        fitting = waiting
    if not fitting:
        packer.begin()
        near[:] = [0] * len(near)
        left = packer.left
        fitting = [number for number in waiting if fresh[number] <= left] or waiting
    # The nearest, of these the largest, of these the first: three passes without a call for each number.
    for key in (near, fresh):
        most = max(map(key.__getitem__, fitting))
        fitting = [number for number in fitting if key[number] == most]
    return fitting[0]


def _cost(size: int) -> int:
    return BLOCK + padded(size)


class _Packer:
    """Fills volumes one after the other."""

    def __init__(self, groups: _Groups, room: Callable[[int], int]) -> None:
        self._groups, self._room = groups, room
        self._volume = 0
        self.left = self._whole = self._checked(0)
        self.pieces: Pieces = {}

    @property
    def following(self) -> int:
        """The room of the next volume."""
        return self._checked(self._volume + 1)

    def begin(self) -> None:
        """Go on to the next volume."""
        self._volume += 1
        if self._volume >= MAX_VOLUMES:
            raise UsageError(f"more than {MAX_VOLUMES} volumes", hint="choose larger volumes with --volume-size.")
        self.left = self._whole = self._checked(self._volume)

    def put_together(self, numbers: Sequence[int]) -> None:
        """Place blobs, given by falling size: what must be cut, and whatever fits before another volume is begun.

        Manifests come last, all of them into one volume.
        """
        costs, is_manifest = self._groups.costs, self._groups.is_manifest
        last = [number for number in numbers if is_manifest[number]]
        rest = [number for number in numbers if not is_manifest[number]]
        while rest:
            following = self.following
            place = next(
                (n for n, number in enumerate(rest) if costs[number] <= self.left or costs[number] > following), 0
            )
            self._put(rest.pop(place))
        if sum(costs[number] for number in last) > self.left and not self.empty:
            self.begin()
        for number in last:
            self._put(number)

    @property
    def empty(self) -> bool:
        """Whether this volume holds nothing yet."""
        return self.left == self._whole

    def _checked(self, volume: int) -> int:
        room = self._room(volume)
        if room < _SMALLEST:
            raise UsageError(
                f"volumes of this size have {max(room, 0)} bytes for content, and {_SMALLEST} are the least",
                hint="choose larger volumes with --volume-size.",
            )
        return room

    def _put(self, number: int) -> None:
        left, cost = self._groups.blobs[number].size, self._groups.costs[number]
        if cost <= self.left:
            self.pieces[number] = ((self._volume, left),)
            self.left -= cost
            return
        if not self.empty and self._better_in_next(left):
            self.begin()
        pieces = []
        while _cost(left) > self.left:
            length = (self.left - BLOCK) // CHUNK * CHUNK
            pieces.append((self._volume, length))
            left -= length
            self.begin()
        pieces.append((self._volume, left))
        self.left -= _cost(left)
        self.pieces[number] = tuple(pieces)

    def _better_in_next(self, size: int) -> bool:
        """Whether a blob that does not fit here comes into fewer pieces if it begins in the next volume."""
        here = max(self.left - BLOCK, 0) // CHUNK * CHUNK
        each = (self.following - BLOCK) // CHUNK * CHUNK
        return not here or _cost(size) <= self.following or -(-(size - here) // each) >= -(-size // each)
