"""Where images come from and which manifest is carried, without a network: places are OCI layouts on disk."""

from pathlib import Path

import pytest

from builder.images.connect import connect
from builder.images.engine import Engine, familiar
from builder.images.resolve import Wanted, resolve, substituted
from builder.images.source import Places
from builder.recipe.findings import Reason
from builder.recipe.lock import Origin
from installer.errors import ContentError, NotFoundError
from installer.oci.model import Platform
from installer.oci.reference import parse_reference
from installer.registry.credentials import CredentialStore
from tests.parts import images
from tests.parts.images import File, Image, Layer, Run

AMD64, ARM64, ARMV7 = (Platform.parse(text) for text in ("linux/amd64", "linux/arm64", "linux/arm/v7"))
REASON = Reason("", "", "", "", "", "images[0]", "")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return connect((), tmp_path, Engine(tmp_path), credentials=CredentialStore(), proxies={})


def picture(architecture: str = "amd64", variant: str | None = None, os: str = "linux") -> Image:
    layer = Layer({"/name": File(f"{architecture} {variant}".encode())})
    return Image((layer,), Run(), images.Platform(architecture, os, variant))


def wanted(name: str = "docker.io/demo/app:1.0") -> Wanted:
    return Wanted(name, Origin("layout", "layout", "1.0"), (REASON,))


def write(places: Places, *pictures: Image, index: bool | None = None) -> images.Layout:
    return images.write_layout(places.folder / "layout", list(pictures), tag="1.0", index=index)


def test_one_platform_carries_the_child(places: Places) -> None:
    layout = write(places, picture("arm64", "v8"), picture())
    found = resolve(places, wanted(), [AMD64])
    assert (found.image.digest.text, found.image.upstream.text) == (layout.manifests[1], layout.digest)
    assert found.image.single == found.image.digest
    assert found.image.platforms == (AMD64,)
    assert len(found.carried.blobs) == 3
    assert found.notes == ()


def test_arm64_without_variant_is_v8(places: Places) -> None:
    layout = write(places, picture(), picture("arm64", "v8"))
    assert resolve(places, wanted(), [ARM64]).image.digest.text == layout.manifests[1]


def test_the_exact_variant_goes_first(places: Places) -> None:
    layout = write(places, picture("amd64", "v3"), picture("amd64"))
    assert resolve(places, wanted(), [AMD64]).image.digest.text == layout.manifests[1]


def test_several_platforms_carry_the_index_whole(places: Places) -> None:
    layout = write(places, picture(), picture("arm64", "v8"), picture("arm", "v7"))
    found = resolve(places, wanted(), [ARM64, AMD64])
    assert found.image.digest.text == layout.digest
    assert {digest.text for digest in found.carried.blobs} == set(layout.blobs)
    assert found.image.single.text == layout.manifests[1]


def test_entries_that_are_no_images_are_no_platforms(places: Places) -> None:
    write(places, picture(), picture("unknown", os="unknown"))
    found = resolve(places, wanted(), [AMD64, ARM64])
    assert found.image.platforms == (AMD64,)
    assert found.notes == ("docker.io/demo/app:1.0: not published for linux/arm64",)


def test_a_plain_manifest_for_another_platform_is_refused(places: Places) -> None:
    write(places, picture("arm64", "v8"))
    with pytest.raises(NotFoundError, match="not for linux/amd64; it is published for linux/arm64/v8"):
        resolve(places, wanted(), [AMD64])


def test_an_index_without_the_platform_is_refused(places: Places) -> None:
    write(places, picture("arm64", "v8"), picture("arm", "v7"))
    with pytest.raises(NotFoundError, match="linux/arm/v7, linux/arm64/v8"):
        resolve(places, wanted(), [AMD64])


def test_an_index_inside_an_index(places: Places) -> None:
    writer = images.LayoutWriter(places.folder / "layout")
    child = {**writer.put_image(picture(), images.OCI), "platform": {"os": "linux", "architecture": "amd64"}}
    for _ in range(2):
        document = {"schemaVersion": 2, "mediaType": images.OCI.index, "manifests": [child]}
        child = {**writer.put(images.compact(document), images.OCI.index), "platform": child["platform"]}
    writer.finish(child, "1.0")
    found = resolve(places, wanted(), [AMD64])
    assert found.image.media_type == images.OCI.manifest


def test_layers_that_stay_at_their_vendor_are_refused(places: Places) -> None:
    writer = images.LayoutWriter(places.folder / "layout")
    config = writer.put(images.compact({"os": "windows", "architecture": "amd64"}), images.OCI.config)
    layer = {**config, "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}
    document = {"schemaVersion": 2, "mediaType": images.OCI.manifest, "config": config, "layers": [layer]}
    writer.finish(writer.put(images.compact(document), images.OCI.manifest), "1.0")
    with pytest.raises(ContentError, match="stays at its vendor"):
        resolve(places, wanted(), [Platform.parse("windows/amd64")])


def test_an_index_of_nothing_is_refused(places: Places) -> None:
    writer = images.LayoutWriter(places.folder / "layout")
    document = {"schemaVersion": 2, "mediaType": images.OCI.index, "manifests": []}
    writer.finish(writer.put(images.compact(document), images.OCI.index), "1.0")
    with pytest.raises(ContentError, match="an index of nothing"):
        resolve(places, wanted(), [AMD64, ARM64])


def test_a_damaged_configuration_is_refused(places: Places) -> None:
    layout = write(places, picture())
    for digest in layout.blobs:
        path = places.folder / "layout" / "blobs" / "sha256" / digest.removeprefix("sha256:")
        if path.read_bytes().startswith(b"{") and digest not in layout.manifests:
            path.write_bytes(path.read_bytes().replace(b"amd64", b"arm64"))
    with pytest.raises(ContentError, match="expected sha256:"):
        resolve(places, wanted(), [AMD64])


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("docker.io/bitnami/redis:7", "docker.io/bitnamilegacy/redis:7"),
        ("docker.io/bitnami/redis@sha256:" + "0" * 64, "docker.io/bitnamilegacy/redis@sha256:" + "0" * 64),
        ("docker.io/bitnamix/redis:7", "docker.io/bitnamix/redis:7"),
        ("docker.io/bitnami/special/a:1", "quay.io/elsewhere/a:1"),
        ("quay.io/one/app:1", "ghcr.io/two/app:1"),
        ("quay.io/one/app/sub:1", "ghcr.io/two/app/sub:1"),
        ("quay.io/one/apple:1", "quay.io/one/apple:1"),
        ("docker.io/wandb/local:latest", "docker.io/wandb/local:0.70.0"),
        ("docker.io/wandb/local:1", "docker.io/wandb/local:1"),
        ("localhost:5000/x:1", "mirror.example.com/x:1"),
    ],
)
def test_substitutions(asked: str, found: str) -> None:
    substitutions = {
        "docker.io/bitnami/": "docker.io/bitnamilegacy/",
        "docker.io/bitnami/special/": "quay.io/elsewhere/",
        "quay.io/one/app": "ghcr.io/two/app",
        "wandb/local:latest": "wandb/local:0.70.0",
        "localhost:5000/": "mirror.example.com/",
    }
    assert str(substituted(parse_reference(asked), substitutions)) == found


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("busybox", "busybox:latest"),
        ("docker.io/library/a:1", "a:1"),
        ("team/a:1", "team/a:1"),
        ("ghcr.io/a/b:1", "ghcr.io/a/b:1"),
    ],
)
def test_names_as_the_engine_knows_them(name: str, engine: str) -> None:
    assert familiar(name) == engine
