"""Requests and patches: what was damaged comes back in a small file, and nothing in it is believed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from builder.patch import write_patch
from installer.bundle.damage import verify_by_turns
from installer.bundle.limits import CHUNK
from installer.bundle.patch import Request
from installer.bundle.tar import BLOCK
from installer.errors import AirferryError, BundleError, UsageError
from installer.oci.digest import Digest
from installer.report import Silent
from tests.parts import second_reader
from tests.parts.bundles import KEYS, open_bundle

SUMS = Digest.of(b"sums")
PUBLIC = KEYS / "test-only.pub", KEYS / "test-only.minisign.pub"


def spoil(path: Path, offset: int, length: int = 100) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(byte ^ 0x55 for byte in path.read_bytes()[offset : offset + length]))


@pytest.fixture
def damaged(volumes: tuple[Path, ...], tmp_path: Path) -> list[Path]:
    """Copies of the three volumes: a chunk, a header and the start of the payload are damaged."""
    copies = [Path(shutil.copyfile(path, tmp_path / path.name)) for path in volumes]
    with open_bundle(volumes) as bundle:
        start = bundle._metadata.length
    spoil(copies[0], copies[0].stat().st_size - 5000)
    spoil(copies[1], start + BLOCK + 1000)
    spoil(copies[2], copies[2].stat().st_size - 2000)
    return copies


def patch_for(damaged: list[Path], volumes: tuple[Path, ...], folder: Path) -> Path:
    """What the sender answers to the request for `damaged`."""
    with open_bundle(damaged) as bundle:
        request = verify_by_turns(bundle, Silent()).request(bundle)
    assert request is not None
    copied = Request.decode(request.text.encode())
    assert copied == request == Request.decode(request.encode())
    with open_bundle(volumes) as bundle:
        size = write_patch(bundle, copied, folder / "patch.tar")
    assert size == (folder / "patch.tar").stat().st_size
    return folder / "patch.tar"


def test_damage_is_mended_in_place(damaged: list[Path], volumes: tuple[Path, ...], tmp_path: Path) -> None:
    patch = patch_for(damaged, volumes, tmp_path)
    assert patch.stat().st_size < 3 * CHUNK + 100_000
    for paths in ([*damaged, patch], [patch, *damaged]):
        with open_bundle(paths) as bundle:
            bundle.verify(Silent(), sha256=True)
    with open_bundle(damaged) as bundle, pytest.raises(BundleError):
        bundle.verify(Silent())


def test_a_patch_is_believed_only_by_its_hashes(damaged: list[Path], volumes: tuple[Path, ...], tmp_path: Path) -> None:
    patch = patch_for(damaged, volumes, tmp_path)
    whole = patch.read_bytes()
    found = second_reader.read([path.read_bytes() for path in volumes], *PUBLIC)
    chunks = second_reader.read_patch(whole, found.bundle)
    assert len(chunks) == 3
    spoil(patch, len(whole) - 3000)
    with open_bundle([*damaged, patch]) as bundle, pytest.raises(BundleError, match=r"patch.tar: damaged"):
        bundle.verify(Silent())
    with pytest.raises(second_reader.RefusedError):
        second_reader.read_patch(patch.read_bytes(), found.bundle)
    for spoilt in (whole[:-512], whole + bytes(512)):
        patch.write_bytes(spoilt)
        with pytest.raises(BundleError):
            open_bundle([*damaged, patch])


def test_every_bit_before_the_chunks(damaged: list[Path], volumes: tuple[Path, ...], tmp_path: Path) -> None:
    """A flip in front of the content is refused, or changes nothing: there is no third way."""
    patch = patch_for(damaged, volumes, tmp_path)
    whole = patch.read_bytes()
    with open_bundle(volumes) as bundle:
        start = bundle._metadata.length
    for bit in range(start * 8, (start + 3 * BLOCK) * 8, 61):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        patch.write_bytes(flipped)
        try:
            with open_bundle([*damaged, patch]) as bundle:
                bundle.verify(Silent())
        except AirferryError:
            continue
        assert bit // 8 >= start + BLOCK, "a header was not looked at"


def test_a_lost_volume_in_a_patch(volumes: tuple[Path, ...], tmp_path: Path) -> None:
    """A patch may hold all that was on a volume; then what was on it can be read."""
    with open_bundle(volumes) as bundle:
        lost = [
            (number, chunk)
            for number, blob in enumerate(bundle.manifest.blobs)
            for chunk in range(len(blob.chunks) // 32)
            if bundle.where(blob, chunk)[0] == 1
        ]
        write_patch(bundle, Request.of(bundle.verdict.sums, lost), tmp_path / "patch.tar")
    with open_bundle([volumes[0], tmp_path / "patch.tar", volumes[2]]) as bundle:
        assert bundle.missing == (2,)
        for blob in bundle.manifest.blobs:
            assert not bundle.absent(blob.digest)
            assert sum(len(view) for view in bundle.chunks(blob.digest)) == blob.size


def test_a_request_for_another_bundle(volumes: tuple[Path, ...], tmp_path: Path) -> None:
    with open_bundle(volumes) as bundle:
        for request, error in (
            (Request.of(SUMS, [(0, 0)]), UsageError),
            (Request.of(bundle.verdict.sums, [(10**6, 0)]), BundleError),
            (Request.of(bundle.verdict.sums, [(0, 9)]), BundleError),
        ):
            with pytest.raises(error):
                write_patch(bundle, request, tmp_path / "patch.tar")
    assert list(tmp_path.iterdir()) == []


def test_neighbours_become_one_range() -> None:
    request = Request.of(SUMS, [(3, 1), (3, 0), (3, 2), (3, 7), (1, 5), (3, 2)])
    assert request.extents == ((1, 5, 1), (3, 0, 3), (3, 7, 1))
    assert " 1:5 3:0+3 3:7 " in request.text


@pytest.mark.parametrize(
    "change",
    [lambda text: text[:-1], lambda text: text.replace("3:0", "3:1"), lambda text: text.replace(" 1:5", ""), str.upper],
)
def test_a_line_that_was_copied_wrong(change: object) -> None:
    text = Request.of(SUMS, [(3, 0), (1, 5)]).text
    with pytest.raises(UsageError):
        Request.decode(change(text).encode())  # type: ignore[operator]


@pytest.mark.parametrize(
    "extents", [(), ((0, 0, 0),), ((1, 0, 1), (0, 0, 1)), ((0, 0, 2), (0, 1, 1)), ((0, 0, 1), (0, 1, 1))]
)
def test_malformed_requests(extents: tuple[tuple[int, int, int], ...]) -> None:
    with pytest.raises(BundleError):
        Request("0" * 16, extents)
