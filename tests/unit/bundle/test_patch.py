"""Requests and patches: what was damaged comes back in a small file, and nothing in it is believed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from builder.assemble.patch import write_patch
from installer.bundle.limits import CHUNK
from installer.bundle.patch import Request
from installer.bundle.tar import BLOCK, header
from installer.errors import AirferryError, BundleError, UsageError
from installer.oci.digest import Digest
from installer.verify.verification import verify, verify_by_turns
from tests.parts import second_reader
from tests.parts.bundles import KEYS, open_bundle
from tests.parts.counted import Counted

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
        request = verify_by_turns(bundle, Counted()).request(bundle)
    assert request is not None
    copied = Request.decode(request.text.encode())
    assert copied == request == Request.decode(request.encode())
    with open_bundle(volumes) as bundle:
        size, chunks = write_patch(bundle, copied, folder / "patch.tar")
    assert (size, chunks) == ((folder / "patch.tar").stat().st_size, 3)
    return folder / "patch.tar"


def test_damage_is_mended_in_place(damaged: list[Path], volumes: tuple[Path, ...], tmp_path: Path) -> None:
    patch = patch_for(damaged, volumes, tmp_path)
    assert patch.stat().st_size < 3 * CHUNK + 100_000
    for paths in ([*damaged, patch], [patch, *damaged]):
        with open_bundle(paths) as bundle:
            verify(bundle, Counted(), sha256=True)
    with open_bundle(damaged) as bundle, pytest.raises(BundleError):
        verify(bundle, Counted())


def test_a_patch_is_believed_only_by_its_hashes(damaged: list[Path], volumes: tuple[Path, ...], tmp_path: Path) -> None:
    patch = patch_for(damaged, volumes, tmp_path)
    whole = patch.read_bytes()
    found = second_reader.read([path.read_bytes() for path in volumes], *PUBLIC)
    chunks = second_reader.read_patch(whole, found.bundle)
    assert len(chunks) == 3
    spoil(patch, len(whole) - 3000)
    with open_bundle([*damaged, patch]) as bundle, pytest.raises(BundleError, match=r"patch.tar: damaged"):
        verify(bundle, Counted())
    with pytest.raises(second_reader.RefusedError):
        second_reader.read_patch(patch.read_bytes(), found.bundle)
    for spoilt in (whole[:-512], whole + bytes(512)):
        patch.write_bytes(spoilt)
        with pytest.raises(BundleError):
            open_bundle([*damaged, patch])


def test_every_bit_before_the_chunks(damaged: list[Path], volumes: tuple[Path, ...], tmp_path: Path) -> None:
    """And behind them: all but the content, which has its hashes, has one form."""
    patch = patch_for(damaged, volumes, tmp_path)
    whole = patch.read_bytes()
    with open_bundle(volumes) as bundle:
        start = bundle._metadata.length
    end = len(whole) * 8
    for bit in (*range(start * 8, (start + 3 * BLOCK) * 8, 61), *range(end - 3 * BLOCK * 8, end, 61)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        patch.write_bytes(flipped)
        with pytest.raises(AirferryError), open_bundle([*damaged, patch]) as bundle:
            verify(bundle, Counted())


def test_what_a_patch_repeats(damaged: list[Path], volumes: tuple[Path, ...], tmp_path: Path) -> None:
    """Damage in its copy of the metadata stops nothing, and is told."""
    patch = patch_for(damaged, volumes, tmp_path)
    with open_bundle(volumes) as bundle:
        spoil(patch, bundle._metadata.places()["bundle.json"] + 100)
    with open_bundle([*damaged, patch]) as bundle:
        (damage,) = verify_by_turns(bundle, Counted()).damages
    assert (damage.volume, damage.file, "bundle.json is damaged" in damage.message) == (0, str(patch), True)


def test_a_list_that_is_too_long(damaged: list[Path], volumes: tuple[Path, ...], tmp_path: Path) -> None:
    """It is not signed, so its own length is not believed."""
    patch = patch_for(damaged, volumes, tmp_path)
    whole = patch.read_bytes()
    with open_bundle(volumes) as bundle:
        start = bundle._metadata.length
    patch.write_bytes(whole[:start] + header("patch.json", 100_000) + b"[" * 100_352 + whole[start + BLOCK :])
    with pytest.raises(BundleError, match=r"patch\.json: 100000 bytes; at most"):
        open_bundle([*damaged, patch])


def test_a_lost_volume_in_a_patch(volumes: tuple[Path, ...], tmp_path: Path) -> None:
    """A patch may hold all that was on a volume; then what was on it can be read."""
    rest, patch = [volumes[0], volumes[2]], tmp_path / "patch.tar"
    with open_bundle(rest) as bundle:
        found = verify_by_turns(bundle, Counted())
        assert found.request(bundle, partial=True) is None
        request = found.request(bundle)
        assert request is not None
        assert request == Request.of(bundle.verdict.sums, [], [2]) == Request.decode(request.encode())
    with open_bundle(volumes) as bundle:
        write_patch(bundle, request, patch)
    whole = second_reader.read([path.read_bytes() for path in volumes], *PUBLIC)
    second_reader.read_patch(patch.read_bytes(), whole.bundle)
    with open_bundle([*rest, patch]) as bundle:
        bundle.require_all()
        found = verify_by_turns(bundle, Counted(), sha256=True)
        assert (found.damages, found.unseen, bundle.volumes.missing) == ((), frozenset(), frozenset())
        for blob in bundle.manifest.blobs:
            assert not bundle.absent(blob.digest)
            assert sum(len(view) for view in bundle.chunks(blob.digest)) == blob.size
        bundle.volumes.release()
        assert bundle.volumes.missing == {0, 1, 2}
    # What is wrong with the patch is found as if it were the volume, and another patch mends it.
    spoil(patch, patch.stat().st_size - 3000)
    with open_bundle([*rest, patch]) as bundle:
        found = verify_by_turns(bundle, Counted())
        assert [(damage.volume, damage.file) for damage in found.damages] == [(2, str(patch))]
        request = found.request(bundle)
        assert request is not None
    with open_bundle(volumes) as bundle:
        write_patch(bundle, request, tmp_path / "second.tar")
    with open_bundle([*rest, patch, tmp_path / "second.tar"]) as bundle:
        verify(bundle, Counted())


def test_nothing_is_left_but_a_patch(volumes: tuple[Path, ...], tmp_path: Path) -> None:
    with open_bundle(volumes) as bundle:
        request = Request.of(bundle.verdict.sums, [(0, 0)], [1, 2, 3])
        write_patch(bundle, request, tmp_path / "all.tar")
    with open_bundle([tmp_path / "all.tar"]) as bundle:
        verify(bundle, Counted(), sha256=True)
        # It has all that a sender needs to answer again.
        write_patch(bundle, request, tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == (tmp_path / "all.tar").read_bytes()


def test_a_request_for_another_bundle(volumes: tuple[Path, ...], tmp_path: Path) -> None:
    with open_bundle(volumes) as bundle:
        for request, error in (
            (Request.of(SUMS, [(0, 0)]), UsageError),
            (Request.of(bundle.verdict.sums, [(10**6, 0)]), BundleError),
            (Request.of(bundle.verdict.sums, [(0, 9)]), BundleError),
            (Request.of(bundle.verdict.sums, [], [4]), BundleError),
        ):
            with pytest.raises(error):
                write_patch(bundle, request, tmp_path / "patch.tar")
    assert list(tmp_path.iterdir()) == []


def test_neighbours_become_one_range() -> None:
    request = Request.of(SUMS, [(3, 1), (3, 0), (3, 2), (3, 7), (1, 5), (3, 2)], [2, 12])
    assert request.extents == ((1, 5, 1), (3, 0, 3), (3, 7, 1))
    assert " v2 v12 1:5 3:0+3 3:7 " in request.text
    # As it comes out of a QR code, or wrapped by whatever it was sent through.
    assert Request.decode(request.text.upper().replace(" 3:", "\n  3:").encode()) == request


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text.replace("3:0", "3:1"),
        lambda text: text.replace(" 1:5", ""),
        lambda text: text.replace(" v2", " v3"),
        lambda text: text.replace(" v2", " vv"),
        lambda text: text.replace("airferry", "airfery"),
    ],
)
def test_a_line_that_was_copied_wrong(change: object) -> None:
    text = Request.of(SUMS, [(3, 0), (1, 5)], [2]).text
    with pytest.raises(UsageError):
        Request.decode(change(text).encode())  # type: ignore[operator]


@pytest.mark.parametrize(
    ("extents", "lost"),
    [
        ((), ()),
        (((0, 0, 0),), ()),
        (((1, 0, 1), (0, 0, 1)), ()),
        (((0, 0, 2), (0, 1, 1)), ()),
        (((0, 0, 1), (0, 1, 1)), ()),
        ((), (0,)),
        ((), (2, 1)),
        ((), (2, 2)),
    ],
)
def test_malformed_requests(extents: tuple[tuple[int, int, int], ...], lost: tuple[int, ...]) -> None:
    with pytest.raises(BundleError):
        Request("0" * 16, extents, lost)
