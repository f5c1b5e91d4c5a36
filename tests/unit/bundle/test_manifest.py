"""What bundle.json can say: objects that are valid when they exist."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from installer.bundle.limits import CHUNK, MAX_VOLUMES
from installer.bundle.manifest import (
    BundleBlob,
    BundleManifest,
    BundleVolume,
    chunk_count,
    parse_release,
    parse_time,
)
from installer.bundle.tar import BLOCK
from installer.bundle.volume import file_stem, index_json, metadata_of, sums_size, volume_sizes
from installer.errors import AirferryError, BundleError
from installer.oci.digest import Digest
from installer.value import replace

if TYPE_CHECKING:
    from tests.parts.bundles import Cargo

ABSENT = Digest.of(b"nobody holds this")


@pytest.fixture(scope="module")
def manifest(cargo: Cargo) -> BundleManifest:
    return cargo.skeleton()


def test_bytes_and_back(manifest: BundleManifest) -> None:
    assert BundleManifest.decode(manifest.encode()) == manifest
    assert manifest.without_chunks() == manifest


TOP: dict[str, list[Any]] = {
    "format": ["airferry-bundle/2", "", "airferry-bundle/1 "],
    "name": ["", "Upper", "a/b", "-a", "a-", "a" * 64, ".."],
    "version": ["", "a b", "-1", "1" * 128, "1/2"],
    "created": ["", "never", "2026-02-30T00:00:00Z", "2026-01-01", "2026-01-01T00:00:00+00:00", "2026-1-1T00:00:00Z"],
    "expires": ["", "Never", "2026-01-01T24:00:00Z", "2026-01-01T00:00:60Z", "2026-01-01T00:00:00z"],
    "minimum_installer": ["", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.x", "1.2.3 ", "1.2.1234567"],
    "blobs": [()],
    "volumes": [()],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in TOP.items() for value in values])
def test_values_that_cannot_be_meant(manifest: BundleManifest, field: str, value: Any) -> None:
    with pytest.raises(BundleError):
        replace(manifest, **{field: value})


@pytest.mark.parametrize(
    "tags", [["latest"], ["sha256-{}"], ["sha256-{}.S"], ["sha256-{}.sig", "sha256-{}.att"], ["sha256-{}.sig"] * 2]
)
def test_tags_that_tell_of_no_digest(manifest: BundleManifest, tags: list[str]) -> None:
    image = manifest.images[0]
    assert replace(image, tagged=((f"sha256-{image.digest.hex}.sig", image.digest),)).tagged
    with pytest.raises(BundleError, match="malformed tags"):
        replace(image, tagged=tuple((tag.format(image.digest.hex), image.digest) for tag in tags))


@pytest.mark.parametrize(
    ("items", "change"),
    [
        ("images", {"source": "redis"}),
        ("images", {"source": "docker.io/library/redis"}),
        ("images", {"source": "docker.io/redis:7"}),
        ("images", {"source": "index.docker.io/library/redis:7"}),
        ("images", {"source": "docker.io/library/Redis:7"}),
        ("images", {"source": "docker.io/library/redis:7@sha256:1234"}),
        ("images", {"media_type": "application/json"}),
        ("images", {"digest": ABSENT}),
        ("images", {"referrers": (ABSENT,)}),
        ("images", {"tagged": ((f"sha256-{ABSENT.hex}.sig", ABSENT),)}),
        ("charts", {"name": "../chart"}),
        ("charts", {"name": ""}),
        ("charts", {"version": "1/2"}),
        ("charts", {"archive": ABSENT}),
        ("charts", {"artifact": ABSENT}),
        ("documents", {"name": "a/b"}),
        ("documents", {"name": ".."}),
        ("documents", {"name": "a" * 101}),
        ("documents", {"kind": "program"}),
        ("documents", {"digest": ABSENT}),
    ],
)
def test_entries_that_cannot_be_meant(manifest: BundleManifest, items: str, change: dict[str, Any]) -> None:
    first, *rest = getattr(manifest, items)

    def attempt() -> None:
        other: dict[str, Any] = {items: (replace(first, **change), *rest)}
        replace(manifest, **other)

    with pytest.raises(BundleError):
        attempt()


@pytest.mark.parametrize("items", ["images", "charts", "documents"])
def test_lists_are_sorted_and_name_nothing_twice(manifest: BundleManifest, items: str) -> None:
    entries = getattr(manifest, items)
    doubled: dict[str, Any] = {items: (*entries, entries[0])}
    with pytest.raises(BundleError, match="sorted, or one stands twice"):
        replace(manifest, **doubled)


def moved(blob: BundleBlob, *, volume: int = 0, by: int = 0, longer: int = 0) -> BundleBlob:
    (old, offset, length), *rest = blob.pieces
    return replace(blob, pieces=((old + volume, offset + by, length + longer), *rest))


def test_blobs_lie_without_gaps(manifest: BundleManifest) -> None:
    first, second, *rest = manifest.blobs
    (payload,) = manifest.volumes
    for blobs in (
        (second, first, *rest),
        (first, first, second, *rest),
        (first, moved(second, by=BLOCK), *rest),
        (first, moved(second, by=-BLOCK), *rest),
        (first, moved(second, by=1), *rest),
        (first, moved(second, volume=1), *rest),
        (first, second, *rest[:-1]),
    ):
        with pytest.raises(BundleError):
            replace(manifest, blobs=blobs)
    for volumes in (
        (BundleVolume(payload.payload + BLOCK),),
        (BundleVolume(payload.payload - BLOCK),),
        (payload, BundleVolume(0)),
        (payload, BundleVolume(BLOCK)),
        (payload,) * (MAX_VOLUMES + 1),
    ):
        with pytest.raises(BundleError):
            replace(manifest, volumes=volumes)


def blob(size: int, *pieces: tuple[int, int, int], hashes: int | None = None) -> BundleBlob:
    count = chunk_count(size) if hashes is None else hashes
    return BundleBlob(ABSENT, "application/octet-stream", size, pieces, bytes(32 * count))


def test_pieces_make_the_blob() -> None:
    cut = blob(CHUNK + 5, (0, 512, CHUNK), (1, 512, 5))
    assert [cut.member(number)[-4:] for number in (0, 1)] == [".000", ".001"]
    assert cut.locate(0) == (0, 0)
    assert cut.locate(CHUNK) == (1, 0)
    assert cut.locate(CHUNK + 4) == (1, 4)
    with pytest.raises(ValueError, match="beyond the end"):
        cut.locate(CHUNK + 5)
    assert blob(0, (0, 512, 0)).chunks == b""


@pytest.mark.parametrize(
    ("size", "pieces"),
    [
        (0, []),
        (5, []),
        (5, [(0, 512, 4)]),
        (5, [(0, 512, 6)]),
        (CHUNK + 5, [(0, 512, 5), (1, 512, CHUNK)]),
        (CHUNK, [(0, 512, CHUNK), (1, 512, 0)]),
        (CHUNK, [(0, 512, 0), (1, 512, CHUNK)]),
        (2 * CHUNK, [(0, 512, CHUNK - 512), (1, 512, CHUNK + 512)]),
    ],
)
def test_pieces_that_do_not(size: int, pieces: list[tuple[int, int, int]]) -> None:
    with pytest.raises(BundleError):
        blob(size, *pieces)


@pytest.mark.parametrize(("size", "hashes"), [(0, 1), (1, 0), (1, 2), (CHUNK + 1, 1), (CHUNK, 2)])
def test_as_many_hashes_as_chunks(size: int, hashes: int) -> None:
    with pytest.raises(BundleError, match="chunk hashes"):
        blob(size, (0, 512, size), hashes=hashes)


def test_sizes_are_known_before_the_bytes(cargo: Cargo, manifest: BundleManifest) -> None:
    metadata = metadata_of(manifest, cargo.manifest_json())
    filled = replace(manifest, blobs=tuple(replace(item, chunks=b"\xff" * len(item.chunks)) for item in manifest.blobs))
    assert metadata_of(filled, cargo.manifest_json()) == metadata
    assert sums_size(manifest) == metadata.sums
    assert index_json(filled) == index_json(manifest)
    assert volume_sizes(manifest, metadata) == [metadata.length + manifest.volumes[0].payload + 1024]


def test_versions_compare_as_numbers() -> None:
    assert parse_release("0.10.0") > parse_release("0.9.12")


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T23:59:59+00:00",
        "2026-01-31T23:59:59",
        "2026-01-31 23:59:59Z",
        "2026-01-31T23:59:59.0Z",
        "2026-01-31T23:59:59z",
        "20260131T235959Z",
        "2026-W05-6T23:59:59Z",
        "2026-02-30T00:00:00Z",
        "2026-01-31",
        "",
    ],
)
def test_times_have_one_spelling(text: str) -> None:
    assert parse_time("2026-01-31T23:59:59Z").isoformat() == "2026-01-31T23:59:59+00:00"
    with pytest.raises(BundleError, match="not a time like"):
        parse_time(text)


@pytest.mark.parametrize("change", [("sequence", True), ("sequence", "1"), ("platforms", ["linux"]), ("name", 1)])
def test_decode_checks_types(manifest: BundleManifest, change: tuple[str, Any]) -> None:
    document = json.loads(manifest.encode())
    document[change[0]] = change[1]
    with pytest.raises(AirferryError):
        BundleManifest.decode(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())


def test_names_of_files_tell_versions_apart(cargo: Cargo) -> None:
    """However long the name of the bundle is."""

    def stem(name: str, version: str) -> str:
        return file_stem(replace(cargo, name=name, version=version).skeleton())

    assert stem("demo", "1.0") == "demo-1-0"
    long = "wandb-platform-production-europe-frankfurt"
    stems = [stem(long, version) for version in ("1.0", "2.0", "2.0-" + "0" * 40)]
    assert [len(each) for each in stems] == [40, 40, 40]
    assert [each.rpartition("-")[0] for each in stems] == [
        "wandb-platform-production-e-1-0",
        "wandb-platform-production-e-2-0",
        "wandb-platform-2-0-000000000000",
    ]
