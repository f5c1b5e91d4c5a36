"""Signatures and SBOMs travel with their images, between registries whose clients keep the lists of them.

Those that keep such lists themselves: tests/unit/oci/test_referrers.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from builder.recipe.lock import Lock
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor, Index, Manifest, parse_manifest
from installer.oci.reference import DigestRef, Repository, TagRef, parse_reference
from installer.registry.client import Registry
from installer.registry.referrers import tag_of
from installer.registry.transport import Transport
from tests.parts.application import KEY
from tests.parts.bundles import KEYS
from tests.parts.faulty_proxy import FaultyProxy
from tests.parts.faulty_registry import status
from tests.parts.go_programs import go_program
from tests.parts.images import File, Image, Layer, push, write_layout
from tests.parts.programs import Program, from_source
from tests.parts.registry_kinds import running, slices

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SBOM, SIGNATURE = "application/spdx+json", "application/vnd.dev.sigstore.bundle.v0.3+json"


@dataclass(frozen=True)
class Place:
    """A repository, in which those who push list what refers to what."""

    client: Registry
    repository: Repository

    def refer(self, subject: Descriptor, kind: str, content: bytes) -> Descriptor:
        """Push a manifest about `subject`."""
        config, layer = (
            Descriptor(each, Digest.of(data), len(data)) for each, data in ((EMPTY, b"{}"), (kind, content))
        )
        for blob, data in ((config, b"{}"), (layer, content)):
            self.client.upload(self.repository, blob, slices(memoryview(data)))
        document = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "artifactType": kind,
            "config": plain(config),
            "layers": [plain(layer)],
            "subject": plain(subject),
            "annotations": {"org.opencontainers.image.created": "2026-01-01T00:00:00Z"},
        }
        manifest = parse_manifest(json.dumps(document).encode(), media_types.OCI_MANIFEST)
        digest = manifest.descriptor.digest.text
        assert not self.client.put_manifest(self.repository, manifest.raw, media_types.OCI_MANIFEST, digest)
        self.client.list_referrer(self.repository, manifest)
        return manifest.descriptor

    def sign(self, subject: Digest, *signatures: str) -> str:
        """Keep `signatures` as cosign does: in the annotations of layers, under a tag beside `subject`; that tag."""
        payload = json.dumps({"critical": {"image": {"docker-manifest-digest": subject.text}}}).encode()
        config, layer = (
            Descriptor(kind, Digest.of(data), len(data))
            for kind, data in ((media_types.OCI_CONFIG, b"{}"), (SIMPLE_SIGNING, payload))
        )
        for blob, data in ((config, b"{}"), (layer, payload)):
            self.client.upload(self.repository, blob, slices(memoryview(data)))
        document = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": plain(config),
            "layers": [
                {**plain(layer), "annotations": {"dev.cosignproject.cosign/signature": text}} for text in signatures
            ],
        }
        tag = f"sha256-{subject.hex}.sig"
        self.client.put_manifest(self.repository, json.dumps(document).encode(), media_types.OCI_MANIFEST, tag)
        return tag

    def signatures(self, tag: str) -> list[str]:
        """What is kept under a tag."""
        found = self.client.manifest(TagRef(self.repository, tag))
        assert isinstance(found, Manifest)
        return [layer.annotations["dev.cosignproject.cosign/signature"] for layer in found.layers]

    def forget(self, subject: Descriptor) -> None:
        """List nothing any more of what refers to `subject`."""
        empty = json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []}).encode()
        tag = tag_of(self.repository, subject.digest).tag
        self.client.put_manifest(self.repository, empty, media_types.OCI_INDEX, tag)

    def about(self, subject: Descriptor) -> set[Digest]:
        """What refers to `subject`."""
        return set(map(Digest, self.client.referrers(self.repository, subject.digest)))


EMPTY = "application/vnd.oci.empty.v1+json"


def plain(descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest.text, "size": descriptor.size}


@dataclass(frozen=True)
class Oras:
    """The OCI project's client of referrers; `folder` is where it runs, and its HOME."""

    folder: Path

    def attach(self, image: str, kind: str, content: str) -> str:
        """Publish `content` about an image; the digest of the manifest."""
        (self.folder / "content").write_text(content)
        found = self._run("attach", "--artifact-type", kind, "--format", "json", image, "content:text/plain")
        return str(json.loads(found)["digest"])

    def discovered(self, image: str, way: str = "v1.1-referrers-api") -> dict[str, str]:
        """What is about an image, with the type of each: asked for by one of the ways of the specification."""
        found = json.loads(self._run("discover", "--format", "json", "--distribution-spec", way, image))
        return {entry["digest"]: entry["artifactType"] for entry in found["referrers"]}

    def _run(self, command: str, *arguments: str) -> str:
        done = subprocess.run(
            [go_program("oras"), command, "--plain-http", *arguments],
            cwd=self.folder,
            env={"PATH": os.defpath, "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@dataclass(frozen=True)
class Publisher:
    """A registry with an image, a recipe for it, and the commands of both sides."""

    address: str
    root: Descriptor
    airferry: Program
    installer: Program

    @property
    def place(self) -> Place:
        return Place(Registry(Transport()), Repository(self.address, "team/app"))

    def bundle(self) -> Path:
        """The bundle of what is there now."""
        self.airferry.result("lock")
        built: str = self.airferry.result("build", "-o", "app.tar")["file"]
        self.airferry.result("sign", built, "--key", KEYS / "test-only.key")
        return self.airferry.folder / built

    def shown(self, command: str, *arguments: str | Path) -> str:
        """What a command tells people."""
        done = self.airferry.run(command, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def load(self, address: str, project: str = "site") -> Any:
        """Have what is there now in the registry at `address`."""
        bundle = self.bundle()
        # All are number 1, whatever they hold.
        where = ("--registry", address, "--plain-http", "--project", project, "--back-to", "1")
        return self.installer.result("load", "--bundle", bundle, "--key", KEY, *where)

    @contextlib.contextmanager
    def serving(self) -> Iterator[Repository]:
        """Serve what is there now; where the image is then."""
        bundle = self.bundle()
        served = self.installer.start("serve", "--bundle", bundle, "--key", KEY, "--listen", "127.0.0.1:0")
        assert served.stdout
        try:
            address = served.stdout.readline().split()[1].rstrip(",")
            yield Repository(address, f"{self.address.replace(':', '__')}/team/app")
        finally:
            served.terminate()
            served.communicate(timeout=60)


@pytest.fixture(params=["debian", "crane"])
def publisher(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Publisher]:
    folder = tmp_path / "work"
    folder.mkdir()
    layout = write_layout(tmp_path / "layout", Image((Layer({"/app": File(b"app")}),)))
    with running(request.param, tmp_path / "upstream") as address:
        push(layout, f"{address}/team/app:1.0")
        recipe = {"name": "app", "version": "1", "images": [f"{address}/team/app:1.0"], "referrers": True}
        (folder / "recipe.yaml").write_text(json.dumps(recipe))
        root = Registry(Transport()).manifest(TagRef(Repository(address, "team/app"), "1.0")).descriptor
        yield Publisher(address, root, from_source("builder", folder), from_source("installer", folder))


@pytest.mark.parametrize("kind", ["debian", "v3", "crane"])
def test_they_arrive_and_are_found(publisher: Publisher, kind: str, tmp_path: Path) -> None:
    """A signature about an SBOM comes too; and what people of the site have added to the list stays."""
    upstream = publisher.place
    sbom = upstream.refer(publisher.root, SBOM, b"packages")
    signature = upstream.refer(sbom, SIGNATURE, b"signature")
    with running(kind, tmp_path / "enclave") as address:
        done = publisher.load(address)
        (arrived,) = done["images"]
        assert done["registry"]["lists_referrers"] is False
        target = Place(Registry(Transport()), parse_reference(arrived["target"]).repository)
        assert target.about(publisher.root) == {sbom.digest}
        assert target.about(sbom) == {signature.digest}
        found = target.client.manifest(DigestRef(target.repository, signature.digest))
        assert isinstance(found, Manifest)
        with target.client.open(target.repository, found.layers[0]) as stream:
            view = memoryview(bytearray(9))
            assert stream.readinto(view) == 9
            assert bytes(view) == b"signature"

        scan = target.refer(publisher.root, "application/sarif+json", b"scanned here")
        again = upstream.refer(publisher.root, SIGNATURE, b"a later signature")
        done = publisher.load(address)
        assert target.about(publisher.root) == {sbom.digest, scan.digest, again.digest}
        assert [image["present"] for image in done["images"]] == [False]
        done = publisher.load(address)
        assert [image["present"] for image in done["images"]] == [True]


@pytest.mark.parametrize("kind", ["debian", "crane"])
def test_a_registry_that_does_not_take_them_takes_the_image(publisher: Publisher, kind: str, tmp_path: Path) -> None:
    sbom = publisher.place.refer(publisher.root, SBOM, b"packages")
    tag = publisher.place.sign(publisher.root.digest, "of the publisher")
    with running(kind, tmp_path / "enclave") as address, FaultyProxy(address) as strict:
        strict.on("PUT", f"/manifests/{sbom.digest}$", status(400))
        strict.on("PUT", f"/manifests/{tag}$", status(415))
        done = publisher.load(strict.address)
        (arrived,) = done["images"]
        assert len(done["unattached"]) == 2
        assert any(f"{sbom.digest}" in name and "400" in why for name, why in done["unattached"].items())
        target = Place(Registry(Transport()), Repository(address, parse_reference(arrived["target"]).repository.path))
        assert target.client.head_manifest(TagRef(target.repository, "1.0")) == publisher.root.digest
        assert not target.about(publisher.root)
        assert publisher.load(address)["unattached"] == {}
        assert set(target.about(publisher.root)) == {sbom.digest}
        assert target.signatures(tag) == ["of the publisher"]


@pytest.mark.parametrize("kind", ["debian", "v3", "crane"])
def test_what_cosign_tags_arrives_under_its_tag(publisher: Publisher, kind: str, tmp_path: Path) -> None:
    """And a signature that the site has added to it stays: without that its clusters may take no pod any more."""
    upstream = publisher.place
    tag = upstream.sign(publisher.root.digest, "of the publisher")
    with running(kind, tmp_path / "enclave") as address:
        (arrived,) = publisher.load(address)["images"]
        target = Place(Registry(Transport()), parse_reference(arrived["target"]).repository)
        assert target.signatures(tag) == ["of the publisher"]
        assert publisher.load(address)["images"][0]["present"]

        target.sign(publisher.root.digest, "of the publisher", "of the site")
        assert publisher.load(address)["images"][0]["present"]
        upstream.sign(publisher.root.digest, "of the publisher", "another of the publisher")
        (again,) = publisher.load(address)["images"]
        assert not again["present"]
        assert target.signatures(tag) == ["of the publisher", "of the site"]
        assert publisher.load(address)["images"][0]["present"]

        target.sign(publisher.root.digest, "of the publisher")
        upstream.sign(publisher.root.digest, "of the publisher", "a third of the publisher")
        publisher.load(address)
        assert target.signatures(tag) == ["of the publisher", "a third of the publisher"]


@pytest.mark.parametrize("kind", ["debian", "v3"])
def test_a_list_that_was_not_written_any_more_is_written_later(publisher: Publisher, kind: str, tmp_path: Path) -> None:
    """Whoever was killed between the two requests has pushed what refers to the image, and not listed it."""
    upstream = publisher.place
    sbom = upstream.refer(publisher.root, SBOM, b"packages")
    signature = upstream.refer(sbom, SIGNATURE, b"signature")
    with running(kind, tmp_path / "enclave") as address:
        (arrived,) = publisher.load(address)["images"]
        target = Place(Registry(Transport()), parse_reference(arrived["target"]).repository)
        for subject, referrer in ((sbom, signature), (publisher.root, sbom)):
            target.forget(subject)
            assert not target.about(subject)
            (arrived,) = publisher.load(address)["images"]
            assert not arrived["present"]
            assert target.about(subject) == {referrer.digest}
        (arrived,) = publisher.load(address)["images"]
        assert arrived["present"]


@pytest.mark.parametrize("kind", ["debian", "crane"])
def test_oras_finds_what_oras_has_attached(publisher: Publisher, kind: str, tmp_path: Path) -> None:
    """In the registry that was loaded, and in `serve`, which lists them itself."""
    oras = Oras(tmp_path)
    image = f"{publisher.address}/team/app:1.0"
    attached = {oras.attach(image, each, "about it"): each for each in (SBOM, SIGNATURE)}
    with running(kind, tmp_path / "enclave") as address:
        (arrived,) = publisher.load(address)["images"]
        assert oras.discovered(arrived["target"], "v1.1-referrers-tag") == attached
    with publisher.serving() as repository:
        assert oras.discovered(f"{repository}:1.0") == attached
        assert oras.discovered(f"{repository}:1.0", "v1.1-referrers-tag") == attached


def test_they_are_served(publisher: Publisher) -> None:
    """Straight from the bundle, by list, by the tag of clients that know no lists, and by cosign's; nothing is left to
    load into what serves them."""
    upstream = publisher.place
    sbom = upstream.refer(publisher.root, SBOM, b"packages")
    signature = upstream.refer(sbom, SIGNATURE, b"signature")
    tag = upstream.sign(publisher.root.digest, "of the publisher")
    with publisher.serving() as repository:
        place = Place(Registry(Transport()), repository)
        assert place.about(publisher.root) == {sbom.digest}
        assert place.about(sbom) == {signature.digest}
        tagged = place.client.manifest(tag_of(place.repository, publisher.root.digest))
        assert isinstance(tagged, Index)
        assert [found.digest for found in tagged.manifests] == [sbom.digest]
        assert place.signatures(tag) == ["of the publisher"]
        assert place.client.tags(place.repository) == ["1.0", tag]
        assert [image["present"] for image in publisher.load(repository.host, project="")["images"]] == [True]


def test_they_are_shown(publisher: Publisher) -> None:
    sbom = publisher.place.refer(publisher.root, SBOM, b"packages")
    tag = publisher.place.sign(publisher.root.digest, "signature")
    bundle = publisher.bundle()
    assert "linux/amd64  and 2 manifests about it" in publisher.shown("list")
    shown = publisher.shown("inspect", bundle, "--key", KEY)
    assert f"    with {sbom.digest} about it" in shown
    assert f" about it, as {tag}" in shown


def test_they_are_left_where_nobody_asks_for_them(publisher: Publisher) -> None:
    publisher.place.refer(publisher.root, SBOM, b"packages")
    recipe = publisher.airferry.folder / "recipe.yaml"
    recipe.write_text(json.dumps(json.loads(recipe.read_text()) | {"referrers": False}))
    publisher.airferry.result("lock", "--update")
    lock = Lock.load(publisher.airferry.folder / "airferry.lock")
    assert [image.referrers for image in lock.images] == [()]
    assert len(lock.manifests) == 1
