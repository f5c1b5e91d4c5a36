"""Images and artifacts as they are really published, from `lock` to registries and to a node's containerd."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from installer.oci import media_types
from installer.oci.model import Index
from installer.oci.reference import parse_reference
from installer.registry.client import Registry as Client
from installer.registry.transport import Transport
from tests.parts import second_reader
from tests.parts.bundles import KEYS
from tests.parts.containerd import Containerd
from tests.parts.faulty_registry import FaultyRegistry
from tests.parts.go_programs import go_program
from tests.parts.images import OCI, File, Layer, LayoutWriter, compact
from tests.parts.programs import Program, from_source
from tests.parts.registry import DEBIAN_PROGRAM, Registry
from tests.parts.registry_kinds import REGISTRIES, running

if TYPE_CHECKING:
    from collections.abc import Mapping

EMPTY = "application/vnd.oci.empty.v1+json"
THING = "application/vnd.example.thing"
VENDORS = {
    "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "digest": "sha256:" + "1" * 64,
    "size": 5,
    "urls": ["https://vendor.example/layer"],
}
FILES = Layer({"/file": File(b"content")})
ON_LINUX = {"os": "linux", "architecture": "amd64"}


@dataclass
class Drafts:
    """Content of any form, each in a layout of its own, and the recipe that names it all."""

    folder: Path
    entries: list[dict[str, str] | str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)

    def writer(self, name: str) -> LayoutWriter:
        return LayoutWriter(self.folder / name)

    def add(self, name: str, writer: LayoutWriter, root: Mapping[str, Any], *, by_digest: bool = False) -> None:
        writer.finish(dict(root), "1")
        asked = f"docker.io/odd/{name}" + (f"@{root['digest']}" if by_digest else ":1")
        self.entries.append({"layout": name, "entry": "1", "name": asked})
        self.digests[asked] = str(root["digest"])

    def manifest(
        self, writer: LayoutWriter, config: object, layers: object, kind: str = OCI.config, **more: object
    ) -> dict[str, Any]:
        held = writer.put(config if isinstance(config, bytes) else compact(config), kind)
        return writer.put_document({"config": held, "layers": layers, **more}, OCI.manifest)

    def files(self, writer: LayoutWriter, **config: object) -> dict[str, Any]:
        """An image of one layer with a configuration of its own."""
        diff_id, data = FILES.stored
        whole = {"rootfs": {"type": "layers", "diff_ids": [diff_id]}, **config}
        return self.manifest(writer, whole, [writer.put(data, OCI.layer_gzip)])


def nothing(**config: object) -> dict[str, Any]:
    """The configuration of an image without layers."""
    return {**ON_LINUX, "rootfs": {"type": "layers", "diff_ids": []}, **config}


def images(drafts: Drafts) -> None:
    """What a node can unpack."""
    for name, layers in (("none", []), ("null", None)):
        writer = drafts.writer(name)
        drafts.add(name, writer, drafts.manifest(writer, nothing(), layers))
    writer = drafts.writer("absent")
    config = writer.put(compact(nothing(config={"Labels": {"a": "1", "A": "2"}})), OCI.config)
    drafts.add("absent", writer, writer.put_document({"config": config}, OCI.manifest))
    writer = drafts.writer("unbound")
    drafts.add("unbound", writer, drafts.files(writer, os="", architecture=""))
    writer = drafts.writer("large")
    drafts.add("large", writer, drafts.files(writer, **ON_LINUX, comment="x" * (12 << 20)))
    writer = drafts.writer("labels")
    free: Any = {"annotations": {"Key": "1", "key": "2", "x": "é"}, "x-later": {"a": [1], "A": 2}}
    drafts.add("labels", writer, drafts.manifest(writer, nothing(), [], **free))
    writer = drafts.writer("nameless")
    attestation = drafts.manifest(
        writer, {"os": "unknown", "architecture": "unknown"}, [writer.put(b"{}", "application/vnd.in-toto+json")]
    )
    members = [
        drafts.files(writer, **ON_LINUX),
        {**attestation, "platform": {"os": "unknown", "architecture": "unknown"}},
    ]
    drafts.add("nameless", writer, writer.put_document({"manifests": members}, OCI.index))
    writer = drafts.writer("unfinished")
    good = {**drafts.files(writer, **ON_LINUX), "platform": ON_LINUX}
    bad = {**drafts.files(writer, os="linux", architecture=""), "platform": {"os": "linux", "architecture": ""}}
    drafts.add("unfinished", writer, writer.put_document({"manifests": [bad, good]}, OCI.index))


def artifacts(drafts: Drafts) -> None:
    """What a registry keeps beside images."""
    writer = drafts.writer("empty")
    layers = [writer.put(b"x", OCI.layer)]
    drafts.add("empty", writer, drafts.manifest(writer, {}, layers, EMPTY, artifactType="application/vnd.example"))
    writer = drafts.writer("chart")
    layers = [writer.put(b"chart", media_types.HELM_CHART)]
    drafts.add("chart", writer, drafts.manifest(writer, {"name": "a"}, layers, media_types.HELM_CONFIG))
    writer = drafts.writer("signature")
    layers = [writer.put(b"signed", "application/vnd.dev.cosign.simplesigning.v1+json")]
    drafts.add("signature", writer, drafts.manifest(writer, nothing(os="", architecture=""), layers))
    writer = drafts.writer("wasm")
    layers = [{**writer.put(b"\0asm", "application/wasm"), "data": "AGFzbQ=="}]
    drafts.add("wasm", writer, drafts.manifest(writer, {}, layers, "application/vnd.wasm.config.v0+json"))


def publish_indexes(drafts: Drafts, registry: FaultyRegistry, *, by_digest: bool) -> None:
    """Indexes in `registry` with an image for linux/amd64, and what cannot be carried."""
    for name in ("vendor", "thing"):
        writer = drafts.writer(f"{name}-{by_digest}")
        good = {**drafts.files(writer, **ON_LINUX, comment=name), "platform": ON_LINUX}
        other: dict[str, Any] = {"mediaType": THING, "digest": "sha256:" + "2" * 64, "size": 5}
        if name == "vendor":
            windows = {"os": "windows", "architecture": "amd64"}
            other = {**drafts.manifest(writer, windows, [VENDORS]), "platform": windows}
        root = writer.put_document({"manifests": [good, other]}, OCI.index)
        publish(registry, writer, name, root["digest"])
        asked = f"{registry.address}/odd/{name}" + (f"@{root['digest']}" if by_digest else f":{name}")
        drafts.entries.append(asked)
        drafts.digests[asked] = good["digest"]


def publish(registry: FaultyRegistry, writer: LayoutWriter, tag: str, root: str) -> None:
    """Have all of a layout in `registry`, with a tag for its root."""
    for digest in writer.sizes:
        data = (writer.path / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()
        kind = json.loads(data).get("mediaType") if data.startswith(b"{") else None
        if kind:
            registry.put_manifest(data, kind, tag if digest == root else "")
        else:
            registry.put_blob(data)


def bundle(folder: Path, drafts: Drafts, *platforms: str) -> Path:
    """A signed bundle of all drafts, which another reader finds in order."""
    recipe = {"name": "odd", "version": "1", "platforms": platforms or ["linux/amd64"], "images": drafts.entries}
    folder.mkdir(exist_ok=True)
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    airferry = from_source("builder", folder)
    for command in (["lock"], ["build"], ["sign", "odd-1.tar", "--key", str(KEYS / "test-only.key")]):
        done = airferry.run(*command)
        assert done.returncode == 0, done.stderr
    volume = folder / "odd-1.tar"
    second_reader.read([volume.read_bytes()], KEYS / "test-only.pub", KEYS / "test-only.minisign.pub")
    return volume


def installer(volume: Path) -> Program:
    trust = ("--bundle", volume, "--key", KEYS / "test-only.pub")
    return from_source("installer", volume.parent, *trust, CONTAINERD_SNAPSHOTTER="native")


def tags(node: Containerd) -> set[str]:
    """The tags that the node knows."""
    known = node.ctr("--namespace", "odd", "images", "list", "--quiet").decode().split()
    return {text for text in known if "@" not in text}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Drafts, Drafts]:
    """A bundle of all images and artifacts, and both."""
    folder = tmp_path_factory.mktemp("everything")
    runnable, others = Drafts(folder), Drafts(folder)
    images(runnable)
    artifacts(others)
    both = Drafts(folder, [*others.entries, *runnable.entries])
    return bundle(folder, both), runnable, others


@pytest.mark.parametrize("kind", REGISTRIES)
def test_registries_take_all_of_it(everything: tuple[Path, Drafts, Drafts], tmp_path: Path, kind: str) -> None:
    volume, runnable, others = everything
    with running(kind, tmp_path) as address:
        done = installer(volume).result("load", "--registry", address)
        assert done["left_out"] == {}
        assert {item["source"] for item in done["images"]} == {*runnable.digests, *others.digests}


@pytest.mark.skipif(os.geteuid() != 0, reason="containerd needs root")
def test_a_node_takes_every_image_and_is_spared_the_artifacts(everything: tuple[Path, Drafts, Drafts]) -> None:
    volume, runnable, others = everything
    with tempfile.TemporaryDirectory(prefix="af-") as name, Containerd(Path(name)) as node:
        arguments = ("import", "--containerd", node.folder / "c.sock", "--namespace", "odd")
        done = installer(volume).result(*arguments)
        assert {item["source"] for item in done["images"]} == set(runnable.digests)
        assert set(done["left_out"]) == set(others.digests)
        assert all("artifact" in reason for reason in done["left_out"].values())
        assert tags(node) == set(runnable.digests)
        again = installer(volume).result(*arguments)
        assert again["sent"] == 0
        assert all(item["present"] for item in again["images"])


@pytest.mark.skipif(os.geteuid() != 0, reason="containerd needs root")
def test_what_a_node_refuses_stops_no_other_and_leaves_no_name(tmp_path: Path) -> None:
    drafts = Drafts(tmp_path)
    for name in ("a", "c"):
        writer = drafts.writer(name)
        drafts.add(name, writer, drafts.files(writer, **ON_LINUX, comment=name))
    writer = drafts.writer("b")
    elsewhere = {"os": "linux", "architecture": "s390x"}
    member = {**drafts.files(writer, **elsewhere), "platform": elsewhere}
    drafts.add("b", writer, writer.put_document({"manifests": [member]}, OCI.index))
    volume = bundle(tmp_path, drafts, "linux/amd64", "linux/s390x")
    with tempfile.TemporaryDirectory(prefix="af-") as name, Containerd(Path(name)) as node:
        arguments = ("import", "--containerd", node.folder / "c.sock", "--namespace", "odd")
        for new in (True, False):
            done = installer(volume).run(*arguments, "--output", "json")
            assert (done.returncode, "docker.io/odd/b:1" in done.stderr) == (23, True), done.stderr
            said = json.loads(done.stdout)
            assert [(item["source"], item["present"]) for item in said["images"]] == [
                ("docker.io/odd/a:1", not new),
                ("docker.io/odd/c:1", not new),
            ]
            assert set(said["left_out"]) == {"docker.io/odd/b:1"}
            assert tags(node) == {"docker.io/odd/a:1", "docker.io/odd/c:1"}


def test_an_image_folder_is_spared_artifacts(everything: tuple[Path, Drafts, Drafts], tmp_path: Path) -> None:
    volume, runnable, others = everything
    done = installer(volume).result("import", "--image-folder", tmp_path)
    assert {item["source"] for item in done["images"]} == set(runnable.digests)
    assert set(done["left_out"]) == set(others.digests)


@pytest.mark.parametrize("by_digest", [False, True])
def test_linux_is_carried_where_windows_lies_at_its_vendor(tmp_path: Path, *, by_digest: bool) -> None:
    """By tag into every registry; by digest, whose index stays what it is, into one that asks for no part of it."""
    drafts = Drafts(tmp_path / "bundle")
    with FaultyRegistry() as upstream:
        publish_indexes(drafts, upstream, by_digest=by_digest)
        volume = bundle(drafts.folder, drafts, "linux/amd64", "linux/arm64")
    for kind in ("crane",) if by_digest else REGISTRIES:
        (tmp_path / kind).mkdir()
        with running(kind, tmp_path / kind) as address:
            for item in installer(volume).result("load", "--registry", address)["images"]:
                found = Client(Transport()).manifest(parse_reference(item["target"]))
                assert isinstance(found, Index)
                assert len(found.manifests) == 1 + by_digest
                assert found.manifests[0].digest.text == drafts.digests[item["source"]]
                assert not by_digest or item["source"].endswith(f"@{found.descriptor.digest}")
    if os.geteuid() == 0:
        with tempfile.TemporaryDirectory(prefix="af-") as name, Containerd(Path(name)) as node:
            done = installer(volume).result("import", "--containerd", node.folder / "c.sock", "--namespace", "odd")
            assert {item["source"] for item in done["images"]} == set(drafts.digests)


@pytest.mark.parametrize("program", [DEBIAN_PROGRAM, "v3"])
def test_a_registry_that_insists_on_what_lies_at_a_vendor(tmp_path: Path, program: str) -> None:
    """As the distribution project's does by default: what it refuses is named, all other images are loaded."""
    drafts = Drafts(tmp_path / "bundle")
    writer = drafts.writer("plain")
    with FaultyRegistry() as upstream:
        publish_indexes(drafts, upstream, by_digest=True)
        drafts.entries = [entry for entry in drafts.entries if "vendor" in str(entry)]
        drafts.add("plain", writer, drafts.files(writer, **ON_LINUX, comment="plain"))
        volume = bundle(drafts.folder, drafts)
    with Registry(tmp_path / "registry", program=go_program("registry") if program == "v3" else program) as registry:
        done = installer(volume).run("load", "--registry", registry.address, "--output", "json")
    assert (done.returncode, "relax `validation`" in done.stderr) == (23, True), done.stderr
    (refused,) = json.loads(done.stdout)["refused"]
    assert "/odd/vendor@" in refused
    assert [item["source"] for item in json.loads(done.stdout)["images"]] == ["docker.io/odd/plain:1"]
