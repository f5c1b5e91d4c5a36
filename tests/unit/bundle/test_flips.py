"""No single bit of a bundle can change unnoticed, and no volume can be cut short or extended.

The bundle lies in memory; one bit at a time is flipped in place, the bundle is read as a stranger's file would be
(both key families are trusted, so that both signatures count), and the bit is put back. Where a flip can only matter
to one step of `Bundle.open`, because all that the steps before it read is unchanged, that step alone is run; some
flips everywhere go through all of `open` and `verify`.
"""

from __future__ import annotations

import itertools
import os
import random
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from installer.bundle import signature
from installer.bundle.envelope import match_volume, read_envelope, read_metadata, starts
from installer.bundle.limits import (
    BUNDLE_JSON,
    INDEX_JSON,
    MANIFEST_JSON,
    MINISIG,
    OCI_LAYOUT,
    SIGNATURE,
    SIGNATURES,
    SUMS,
)
from installer.bundle.reader import Bundle
from installer.bundle.tar import BLOCK, TRAILER, padded
from installer.bundle.volume import VolumeFile, volume_sizes
from installer.errors import BundleError, IncompleteError, UntrustedError
from installer.report import Silent
from installer.verify.verification import verify
from tests.parts.bundles import trust

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from installer.bundle.manifest import BundleBlob

REFUSALS = (BundleError, UntrustedError, IncompleteError)
TRUST = trust()
MEMBERS = (SUMS, SIGNATURE, MINISIG, SIGNATURES, BUNDLE_JSON, OCI_LAYOUT, INDEX_JSON, MANIFEST_JSON)
PAYLOAD_BITS = 20_000


class Memory:
    """A file in memory whose bits can be flipped."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.fd = os.memfd_create("volume")
        self.path = Path(f"/proc/self/fd/{self.fd}")
        os.pwrite(self.fd, content, 0)

    def close(self) -> None:
        os.close(self.fd)

    @contextmanager
    def flipped(self, bit: int) -> Iterator[None]:
        """The file with one other bit, counted from the file's first."""
        offset, mask = bit // 8, 1 << bit % 8
        before = self.content[offset]
        os.pwrite(self.fd, bytes([before ^ mask]), offset)
        try:
            assert os.pread(self.fd, 1, offset) != bytes([before])
            yield
        finally:
            os.pwrite(self.fd, bytes([before]), offset)


def opened(*files: Memory) -> Bundle:
    return Bundle.open([VolumeFile(file.path) for file in files], TRUST)


def assert_refused(file: Memory, bits: Iterable[int], attempt: Callable[[], object]) -> int:
    """Each of `bits` flipped alone makes `attempt` fail as damaged or untrusted; how many there were."""
    attempt()
    accepted, count = [], 0
    for bit in bits:
        count += 1
        with file.flipped(bit):
            try:
                attempt()
            except REFUSALS:
                continue
        accepted.append(bit)
    assert not accepted, f"{len(accepted)} of {count} flips were accepted: {accepted[:20]}"
    attempt()
    return count


def open_only(*files: Memory) -> Callable[[], None]:
    def attempt() -> None:
        with opened(*files):
            pass

    return attempt


def read_all_metadata(*files: Memory) -> Callable[[], None]:
    """Open, and look at what each volume repeats, as `verify` does."""

    def attempt() -> None:
        with opened(*files) as bundle:
            for file in bundle.volumes.files.values():
                bundle.check_metadata(file)

    return attempt


def verify_all(*files: Memory) -> Callable[[], None]:
    def attempt() -> None:
        with opened(*files) as bundle:
            bundle.require_all()
            verify(bundle, Silent())

    return attempt


@pytest.fixture(scope="module")
def memory(volume: Path) -> Iterator[Memory]:
    """The reference bundle."""
    memory = Memory(volume.read_bytes())
    yield memory
    memory.close()


@pytest.fixture(scope="module")
def three(volumes: tuple[Path, ...]) -> Iterator[tuple[Memory, ...]]:
    """The same in three volumes, a blob cut across two of them."""
    found = tuple(Memory(path.read_bytes()) for path in volumes)
    yield found
    for memory in found:
        memory.close()


def members(file: Memory) -> dict[str, range]:
    """Each metadata member with its header and padding, as bytes of the volume."""
    with opened(file) as bundle:
        places = bundle._metadata.places()
    starts = [*(places[name] - BLOCK for name in MEMBERS), places[""]]
    return {name: range(*starts[place : place + 2]) for place, name in enumerate(MEMBERS)}


def bits(area: range) -> range:
    return range(area.start * 8, area.stop * 8)


def frames(bundle: Bundle, volume: int) -> Iterator[tuple[BundleBlob, range]]:
    """For each payload member in a volume: its blob, and the bytes of its header, then those of its padding."""
    for blob in bundle.manifest.blobs:
        for number, offset, length in blob.pieces:
            if number == volume:
                start = bundle._metadata.length + offset
                yield blob, range(start - BLOCK, start)
                yield blob, range(start + length, start + padded(length))


def read_blob(bundle: Bundle, blob: BundleBlob) -> Callable[[], None]:
    """Read a blob as `load` does; an empty one as `verify` does, for nobody reads it."""

    def attempt() -> None:
        for _ in bundle.chunks(blob.digest):
            pass

    return attempt if blob.size else lambda: verify(bundle, Silent())


def steps_of_open(memory: Memory, file: VolumeFile) -> dict[str, Callable[[], object]]:
    """For each metadata member the steps of `open` that read it; for "" the step that looks at the end."""

    def envelope() -> None:
        found = read_envelope(file)
        signature.verify(found.sums, found.slots, TRUST)

    with opened(memory) as bundle:
        metadata, known, sizes = (
            bundle._metadata,
            starts(bundle.manifest),
            volume_sizes(bundle.manifest, bundle._metadata),
        )
    signed = read_envelope(file).sums
    front = dict.fromkeys((SUMS, SIGNATURE, MINISIG, SIGNATURES), envelope)
    rest = dict.fromkeys(MEMBERS[4:], lambda: read_metadata(file, signed))
    return {**front, **rest, "": lambda: match_volume(file, known, metadata.length, sizes)}


@pytest.mark.parametrize("name", MEMBERS)
def test_every_bit_of_the_metadata(memory: Memory, name: str) -> None:
    area = members(memory)[name]
    with closing(VolumeFile(memory.path)) as file:
        assert assert_refused(memory, bits(area), steps_of_open(memory, file)[name]) == len(area) * 8
    assert_refused(memory, random.Random(name).sample(bits(area), 300), open_only(memory))


def test_metadata_members_cover_all_before_the_payload(memory: Memory) -> None:
    areas = list(members(memory).values())
    assert areas[0].start == 0
    assert all(area.stop == following.start for area, following in itertools.pairwise(areas))
    with opened(memory) as bundle:
        assert areas[-1].stop == bundle._metadata.length


def test_every_bit_of_all_frames(memory: Memory) -> None:
    """Headers and padding of the payload. The first header is the one by which a volume is told from others."""
    count = 0
    with opened(memory) as bundle, closing(VolumeFile(memory.path)) as file:
        for blob, area in frames(bundle, 0):
            first = area.start == bundle._metadata.length
            attempt = steps_of_open(memory, file)[""] if first else read_blob(bundle, blob)
            count += assert_refused(memory, bits(area), attempt)
        content = sum(blob.size for blob in bundle.manifest.blobs)
        assert count == 8 * (bundle.manifest.volumes[0].payload - content)


def test_every_bit_of_the_end(memory: Memory) -> None:
    size = len(memory.content)
    area = range(size - len(TRAILER), size)
    with closing(VolumeFile(memory.path)) as file:
        assert_refused(memory, bits(area), steps_of_open(memory, file)[""])
    assert_refused(memory, random.Random(6).sample(bits(area), 300), open_only(memory))


def test_random_bits_of_the_payload(memory: Memory) -> None:
    """A flip is met by whoever reads its blob; that `verify` reads all blobs is the next test's."""
    with opened(memory) as bundle:
        areas = {blob.digest: bits(content_of(bundle, blob)) for blob in bundle.manifest.blobs}
        everything = [bit for area in areas.values() for bit in area]
        chosen = set(random.Random(7).sample(everything, PAYLOAD_BITS))
        count = 0
        for blob in bundle.manifest.blobs:
            wanted = sorted(chosen.intersection(areas[blob.digest]))
            count += assert_refused(memory, wanted, read_blob(bundle, blob))
    assert count == PAYLOAD_BITS


def content_of(bundle: Bundle, blob: BundleBlob) -> range:
    """The bytes of a blob in one piece, as bytes of the volume."""
    start = bundle._metadata.length + blob.pieces[0][1]
    return range(start, start + blob.size)


def test_random_bits_of_everything_by_verify(memory: Memory) -> None:
    chosen = random.Random(8)
    wanted = [chosen.randrange(len(memory.content) * 8) for _ in range(1500)]
    assert_refused(memory, wanted, verify_all(memory))


def test_random_bits_of_several_volumes(three: tuple[Memory, ...]) -> None:
    chosen = random.Random(9)
    for number, file in enumerate(three):
        with opened(*three) as bundle:
            end = bundle._metadata.length
            edges = [area for _, area in frames(bundle, number)]
        metadata = [chosen.randrange(end * 8) for _ in range(400)]
        assert_refused(file, metadata, read_all_metadata(*three))
        framing = [chosen.choice(bits(area)) for area in edges if area for _ in range(4)]
        payload = [chosen.randrange(end * 8, len(file.content) * 8) for _ in range(40)]
        assert_refused(file, framing + payload + metadata[:20], verify_all(*three))
        assert_refused(file, payload[:20], verify_alone(file))


def verify_alone(file: Memory) -> Callable[[], None]:
    """Verify what one volume of several holds."""

    def attempt() -> None:
        with opened(file) as bundle:
            verify(bundle, Silent())

    return attempt


def test_truncation_at_every_block(memory: Memory) -> None:
    assert len(memory.content) % BLOCK == 0
    try:
        for length in range(len(memory.content) - BLOCK, -1, -BLOCK):
            os.ftruncate(memory.fd, length)
            with pytest.raises(REFUSALS):
                opened(memory)
    finally:
        os.pwrite(memory.fd, memory.content, 0)
    verify_all(memory)()


def test_truncation_of_one_volume_of_several(three: tuple[Memory, ...]) -> None:
    whole = three[2].content
    try:
        for length in sorted(random.Random(10).sample(range(len(whole)), 300), reverse=True):
            os.ftruncate(three[2].fd, length)
            with pytest.raises(REFUSALS):
                opened(*three)
    finally:
        os.pwrite(three[2].fd, whole, 0)
    verify_all(*three)()


@pytest.mark.parametrize("extra", [b"\0", bytes(BLOCK), bytes(20 * BLOCK), b"x", b"\n"])
def test_extension(memory: Memory, three: tuple[Memory, ...], extra: bytes) -> None:
    for file, attempt in ((memory, open_only(memory)), (three[1], open_only(*three))):
        os.pwrite(file.fd, extra, len(file.content))
        try:
            with pytest.raises(REFUSALS):
                attempt()
        finally:
            os.ftruncate(file.fd, len(file.content))
        attempt()
