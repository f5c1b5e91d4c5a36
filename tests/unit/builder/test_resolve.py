"""Where images come from and which manifest is carried, without a network: places are OCI layouts on disk."""

import json
from pathlib import Path
from typing import Any

import pytest

from builder.images.connect import connect
from builder.images.engine import Engine, familiar
from builder.images.resolve import Wanted, resolve, substituted
from builder.images.source import Places
from builder.recipe.findings import Reason
from builder.recipe.lock import Origin
from installer.errors import ContentError, NotFoundError
from installer.oci import media_types
from installer.oci.model import Platform
from installer.oci.reference import parse_reference
from installer.registry.credentials import CredentialStore
from installer.value import replace
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


FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
THING = "application/vnd.example.thing"
ELSEWHERE = {"mediaType": FOREIGN, "digest": "sha256:" + "1" * 64, "size": 5, "urls": ["https://vendor.example/layer"]}


class Drafts:
    """Manifests of any content, put into the layout of `wanted`."""

    def __init__(self, places: Places) -> None:
        self.writer = images.LayoutWriter(places.folder / "layout")

    def image(self, architecture: str = "amd64", variant: str | None = None, os: str = "linux") -> dict[str, Any]:
        return self.writer.put_image(picture(architecture, variant, os), images.OCI)

    def manifest(self, config: object = None, *layers: dict[str, Any], kind: str = images.OCI.config) -> dict[str, Any]:
        held = self.writer.put(images.compact(config), kind)
        return self.writer.put_document({"config": held, "layers": list(layers)}, images.OCI.manifest)

    def windows(self, layer: dict[str, Any]) -> dict[str, Any]:
        return on(self.manifest({"os": "windows", "architecture": "amd64"}, layer), "windows/amd64")

    def index(self, *entries: dict[str, Any]) -> dict[str, Any]:
        return self.writer.put_document({"manifests": list(entries)}, images.OCI.index)

    def finish(self, root: dict[str, Any]) -> str:
        self.writer.finish(root, "1.0")
        return str(root["digest"])


@pytest.fixture
def drafts(places: Places) -> Drafts:
    return Drafts(places)


def on(entry: dict[str, Any], platform: str) -> dict[str, Any]:
    return {**entry, "platform": dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))}


def by_digest(digest: str) -> Wanted:
    return wanted(f"docker.io/demo/app@{digest}")


def test_an_image_that_lies_at_its_vendor_in_part_is_refused(places: Places, drafts: Drafts) -> None:
    drafts.finish(drafts.windows(ELSEWHERE))
    with pytest.raises(
        ContentError, match=f"layer {ELSEWHERE['digest']} of windows/amd64 stays at its vendor"
    ) as caught:
        resolve(places, wanted(), [Platform.parse("windows/amd64")])
    assert caught.value.hint


def test_a_layer_that_may_stay_at_its_vendor_is_carried_where_it_is_held(places: Places, drafts: Drafts) -> None:
    """Most registries hold them by now."""
    layer = drafts.writer.put(b"layer", FOREIGN)
    root = drafts.index(on(drafts.image(), "linux/amd64"), drafts.windows(layer))
    drafts.finish(root)
    found = resolve(places, wanted(), [AMD64, ARM64])
    assert found.image.digest.text == root["digest"]
    assert {digest.text for digest in found.carried.blobs} == set(drafts.writer.sizes)
    assert Platform.parse("windows/amd64") in found.image.platforms
    assert f"layer {layer['digest']} has the type of one that stays there" in found.notes[0]


def test_what_lies_at_its_vendor_is_taken_from_an_index_by_tag(places: Places, drafts: Drafts) -> None:
    """Registries of the distribution project take no index of which they lack a part: the rest becomes one."""
    good = on(drafts.image(), "linux/amd64")
    whole = drafts.finish(drafts.index(good, drafts.windows(ELSEWHERE)))
    found = resolve(places, wanted(), [AMD64, Platform.parse("windows/amd64")])
    assert (found.image.upstream.text, found.image.platforms) == (whole, (AMD64,))
    document = json.loads(found.carried.blobs[found.image.digest].content)
    assert document == {"schemaVersion": 2, "mediaType": images.OCI.index, "manifests": [good]}
    assert len(found.carried.blobs) == 4
    pinned = replace(wanted(), pin=found.image.upstream)
    assert resolve(places, pinned, [AMD64, Platform.parse("windows/amd64")]).image == found.image
    assert found.image.single.text == good["digest"]
    said = "\n".join(found.notes)
    for text in (f"layer {ELSEWHERE['digest']} of windows/amd64 stays", "made here", "not published for windows/amd64"):
        assert text in said


def test_an_index_by_digest_stays_what_it_is(places: Places, drafts: Drafts) -> None:
    good = on(drafts.image(), "linux/amd64")
    whole = drafts.finish(drafts.index(good, drafts.windows(ELSEWHERE), {**ELSEWHERE, "mediaType": THING}))
    found = resolve(places, by_digest(whole), [AMD64])
    assert (found.image.digest.text, found.image.platforms) == (whole, (AMD64,))
    assert {digest.text for digest in found.carried.blobs} == set(drafts.writer.sizes)
    assert "windows/amd64 stays at its vendor and is in no registry; it is carried without;" in found.notes[1]
    assert f"of type {THING} cannot be had" in found.notes[0]


def test_nothing_but_what_lies_at_its_vendor_is_refused(places: Places, drafts: Drafts) -> None:
    whole = drafts.finish(drafts.index(drafts.windows(ELSEWHERE)))
    for asked in (wanted(), by_digest(whole)):
        with pytest.raises(NotFoundError, match="stays at its vendor"):
            resolve(places, asked, [Platform.parse("windows/amd64"), AMD64])


@pytest.mark.parametrize("platform", [{"os": "", "architecture": ""}, {"os": "linux", "architecture": ""}, {}, "text"])
def test_a_configuration_that_names_no_platform(places: Places, drafts: Drafts, platform: object) -> None:
    """As `crane append` makes them: bound to none, and taken for any."""
    root = drafts.manifest(platform, drafts.writer.put(b"layer", images.OCI.layer))
    for digest, asked in ((root, wanted()), (drafts.index(root), wanted())):
        drafts.finish(digest)
        found = resolve(places, asked, [AMD64])
        assert (found.image.digest.text, found.image.platforms) == (root["digest"], ())
        assert "says no platform" in found.notes[0]


def test_a_configuration_that_is_too_large_to_be_read(
    places: Places, drafts: Drafts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builder.images.platforms.MAX_SMALL_BLOB", 1000)
    for padding, platforms in ((10, (AMD64,)), (1000, ())):
        root = drafts.manifest({"os": "linux", "architecture": "amd64", "author": "x" * padding})
        drafts.finish(root)
        found = resolve(places, wanted(), [AMD64])
        assert (found.image.digest.text, found.image.platforms) == (root["digest"], platforms)
        assert len(found.carried.blobs) == 2


@pytest.mark.parametrize("platform", [None, {"os": "linux", "architecture": ""}, {}])
def test_an_entry_that_names_no_platform_has_that_of_its_configuration(
    places: Places, drafts: Drafts, platform: dict[str, str] | None
) -> None:
    entries = [drafts.image(name) for name in ("riscv64", "arm64", "amd64")]
    attestation = on(drafts.manifest({"os": "unknown", "architecture": "unknown"}), "unknown/unknown")
    named = [{**entry, "platform": platform} if platform is not None else entry for entry in entries]
    whole = drafts.finish(drafts.index(attestation, *named))
    for want, entry in ((AMD64, entries[2]), (ARM64, entries[1])):
        found = resolve(places, wanted(), [want])
        assert (found.image.digest.text, found.image.platforms) == (entry["digest"], (replace(want, variant=""),))
    with pytest.raises(NotFoundError, match="published for linux/amd64, linux/arm64, linux/riscv64"):
        resolve(places, wanted(), [ARMV7])
    both = resolve(places, wanted(), [AMD64, ARMV7])
    assert (both.image.digest.text, len(both.image.platforms)) == (whole, 3)
    assert resolve(places, by_digest(whole), [AMD64]).image.single.text == whole


def test_a_good_entry_goes_before_one_that_names_no_platform(places: Places, drafts: Drafts) -> None:
    good, odd = on(drafts.image(), "linux/amd64"), on(drafts.image("arm64"), "linux/")
    drafts.finish(drafts.index(odd, good))
    assert resolve(places, wanted(), [AMD64]).image.digest.text == good["digest"]


def test_an_entry_of_a_type_that_nobody_knows(places: Places, drafts: Drafts) -> None:
    good, thing = on(drafts.image(), "linux/amd64"), drafts.writer.put(b"thing", THING)
    whole = drafts.finish(drafts.index(good, thing))
    assert resolve(places, wanted(), [AMD64]).image.digest.text == good["digest"]
    several = resolve(places, wanted(), [AMD64, ARM64])
    assert THING in several.notes[0]
    assert json.loads(several.carried.blobs[several.image.digest].content)["manifests"] == [good]
    found = resolve(places, by_digest(whole), [AMD64])
    assert found.image.digest.text == whole
    assert {digest.text for digest in found.carried.blobs} == set(drafts.writer.sizes)


def test_an_index_of_no_image_at_all_is_carried_whole(places: Places, drafts: Drafts) -> None:
    """Such as BuildKit's cache."""
    things = [drafts.writer.put(text, THING) for text in (b"one", b"two")]
    charts = [drafts.manifest({"name": name}, kind=media_types.HELM_CONFIG) for name in "ab"]
    for root in (drafts.index(*things), drafts.index(*charts)):
        drafts.finish(root)
        for asked, platforms in ((wanted(), [AMD64]), (wanted(), [AMD64, ARM64]), (by_digest(root["digest"]), [AMD64])):
            found = resolve(places, asked, platforms)
            assert (found.image.digest.text, found.image.platforms) == (root["digest"], ())
            assert len(found.carried.blobs) > len(root) - 1
            assert "says no platform" in found.notes[0]


def test_a_member_of_an_index_that_is_gone(places: Places, drafts: Drafts) -> None:
    good, gone = on(drafts.image(), "linux/amd64"), {**ELSEWHERE, "mediaType": images.OCI.manifest}
    whole = drafts.finish(drafts.index(good, on(gone, "linux/arm64")))
    found = resolve(places, wanted(), [AMD64, ARMV7])
    assert (found.image.upstream.text, found.image.platforms) == (whole, (AMD64,))
    assert "is gone" in found.notes[0]
    for asked, platforms in ((by_digest(whole), [AMD64]), (wanted(), [AMD64, ARM64])):
        with pytest.raises(NotFoundError, match="1" * 64) as caught:
            resolve(places, asked, platforms)
        assert caught.value.hint


@pytest.mark.parametrize(("field", "value"), [("size", 7), ("mediaType", images.OCI.index)])
def test_an_index_that_says_something_wrong_of_its_member(
    places: Places, drafts: Drafts, field: str, value: object
) -> None:
    drafts.finish(drafts.index({**on(drafts.image(), "linux/amd64"), field: value}))
    with pytest.raises(ContentError, match="says"):
        resolve(places, wanted(), [AMD64])


@pytest.mark.parametrize(
    ("asked", "there", "taken", "told"),
    [
        ("linux/amd64", "linux/amd64/v3 linux/amd64/v2", "linux/amd64/v2", True),
        ("linux/amd64", "linux/amd64/v3 linux/amd64/v1", "linux/amd64/v1", False),
        ("linux/amd64/v2", "linux/amd64/v3 linux/amd64", "linux/amd64", False),
        ("linux/amd64/v2", "linux/amd64/v3", "", False),
        ("linux/arm", "linux/arm/v6 linux/arm/v7", "linux/arm/v7", False),
        ("linux/arm/v7", "linux/arm/v5 linux/arm/v6", "linux/arm/v6", False),
        ("linux/arm", "linux/arm/v8", "linux/arm/v8", True),
        ("linux/arm/v6", "linux/arm/v7", "", False),
        ("linux/arm64", "linux/arm64/v8", "linux/arm64/v8", False),
        ("linux/arm64", "linux/arm64/v9", "linux/arm64/v9", True),
        ("linux/riscv64", "linux/riscv64/new", "linux/riscv64/new", True),
        ("linux/amd64", "wasip1/wasm", "wasip1/wasm", False),
        ("linux/amd64", "wasip1/wasm linux/amd64", "linux/amd64", False),
        ("linux/arm64", "wasi/wasm32", "wasi/wasm32", False),
        ("linux/amd64", "linux/386 linux/arm64 windows/amd64", "linux/386", False),
        ("linux/arm64", "linux/386 linux/arm/v7", "linux/arm/v7", True),
        ("linux/386", "linux/amd64", "", False),
        ("linux/amd64", "linux/aarch64 Linux/x86_64", "Linux/x86_64", False),
        ("linux/arm64", "linux/armhf linux/aarch64/8", "linux/aarch64/8", False),
        ("linux/arm/v7", "linux/armel linux/arm/7", "linux/arm/7", False),
        ("linux/arm64/v9", "linux/arm64/v9.0", "linux/arm64/v9.0", False),
    ],
)
def test_variants(places: Places, drafts: Drafts, asked: str, there: str, taken: str, told: bool) -> None:
    """A processor runs what is for older ones of its kind; what is for newer ones only is taken, and told."""
    entries = {}
    for text in there.split():
        os, architecture, variant = [*text.split("/"), None][:3]
        entries[text] = on(drafts.image(str(architecture), variant, str(os)), text)
    drafts.finish(drafts.index(*entries.values()))
    want = Platform.parse(asked)
    if not taken:
        with pytest.raises(NotFoundError, match=f"not for {asked}"):
            resolve(places, wanted(), [want])
        return
    found, whole = resolve(places, wanted(), [want]), resolve(places, wanted(), [want, AMD64])
    assert found.image.digest.text == entries[taken]["digest"]
    assert found.image.platforms == (Platform.parse(taken),)
    assert any("containerd does not take from an index" in note for note in whole.notes) >= told
    assert bool(found.notes) == told == (f"for {asked} there is only {taken}, which not" in "".join(found.notes))
    drafts.finish(entries[taken])
    assert bool(resolve(places, wanted(), [want]).notes) == told


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
