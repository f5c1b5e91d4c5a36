"""Where images come from and which manifest is carried, without a network: places are OCI layouts on disk."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.images.connect import connect
from builder.images.engine import Engine, familiar
from builder.images.resolve import Wanted, resolve, several, substituted
from builder.images.source import Places
from builder.recipe.lock import Origin
from builder.recipe.reasons import Reason
from installer.errors import ContentError, NotFoundError, UsageError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Platform
from installer.oci.reference import parse_reference
from installer.registry.credentials import CredentialStore
from tests.parts import images
from tests.parts.faulty_registry import Fault, FaultyRegistry, status
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


def test_several_errors_become_one_that_names_all() -> None:
    first = NotFoundError("a is missing", hint="look.")
    assert several([first], "images fail") is first
    both = several([first, UsageError("b is odd")], "images fail")
    assert isinstance(both, NotFoundError)
    assert (both.message, both.hint) == ("2 images fail:\n  a is missing\n  b is odd", "look.")


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


def referring(server: FaultyRegistry, subject: str, name: str) -> str:
    """A manifest about `subject` in the registry; its digest."""
    config = {"mediaType": "application/x", "digest": server.put_blob(name.encode()), "size": len(name)}
    about = {"mediaType": media_types.OCI_MANIFEST, "digest": subject, "size": 1}
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": config,
        "layers": [],
        "subject": about,
    }
    return server.put_manifest(json.dumps(document).encode(), media_types.OCI_MANIFEST)


def listing(server: FaultyRegistry, *digests: str) -> Fault:
    entries = [
        {"mediaType": media_types.OCI_MANIFEST, "digest": digest, "size": len(server.manifests[digest][1])}
        for digest in digests
    ]
    raw = json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}).encode()
    return status(200, {"Content-Type": media_types.OCI_INDEX}, raw)


@pytest.fixture
def server() -> Iterator[FaultyRegistry]:
    """A registry with an image that is called `app:1`."""
    with FaultyRegistry() as running:
        config = json.dumps({"os": "linux", "architecture": "amd64"}).encode()
        entry = {"mediaType": media_types.OCI_CONFIG, "digest": running.put_blob(config), "size": len(config)}
        document = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": entry, "layers": []}
        running.put_manifest(json.dumps(document).encode(), media_types.OCI_MANIFEST, "1")
        yield running


def at(server: FaultyRegistry) -> Wanted:
    return Wanted(f"{server.address}/app:1", Origin("registry", f"{server.address}/app", "1"), (REASON,))


def test_what_refers_to_an_image_and_to_that(places: Places, server: FaultyRegistry) -> None:
    image = Digest.of(server.manifests["1"][1]).text
    sbom = referring(server, image, "packages")
    signature = referring(server, sbom, "signature")
    server.on("GET", f"/referrers/{image}", listing(server, sbom))
    server.on("GET", f"/referrers/{sbom}", listing(server, signature))
    server.on("GET", f"/referrers/{signature}", listing(server))
    found = resolve(places, at(server), [AMD64], referrers=True)
    assert [digest.text for digest in found.image.referrers] == sorted([sbom, signature])
    assert len(found.carried.manifests) == 3
    assert resolve(places, at(server), [AMD64]).image.referrers == ()


def test_what_is_listed_without_referring(places: Places, server: FaultyRegistry) -> None:
    other = referring(server, Digest.of(b"another image").text, "packages")
    server.on("GET", "/referrers/", listing(server, other))
    with pytest.raises(ContentError, match=f"{other} is listed as being about sha256:[0-9a-f]*, and is not"):
        resolve(places, at(server), [AMD64], referrers=True)


def test_more_referrers_than_anybody_needs(
    places: Places, server: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builder.images.resolve.MAX_REFERRERS", 1)
    image = Digest.of(server.manifests["1"][1]).text
    server.on("GET", f"/referrers/{image}", listing(server, *(referring(server, image, name) for name in "ab")))
    server.on("GET", "/referrers/", listing(server))
    with pytest.raises(ContentError, match="more than 1 manifests refer to it"):
        resolve(places, at(server), [AMD64], referrers=True)


def test_only_registries_keep_referrers(places: Places) -> None:
    write(places, picture())
    assert resolve(places, wanted(), [AMD64], referrers=True).image.referrers == ()
