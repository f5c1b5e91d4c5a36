"""Opening, reading and verifying: volumes in any order, what is missing, what is damaged, what a signer got wrong."""

from __future__ import annotations

import datetime as dt
import os
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3

from builder.release.sign import sign, sums_of
from installer.bundle import sums
from installer.bundle.envelope import member
from installer.bundle.limits import (
    BUNDLE_JSON,
    CHUNK,
    INDEX_JSON,
    MANIFEST_JSON,
    OCI_LAYOUT,
    SIGNATURE,
    SLOTS,
    SUMS,
    UNSIGNED,
)
from installer.bundle.manifest import BundleImage
from installer.bundle.reader import Bundle
from installer.bundle.signature import Trust
from installer.bundle.tar import BLOCK
from installer.bundle.volume import VolumeFile
from installer.errors import (
    BundleError,
    IncompleteError,
    NotFoundError,
    PolicyError,
    UntrustedError,
    UsageError,
)
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor
from installer.opening.policy import check_program, check_time
from installer.value import replace
from installer.verify.verification import verify, verify_by_turns
from tests.parts.bundles import Cargo, next_of, open_bundle, reference_cargo, several_volumes, signing_key, trust
from tests.parts.counted import Counted
from tests.parts.images import compact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from installer.bundle.manifest import BundleBlob, BundleManifest


def content(bundle: Bundle, digest: Digest) -> bytes:
    return b"".join(bytes(view) for view in bundle.chunks(digest))


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


@pytest.fixture
def copy(volume: Path, tmp_path: Path) -> Path:
    """A copy of the reference bundle to spoil."""
    return shutil.copyfile(volume, tmp_path / "copy.tar")


# --- what is there ---


def test_everything_comes_back(cargo: Cargo, volume: Path) -> None:
    with open_bundle([volume]) as bundle:
        assert {blob.descriptor for blob in bundle.manifest.blobs} == set(cargo.blobs)
        for descriptor, data in cargo.blobs.items():
            assert content(bundle, descriptor.digest) == bundle.read(descriptor.digest) == data
        verify(bundle, Counted())
        verify(bundle, Counted(), sha256=True)
        assert bundle.volumes.size == volume.stat().st_size
        assert bundle.volumes.missing == frozenset()


def test_streams_begin_anywhere(cargo: Cargo, volumes: tuple[Path, ...]) -> None:
    large = random.Random(1).randbytes(10 * 1024 * 1024)
    descriptor = Descriptor(media_types.OCTETS, Digest.of(large), len(large))
    with open_bundle(volumes) as bundle:
        for offset in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, len(large) - 1, len(large)):
            found, buffer = bytearray(), bytearray(1_000_003)
            with bundle.open_blob(descriptor, offset) as stream:
                while count := stream.readinto(memoryview(buffer)):
                    found += buffer[:count]
            assert found == large[offset:]


def test_several_threads_read_at_once(cargo: Cargo, volume: Path) -> None:
    with open_bundle([volume]) as bundle, ThreadPoolExecutor(8) as pool:
        wanted = [descriptor.digest for descriptor in cargo.blobs] * 20
        for digest, data in zip(wanted, pool.map(bundle.read, wanted), strict=True):
            assert Digest.of(data) == digest


def test_images_with_all_their_parts(cargo: Cargo, volume: Path) -> None:
    with open_bundle([volume]) as bundle:
        page, tool = bundle.manifest.images
        assert len(bundle.images.closure(page)) == 4
        assert [node.descriptor.is_index for node in bundle.images.manifests(tool)] == [False, False, True]
        # One index, two manifests, two configurations, two layers, of which one is in both.
        assert len(bundle.images.closure(tool)) == 7
        assert set(bundle.images.closure(page)) & set(bundle.images.closure(tool))


def test_limits_of_reading(cargo: Cargo, volume: Path) -> None:
    with open_bundle([volume]) as bundle:
        blob = bundle.manifest.blobs[-1]
        with pytest.raises(BundleError, match="at most 10"):
            bundle.read(blob.digest, limit=10)
        with pytest.raises(NotFoundError):
            bundle.read(Digest.of(b"not in there"))


# --- volumes ---


def test_volumes_in_any_order_under_any_name(volumes: tuple[Path, ...], tmp_path: Path) -> None:
    renamed = [shutil.copyfile(path, tmp_path / f"{3 - number}.img") for number, path in enumerate(volumes)]
    for paths in (volumes, tuple(reversed(volumes)), (renamed[1], renamed[0], renamed[2])):
        with open_bundle(paths) as bundle:
            bundle.require_all()
            verify(bundle, Counted(), sha256=True)


def test_missing_volumes(volumes: tuple[Path, ...]) -> None:
    for absent in range(3):
        present = [path for number, path in enumerate(volumes) if number != absent]
        with open_bundle(present) as bundle:
            assert bundle.volumes.missing == {absent}
            with pytest.raises(IncompleteError, match=f"volume {absent + 1} of 3"):
                bundle.require_all()
            verify(bundle, Counted())
            verify(bundle, Counted(), sha256=True)
            lost = next(
                blob for blob in bundle.manifest.blobs if blob.size and absent in {piece[0] for piece in blob.pieces}
            )
            with pytest.raises(IncompleteError, match=f"volume {absent + 1} of 3 .* is missing"):
                content(bundle, lost.digest)


def test_one_volume_alone_is_verified_with_its_piece(volumes: tuple[Path, ...], tmp_path: Path) -> None:
    copy = shutil.copyfile(volumes[1], tmp_path / "copy.tar")
    with open_bundle([copy]) as bundle:
        verify(bundle, Counted())
        flip(copy, bundle._metadata.length + BLOCK + 12345)
        for sha256 in (False, True):
            with pytest.raises(BundleError, match="chunk 1"):
                verify(bundle, Counted(), sha256=sha256)


def test_the_same_volume_twice(volumes: tuple[Path, ...]) -> None:
    with pytest.raises(BundleError, match="the same volume"):
        open_bundle([*volumes, volumes[1]])


def test_a_volume_of_another_bundle(volumes: tuple[Path, ...], volume: Path) -> None:
    with pytest.raises(BundleError, match="another bundle"):
        open_bundle([*volumes[:2], volume])


def test_one_volume_is_not_signed(volumes: tuple[Path, ...], tmp_path: Path) -> None:
    copy = shutil.copyfile(volumes[2], tmp_path / "copy.tar")
    with copy.open("r+b") as file, open_bundle([volumes[2]]) as bundle:
        file.seek(bundle._metadata.places()[SIGNATURE] - BLOCK)
        file.write(member(SIGNATURE, UNSIGNED))
    with pytest.raises(UntrustedError, match="no ECDSA"):
        open_bundle([*volumes[:2], copy])


def test_the_payload_of_another_volume(volumes: tuple[Path, ...], tmp_path: Path) -> None:
    """A volume is what its payload begins with, not what its place in the list says."""
    copy = shutil.copyfile(volumes[2], tmp_path / "copy.tar")
    with open_bundle([volumes[1]]) as bundle:
        start = bundle._metadata.length
    with copy.open("r+b") as file:
        file.seek(start)
        file.write(volumes[1].read_bytes()[start : start + BLOCK])
    with pytest.raises(BundleError, match="bytes, but this volume has"):
        open_bundle([volumes[0], copy])


def test_a_volume_inside_a_larger_file(volume: Path, tmp_path: Path) -> None:
    frozen = tmp_path / "frozen"
    frozen.write_bytes(bytes(12345) + volume.read_bytes() + b"behind")
    with Bundle.open([VolumeFile(frozen, 12345, volume.stat().st_size)], trust()) as bundle:
        verify(bundle, Counted())
    with pytest.raises(BundleError):
        Bundle.open([VolumeFile(frozen, 12345)], trust())


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_files_are_closed_whatever_happens(volumes: tuple[Path, ...], volume: Path) -> None:
    before = open_files()
    with open_bundle(volumes):
        pass
    for paths in ([*volumes, volume], [volume, volume]):
        with pytest.raises(BundleError):
            open_bundle(paths)
    with pytest.raises(UntrustedError):
        open_bundle([volume], trust("other-test-only"))
    assert open_files() == before


@pytest.mark.parametrize("what", ["folder", "fifo", "absent", "device"])
def test_what_is_no_file(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    with pytest.raises(UsageError):
        VolumeFile(path)


@pytest.mark.parametrize("data", [b"", b"\0", bytes(10240), b"PK\x03\x04" + bytes(5000), b"x" * 100_000])
def test_files_of_other_kinds(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises((BundleError, IncompleteError)):
        open_bundle([path])


def test_a_bundle_that_another_key_signed(cargo: Cargo, tmp_path: Path) -> None:
    (path,) = cargo.write(tmp_path, key=signing_key("other-test-only"))
    with pytest.raises(UntrustedError, match="not made by a trusted key"):
        open_bundle([path])


# --- policy ---

UTC = dt.UTC
CREATED = dt.datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def expiring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("expiring")
    expiring = replace(reference_cargo(folder), expires="2026-07-01T00:00:00Z")
    (path,) = expiring.write(folder, key=signing_key())
    return path


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (dt.datetime(2025, 12, 31, 0, 0, 0, tzinfo=UTC), None),
        (dt.datetime(2025, 12, 30, 23, 59, 59, tzinfo=UTC), "clock says 2025-12-30"),
        (dt.datetime(1970, 1, 1, tzinfo=UTC), "set the clock"),
        (dt.datetime(2026, 6, 30, 23, 59, 59, tzinfo=UTC), None),
        (dt.datetime(2026, 7, 1, tzinfo=UTC), "expired on 2026-07-01"),
        (dt.datetime(2126, 7, 1, tzinfo=UTC), "expired"),
    ],
)
def test_the_clock(expiring: Path, now: dt.datetime, reason: str | None) -> None:
    with open_bundle([expiring]) as bundle:
        if reason is None:
            check_time(bundle.manifest, now)
        else:
            with pytest.raises(PolicyError) as caught:
                check_time(bundle.manifest, now)
            assert reason in caught.value.message + caught.value.hint


def test_never_is_never(volume: Path) -> None:
    with open_bundle([volume]) as bundle:
        check_time(bundle.manifest, dt.datetime(9999, 1, 1, tzinfo=UTC))


def test_the_program_is_new_enough(volume: Path) -> None:
    with open_bundle([volume]) as bundle:
        for version in ("0.1.0", "0.1.1", "0.10.0", "10.0.0"):
            check_program(bundle.manifest, version)
        with pytest.raises(PolicyError, match=r"needs airferry 0\.1\.0 or later, this is 0\.0\.9"):
            check_program(bundle.manifest, "0.0.9")


# --- damage ---


def test_damage_is_located_and_named(copy: Path) -> None:
    with open_bundle([copy]) as bundle:
        page = bundle.manifest.images[0]
        layer = [
            blob for blob in bundle.images.closure(page).values() if blob.media_type == media_types.OCI_LAYER_GZIP
        ][-1]
        place = bundle._metadata.length + bundle.blob(layer.digest).pieces[0][1]
        flip(copy, place + 3)
        with pytest.raises(BundleError) as caught:
            verify(bundle, Counted())
        assert f"{copy}: damaged between byte {place} and {place + layer.size}" in caught.value.message
        assert f"needed by {page.source}" in caught.value.message
        with pytest.raises(BundleError, match="needed by"):
            content(bundle, layer.digest)
        with pytest.raises(BundleError, match="damaged"):
            bundle.read(layer.digest)


def test_all_damage_is_reported(copy: Path) -> None:
    with open_bundle([copy]) as bundle:
        damaged = [blob for blob in bundle.manifest.blobs if blob.size]
        for blob in damaged:
            flip(copy, bundle._metadata.length + blob.pieces[0][1])
        with pytest.raises(BundleError) as caught:
            verify(bundle, Counted())
        *lines, last = caught.value.message.splitlines()
        assert len(lines) == len(damaged)
        assert last == "0 of 2 images need nothing of that"


def test_reports_are_bounded(tmp_path: Path) -> None:
    cargo = Cargo()
    for number in range(30):
        cargo.document(f"{number:02}.txt", b"%d" % number)
    (path,) = cargo.write(tmp_path, key=signing_key())
    with open_bundle([path]) as bundle:
        for blob in bundle.manifest.blobs:
            flip(path, bundle._metadata.length + blob.pieces[0][1])
        with pytest.raises(BundleError) as caught:
            verify(bundle, Counted())
        assert len(caught.value.message.splitlines()) == 21
        assert caught.value.message.endswith("and 10 more")


def test_a_medium_that_changes_after_verification(copy: Path) -> None:
    """What is handed out was verified where it lies in memory, so a later change cannot reach it."""
    with open_bundle([copy]) as bundle:
        verify(bundle, Counted())
        blob = bundle.manifest.blobs[-1]
        view = next(bundle.chunks(blob.digest))
        before = bytes(view)
        flip(copy, bundle._metadata.length + blob.pieces[0][1])
        assert bytes(view) == before
        with pytest.raises(BundleError):
            content(bundle, blob.digest)


def test_a_file_that_shrinks_while_it_is_read(copy: Path) -> None:
    with open_bundle([copy]) as bundle:
        os.truncate(copy, bundle._metadata.length + BLOCK)
        with pytest.raises(BundleError, match="has become shorter"):
            verify(bundle, Counted())


# --- what a signer got wrong ---


def resigned(
    path: Path,
    *,
    manifest: Callable[[BundleManifest], BundleManifest] = lambda found: found,
    contents: Mapping[str, bytes] | None = None,
    named: Callable[[dict[str, Digest]], dict[str, Digest]] = lambda found: found,
) -> None:
    """Give a volume other metadata of the same sizes, sign it, and so make it look genuine."""
    with Bundle.open([VolumeFile(path)], trust()) as bundle:
        places, changed = bundle._metadata.places(), manifest(bundle.manifest)
        (there,) = bundle.volumes.files.values()
        texts = {name: there.read(places[name], size) for name, size in sizes(bundle).items()}
    texts |= {BUNDLE_JSON: changed.encode(), **(contents or {})}
    digests = sums.decode(texts[SUMS]) | {name: Digest.of(text) for name, text in texts.items() if name != SUMS}
    texts[SUMS] = sums.encode(named(digests))
    with path.open("r+b") as file:
        for name, text in (dict.fromkeys(SLOTS, UNSIGNED) | texts).items():
            file.seek(places[name] - BLOCK)
            file.write(member(name, text))
    sign([path], signing_key())


def sizes(bundle: Bundle) -> dict[str, int]:
    found = bundle._metadata
    return {
        SUMS: found.sums,
        BUNDLE_JSON: found.bundle_json,
        OCI_LAYOUT: 30,
        INDEX_JSON: found.index_json,
        MANIFEST_JSON: found.manifest_json,
    }


def test_signing_again_is_faithful(copy: Path, volume: Path) -> None:
    resigned(copy)
    assert copy.read_bytes() == volume.read_bytes()


def test_chunk_hashes_that_contradict_the_digest(copy: Path) -> None:
    with open_bundle([copy]) as bundle:
        blob = bundle.manifest.blobs[-1]
        place = bundle._metadata.length + blob.pieces[0][1]
    flip(copy, place)
    wrong = replace(blob, chunks=blake3(copy.read_bytes()[place : place + blob.size]).digest())
    resigned(copy, manifest=lambda found: replace(found, blobs=(*found.blobs[:-1], wrong)))
    with open_bundle([copy]) as bundle:
        with pytest.raises(BundleError, match="chunk hashes and digest disagree"):
            bundle.read(blob.digest)
        with pytest.raises(BundleError, match="another SHA-256"):
            verify(bundle, Counted(), sha256=True)


def test_a_piece_with_another_sha256(volumes: tuple[Path, ...], tmp_path: Path) -> None:
    """Each volume by itself, all of them, and one after the other: as `sha256sum -c` says it of the same files."""
    copies = [Path(shutil.copyfile(path, tmp_path / path.name)) for path in volumes]
    with open_bundle(volumes) as bundle:
        cut = next(blob for blob in bundle.manifest.blobs if len(blob.pieces) > 1)
        place, number = bundle.volumes.place(cut, 0), bundle.manifest.blobs.index(cut)
    spoilt = tmp_path / place.file.path.name
    flip(spoilt, place.start)
    chunk = blake3(spoilt.read_bytes()[place.start : place.start + place.length]).digest()
    wrong = replace(cut, chunks=chunk + cut.chunks[len(chunk) :])
    for path in copies:
        resigned(path, manifest=lambda found: exchange(found, number, wrong))
    for present in ([spoilt], copies):
        with open_bundle(present) as bundle:
            verify(bundle, Counted())
            (damage,) = verify_by_turns(bundle, Counted(), sha256=True).damages
        assert (damage.volume, damage.file) == (place.volume + 1, str(spoilt))
        assert "another SHA-256" in damage.message

    waiting = list(copies)
    with open_bundle([waiting.pop()], on_missing_volume=next_of(waiting)) as bundle:
        found = verify_by_turns(bundle, Counted(), sha256=True)
    assert [damage.volume for damage in found.damages] == [place.volume + 1]
    assert not found.unseen


def exchange(manifest: BundleManifest, number: int, blob: BundleBlob) -> BundleManifest:
    return replace(manifest, blobs=(*manifest.blobs[:number], blob, *manifest.blobs[number + 1 :]))


def test_what_one_volume_lacks_another_has(volumes: tuple[Path, ...], tmp_path: Path) -> None:
    """Damaged metadata of one volume are reported, whichever is named first."""
    copies = [Path(shutil.copyfile(path, tmp_path / path.name)) for path in volumes]
    with open_bundle(volumes) as bundle:
        flip(copies[0], bundle._metadata.places()[BUNDLE_JSON] + 100)
    for paths in (copies, copies[::-1]):
        with open_bundle(paths) as bundle:
            (damage,) = verify_by_turns(bundle, Counted()).damages
        assert (damage.volume, damage.file) == (1, str(copies[0]))
    with pytest.raises(BundleError, match=r"bundle\.json is damaged"):
        open_bundle(copies[:1])


def test_images_that_lack_a_part_in_volumes_that_come_in_turns(cargo: Cargo, tmp_path: Path) -> None:
    kept = {blob: data for blob, data in cargo.blobs.items() if blob.media_type != media_types.OCI_LAYER}
    waiting = list(several_volumes(replace(cargo, blobs=kept), tmp_path))
    with open_bundle([waiting.pop(0)], on_missing_volume=next_of(waiting)) as bundle:
        found = verify_by_turns(bundle, Counted())
    assert not found.unseen
    assert ["is not held" in damage.message for damage in found.damages] == [True]


def exchanged(found: dict[str, Digest]) -> dict[str, Digest]:
    first, second = [name for name in found if name.startswith("blobs/")][:2]
    return found | {first: found[second], second: found[first]}


def renamed(found: dict[str, Digest]) -> dict[str, Digest]:
    last = max(name for name in found if name.startswith("blobs/"))
    return {(name if name != last else name[:-1] + "."): digest for name, digest in found.items()}


def test_sums_that_contradict_names(copy: Path) -> None:
    resigned(copy, named=exchanged)
    with pytest.raises(BundleError, match="contradicts the name"):
        open_bundle([copy])


def test_sums_that_name_other_files(copy: Path) -> None:
    resigned(copy, named=renamed)
    with pytest.raises(BundleError, match="different files"):
        open_bundle([copy])


@pytest.mark.parametrize("name", [INDEX_JSON, OCI_LAYOUT])
def test_indexes_that_do_not_follow(copy: Path, name: str) -> None:
    with open_bundle([copy]) as bundle:
        text = bundle.volumes.files[0].read(bundle._metadata.places()[name], sizes(bundle)[name])
    other = text.replace(b"1.0", b"1.1")
    assert other != text
    resigned(copy, contents={name: other})
    with pytest.raises(BundleError, match="does not follow"):
        open_bundle([copy])


def test_an_image_without_one_of_its_layers(cargo: Cargo, tmp_path: Path) -> None:
    kept = {blob: data for blob, data in cargo.blobs.items() if blob.media_type != media_types.OCI_LAYER}
    assert len(kept) < len(cargo.blobs)
    (path,) = replace(cargo, blobs=kept).write(tmp_path, key=signing_key())
    with open_bundle([path]) as bundle:
        page, tool = bundle.manifest.images
        bundle.images.closure(page)
        with pytest.raises(BundleError, match="is not held"):
            bundle.images.closure(tool)
        with pytest.raises(BundleError, match="is not held"):
            verify(bundle, Counted())


def nested(depth: int) -> Cargo:
    """An image behind `depth` indexes, each of which holds the next."""
    cargo = Cargo()
    config = cargo.put(b"{}", media_types.OCI_CONFIG)
    entry = {"mediaType": config.media_type, "digest": str(config.digest), "size": config.size}
    root = cargo.put(
        compact({"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": entry, "layers": []}),
        media_types.OCI_MANIFEST,
    )
    for _ in range(depth):
        entry = {"mediaType": root.media_type, "digest": str(root.digest), "size": root.size}
        index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [entry]}
        root = cargo.put(compact(index), media_types.OCI_INDEX)
    name = "docker.io/library/deep:1"
    cargo.images.append(BundleImage(name, root.digest, root.media_type, root.size, root.digest, ()))
    return cargo


@pytest.mark.parametrize(("depth", "good"), [(0, True), (3, True), (4, False)])
def test_indexes_inside_indexes(tmp_path: Path, depth: int, good: bool) -> None:
    cargo = nested(depth)
    (path,) = cargo.write(tmp_path, key=signing_key())
    with open_bundle([path]) as bundle:
        if good:
            verify(bundle, Counted())
        else:
            with pytest.raises(BundleError, match="nested deeper"):
                verify(bundle, Counted())


def test_trust_by_digest_alone(cargo: Cargo, tmp_path: Path) -> None:
    (path,) = cargo.write(tmp_path)
    with open_bundle([path], Trust(sums=Digest.of(sums_of(path)))) as bundle:
        verify(bundle, Counted())
    with pytest.raises(UntrustedError):
        open_bundle([path], Trust(sums=Digest.of(b"")))
