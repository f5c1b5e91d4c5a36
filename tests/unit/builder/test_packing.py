"""Volumes are never exceeded, images stay together, and few volumes are needed."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from builder.assemble.packing import Arrangement, arrange
from builder.assemble.volume_size import PRESETS, PROGRAM, VolumeSize
from installer.bundle.limits import CHUNK
from installer.bundle.tar import BLOCK, padded
from installer.errors import UsageError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor

METADATA = 20_480


def blob(name: str, size: int, media_type: str = media_types.OCTETS) -> Descriptor:
    return Descriptor(media_type, Digest.of(name.encode()), size)


def image(name: str, *layers: int) -> list[Descriptor]:
    """Layers of these sizes and a manifest."""
    content = [blob(f"{name} {number}", size) for number, size in enumerate(layers)]
    return [*content, blob(name, 1000, media_types.OCI_MANIFEST)]


def laid_out(images: dict[str, list[Descriptor]], size: VolumeSize, *others: Descriptor) -> Arrangement:
    """The layout, after a look at what holds for all layouts."""
    known = {item.digest: item for group in (others, *images.values()) for item in group}
    closures = {name: {item.digest for item in group} for name, group in images.items()}
    found = arrange(list(known.values()), closures, size, METADATA)
    ends = [0] * len(found.volumes)
    for item in found.blobs:
        for volume, offset, length in item.pieces:
            assert offset == ends[volume] + BLOCK
            ends[volume] = offset + padded(length)
        assert all(later == earlier + 1 for (earlier, *_), (later, *_) in pairwise(item.pieces))
    assert ends == [volume.payload for volume in found.volumes]
    if size.bytes:
        room = [size.bytes - METADATA - 1024 - (0 if number else size.reserve) for number in range(len(ends))]
        assert all(end <= limit for end, limit in zip(ends, room, strict=True))
        assert all(len(item.pieces) == 1 for item in found.blobs if BLOCK + padded(item.size) <= min(room))
    for name, closure in closures.items():
        assert {found.blobs[number].digest for number in found.parts[name]} == closure
    return found


def volumes_of(found: Arrangement, name: str) -> set[int]:
    return {volume for number in found.parts[name] for volume, _, _ in found.blobs[number].pieces}


def test_an_image_that_fits_is_on_one_volume() -> None:
    images = {f"image-{number}": image(f"image-{number}", 3 * CHUNK, 2 * CHUNK, 1000) for number in range(7)}
    found = laid_out(images, VolumeSize(12 * CHUNK), blob("values.yaml", 100))
    assert len(found.volumes) == 4  # two in each
    assert all(len(volumes_of(found, name)) == 1 for name in images)
    assert found.blobs[0].digest == blob("values.yaml", 100).digest


def test_images_with_a_common_base_are_neighbours() -> None:
    bases = [blob(f"base {number}", 5 * CHUNK) for number in range(3)]
    images = {f"image-{n}": [bases[n % 3], *image(f"image-{n}", CHUNK // 2)] for n in range(12)}
    found = laid_out(images, VolumeSize(8 * CHUNK))
    assert len(found.volumes) == 3
    assert all(len(volumes_of(found, name)) == 1 for name in images)


def test_only_what_no_volume_can_hold_is_cut() -> None:
    images = {"large": image("large", 25 * CHUNK + 3, CHUNK), "small": image("small", CHUNK)}
    found = laid_out(images, VolumeSize(10 * CHUNK))
    assert [item.size for item in found.blobs if len(item.pieces) > 1] == [25 * CHUNK + 3]
    assert len(found.volumes) == 3


def test_manifests_come_with_the_last_of_their_layers() -> None:
    """Whoever reads volumes in their order can finish an image when its last volume is in the drive."""
    source = random.Random("packing")
    shared = [blob(f"shared {number}", source.randrange(CHUNK * 3)) for number in range(10)]
    images = {
        name: [*source.sample(shared, 3), *image(name, *(source.randrange(CHUNK * 9) for _ in range(4)))]
        for name in map("image-{}".format, range(40))
    }
    found = laid_out(images, VolumeSize(11 * CHUNK + 12345), *(blob(f"chart {n}", 5000) for n in range(5)))
    for name in images:
        own = [found.blobs[number] for number in found.parts[name]]
        (manifest,) = [item for item in own if item.media_type == media_types.OCI_MANIFEST]
        assert manifest.pieces[0][0] == max(volumes_of(found, name))
    total = sum(volume.payload for volume in found.volumes)
    assert len(found.volumes) <= 1.25 * total / (11 * CHUNK)


def test_equal_parts() -> None:
    source = random.Random("parts")
    images = {f"i{n}": image(f"i{n}", *(source.randrange(CHUNK * 4) for _ in range(5))) for n in range(60)}
    for parts in (1, 2, 5, 9):
        payloads = [volume.payload for volume in laid_out(images, VolumeSize(parts=parts)).volumes]
        assert len(payloads) == parts
        assert max(payloads) <= 1.15 * sum(payloads) / parts


def test_one_large_blob_in_equal_parts() -> None:
    found = laid_out({"one": image("one", 20 * CHUNK)}, VolumeSize(parts=4))
    assert len(found.volumes) == 4


def test_the_first_volume_leaves_room_for_the_program() -> None:
    found = laid_out({"one": image("one", 2**32 - 200_000)}, VolumeSize.parse("fat32"))
    assert len(found.volumes) == 2
    assert 2**32 - found.volumes[0].payload > PROGRAM


def test_the_order_of_what_is_given_does_not_matter() -> None:
    images = {f"i{n}": image(f"i{n}", CHUNK * n, CHUNK) for n in range(9)}
    backwards = {name: images[name][::-1] for name in reversed(images)}
    assert laid_out(images, VolumeSize(12 * CHUNK)) == laid_out(backwards, VolumeSize(12 * CHUNK))


def test_volumes_that_are_too_small() -> None:
    for size in (VolumeSize(CHUNK), VolumeSize(1), VolumeSize(CHUNK + METADATA)):
        with pytest.raises(UsageError, match="are the least"):
            laid_out({"one": image("one", 10)}, size)
    with pytest.raises(UsageError, match="more than 999"):
        laid_out({"one": image("one", 1001 * CHUNK)}, VolumeSize(CHUNK + 100_000))


SECTORS = {
    # ECMA-349 (DVD+R, 4.7 Gbytes per side): data zone 30000h to 26053Fh. DVD-R has 2,298,496.
    "dvd": 0x26053F - 0x30000 + 1,
    # READ FORMAT CAPACITIES (MMC-6) of formatted media, as dvd+rw-mediainfo shows it: 24,220,008,448 bytes.
    "bd25": 11_826_176,
    # The same: 48,440,016,896 bytes.
    "bd50": 23_652_352,
    # dvdisaster, table of media (BDXL, three layers, with defect management).
    "bd100": 47_305_728,
}
NOMINAL = {"dvd": 4.7e9, "bd25": 25e9, "bd50": 50e9, "bd100": 100e9}
"""What stands on the package: a disc has about so many bytes, and formatting takes a few per cent of it."""


def test_capacities_of_media() -> None:
    """A wrong figure would only show at the burner, with a disc that is too small."""
    # DIR_FileSize of Microsoft's FAT specification has 32 bits.
    expected = {"fat32": 2**32 - 1, **{name: count * 2048 - (32 << 20) for name, count in SECTORS.items()}}
    assert expected == PRESETS
    for name, nominal in NOMINAL.items():
        assert 0.94 * nominal < SECTORS[name] * 2048 < 1.001 * nominal


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("fat32", VolumeSize(2**32 - 1, PROGRAM)),
        ("BD50", VolumeSize(PRESETS["bd50"], PROGRAM)),
        ("4GiB", VolumeSize(2**32)),
        ("4.5 GB", VolumeSize(4_500_000_000)),
        ("700MB", VolumeSize(700_000_000)),
        ("5", VolumeSize(parts=5)),
        ("3 parts", VolumeSize(parts=3)),
        ("1 part", VolumeSize(parts=1)),
    ],
)
def test_sizes_that_people_write(text: str, size: VolumeSize) -> None:
    assert VolumeSize.parse(text) == size


@pytest.mark.parametrize("text", ["", "0", "1000", "4G", "GiB", "-1", "4 GiB 2", "1e9", "bd", "٤", "4,5GB"])
def test_sizes_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError, match="not a size"):
        VolumeSize.parse(text)
