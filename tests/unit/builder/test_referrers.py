"""What speaks about an image at a registry, and which of it is carried."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from builder.images.engine import Engine
from builder.images.referrers import with_referrers
from builder.images.resolve import Resolved, Wanted, resolve
from builder.images.source import Places
from builder.recipe.findings import Reason
from builder.recipe.lock import Origin
from installer.errors import ContentError, RegistryUnreachableError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Platform
from installer.registry.client import Registry
from installer.registry.transport import Transport
from tests.parts.faulty_registry import Fault, FaultyRegistry, status
from tests.parts.images import File, Image, Layer, write_layout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AMD64 = Platform.parse("linux/amd64")
REASON = Reason("", "", "", "", "", "images[0]", "")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    transport = Transport(sleep=lambda _: None)
    return Places(tmp_path, Registry(transport), transport, Engine(tmp_path))


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


def found(places: Places, server: FaultyRegistry) -> Resolved:
    return with_referrers(places, at(server), resolve(places, at(server), [AMD64]))


def image_in(server: FaultyRegistry) -> str:
    return Digest.of(server.manifests["1"][1]).text


def test_what_refers_to_an_image_and_to_that(places: Places, server: FaultyRegistry) -> None:
    image = image_in(server)
    sbom = referring(server, image, "packages")
    signature = referring(server, sbom, "signature")
    server.on("GET", f"/referrers/{image}", listing(server, sbom))
    server.on("GET", f"/referrers/{sbom}", listing(server, signature))
    server.on("GET", f"/referrers/{signature}", listing(server))
    all_of_it = found(places, server)
    assert [digest.text for digest in all_of_it.image.referrers] == sorted([sbom, signature])
    assert len(all_of_it.carried.manifests) == 3
    assert all_of_it.notes == ()
    assert resolve(places, at(server), [AMD64]).image.referrers == ()


def test_what_is_listed_without_referring(places: Places, server: FaultyRegistry) -> None:
    """The bytes decide: it is left out."""
    image, other = image_in(server), referring(server, Digest.of(b"another image").text, "packages")
    sbom = referring(server, image, "of the image")
    server.on("GET", f"/referrers/{image}", listing(server, other, sbom))
    server.on("GET", "/referrers/", listing(server))
    rest = found(places, server)
    assert [digest.text for digest in rest.image.referrers] == [sbom]
    (note,) = rest.notes
    assert note.endswith(f"{other} is listed as being about {image}, and is not")


@pytest.mark.parametrize("code", [404, 403, 401])
def test_what_is_listed_and_cannot_be_had(places: Places, server: FaultyRegistry, code: int) -> None:
    """It is told and left out: deleted, or refused to us."""
    image = image_in(server)
    gone, sbom = (referring(server, image, name) for name in ("gone", "packages"))
    server.on("GET", f"/referrers/{image}", listing(server, gone, sbom))
    server.on("GET", "/referrers/", listing(server))
    server.on("GET", f"/manifests/{gone}", status(code))
    rest = found(places, server)
    assert [digest.text for digest in rest.image.referrers] == [sbom]
    assert Digest(gone) not in rest.carried.blobs
    (note,) = rest.notes
    assert note.startswith(f"{server.address}/app:1: not carried with it: ")
    assert gone in note


def test_many_that_cannot_be_had_are_told_in_short(places: Places, server: FaultyRegistry) -> None:
    image = image_in(server)
    gone = [referring(server, image, name) for name in "abcde"]
    server.on("GET", f"/referrers/{image}", listing(server, *gone))
    for digest in gone:
        del server.manifests[digest]
    notes = found(places, server).notes
    assert (len(notes), notes[-1]) == (4, f"{server.address}/app:1: and 2 more that speak about it")


def test_what_is_listed_by_a_digest_of_another_kind(places: Places, server: FaultyRegistry) -> None:
    image, odd = image_in(server), {"mediaType": media_types.OCI_MANIFEST, "digest": f"sha512:{'0' * 128}", "size": 1}
    sbom = {"mediaType": media_types.OCI_MANIFEST, "digest": referring(server, image, "packages"), "size": 1}
    index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [odd, sbom]}
    headers = {"Content-Type": media_types.OCI_INDEX}
    server.on("GET", f"/referrers/{image}", status(200, headers, json.dumps(index).encode()))
    rest = found(places, server)
    assert [digest.text for digest in rest.image.referrers] == [sbom["digest"]]
    (note,) = rest.notes
    assert "sha512:" in note


def test_a_list_that_is_refused(places: Places, server: FaultyRegistry) -> None:
    server.on("GET", "/referrers/", status(403))
    rest = found(places, server)
    assert rest.image.referrers == ()
    assert "/referrers/" in rest.notes[0]


def test_a_registry_that_is_down_says_nothing(places: Places, server: FaultyRegistry) -> None:
    """What passes is waited for, and then an error: a lock that lacks what was there would be another lock."""
    server.on("GET", "/referrers/", status(503))
    with pytest.raises(RegistryUnreachableError):
        found(places, server)


def test_more_referrers_than_anybody_needs(
    places: Places, server: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builder.images.referrers.MAX_REFERRERS", 1)
    image = image_in(server)
    server.on("GET", f"/referrers/{image}", listing(server, *(referring(server, image, name) for name in "ab")))
    server.on("GET", "/referrers/", listing(server))
    with pytest.raises(ContentError, match="more than 1 manifests refer to it"):
        found(places, server)


@pytest.mark.parametrize("tagged", [True, False])
def test_what_is_about_an_index_of_which_one_platform_is_carried(
    places: Places, server: FaultyRegistry, *, tagged: bool
) -> None:
    """Publishers sign the index. Who takes one manifest of it is told how to have its signatures."""
    media_type, image = server.manifests["1"]
    child = {"mediaType": media_type, "digest": Digest.of(image).text, "size": len(image)}
    entry = {**child, "platform": {"os": "linux", "architecture": "amd64"}}
    index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [entry]}
    digest = server.put_manifest(json.dumps(index).encode(), media_types.OCI_INDEX, "1")
    if tagged:
        signed(server, digest, "sig")
    else:
        server.on("GET", f"/referrers/{digest}", listing(server, referring(server, digest, "signature")))
    server.on("GET", "/referrers/", listing(server))
    (note,) = found(places, server).notes
    assert f"is its index {digest}" in note
    wanted = Wanted(f"{server.address}/app:1@{digest}", at(server).origin, (REASON,))
    whole = with_referrers(places, wanted, resolve(places, wanted, [AMD64]))
    assert (len(whole.image.referrers), len(whole.image.tagged)) == ((0, 1) if tagged else (1, 0))
    assert whole.notes == ()


def signed(server: FaultyRegistry, subject: str, suffix: str) -> str:
    """What cosign keeps under a tag beside `subject`; its digest."""
    config = {"mediaType": media_types.OCI_CONFIG, "digest": server.put_blob(b"{}"), "size": 2}
    kind = "application/vnd.dev.cosign.simplesigning.v1+json"
    layer = {"mediaType": kind, "digest": server.put_blob(b"x"), "size": 1}
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": config,
        "layers": [{**layer, "annotations": {"dev.cosignproject.cosign/signature": subject}}],
    }
    tag = f"{subject.replace(':', '-')}.{suffix}"
    return server.put_manifest(json.dumps(document).encode(), media_types.OCI_MANIFEST, tag)


def test_what_cosign_tags(places: Places, server: FaultyRegistry) -> None:
    """Signatures, attestations and an SBOM, and the signature of that SBOM."""
    image = image_in(server)
    sbom = signed(server, image, "sbom")
    expected = {f"sha256-{image[7:]}.{suffix}": signed(server, image, suffix) for suffix in ("sig", "att")}
    expected |= {f"sha256-{image[7:]}.sbom": sbom, f"sha256-{sbom[7:]}.sig": signed(server, sbom, "sig")}
    signed(server, image, "other")
    all_of_it = found(places, server)
    assert {tag: digest.text for tag, digest in all_of_it.image.tagged} == expected
    assert all_of_it.image.referrers == ()
    assert {Digest(digest) for digest in expected.values()} < set(all_of_it.carried.manifests)
    assert all_of_it.notes == ()


def test_tags_that_are_refused(places: Places, server: FaultyRegistry) -> None:
    image = image_in(server)
    signed(server, image, "sig")
    server.on("GET", r"/manifests/sha256-[0-9a-f]*\.att", status(403))
    rest = found(places, server)
    assert len(rest.image.tagged) == 1
    assert ".att" in rest.notes[0]


def test_only_registries_keep_referrers(places: Places) -> None:
    write_layout(places.folder / "layout", Image((Layer({"/name": File(b"name")}),)), tag="1.0")
    wanted = Wanted("docker.io/demo/app:1.0", Origin("layout", "layout", "1.0"), (REASON,))
    resolved = resolve(places, wanted, [AMD64])
    assert with_referrers(places, wanted, resolved) is resolved
