"""What stands in a bundle more than once: a signer who lets one contradict the other is refused, whichever is read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from installer.bundle.failures import ContradictionError
from installer.chart.archive import packed
from installer.chart.bundled import chart_of
from installer.errors import BundleError
from installer.oci import media_types
from installer.value import replace
from installer.verify.verification import verify, verify_by_turns
from tests.parts import second_reader
from tests.parts.bundles import (
    KEYS,
    Cargo,
    next_of,
    open_bundle,
    packed_chart,
    reference_cargo,
    several_volumes,
    signing_key,
)
from tests.parts.counted import Counted
from tests.parts.images import Image, Platform, compact, write_layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from installer.oci.digest import Digest
    from installer.oci.model import Descriptor

PUBLIC = KEYS / "test-only.pub", KEYS / "test-only.minisign.pub"


def entry(descriptor: Descriptor, **more: Any) -> dict[str, Any]:
    named = {"mediaType": descriptor.media_type, "digest": descriptor.digest.text, "size": descriptor.size}
    return {**named, **more}


def artifact(cargo: Cargo, archives: list[bytes], config: bytes) -> Digest:
    """A chart as an OCI artifact, with whatever is given."""
    manifest = {
        "schemaVersion": 2,
        "config": entry(cargo.put(config, media_types.HELM_CONFIG)),
        "layers": [entry(cargo.put(archive, media_types.HELM_CHART)) for archive in archives],
    }
    return cargo.put(compact(manifest), media_types.OCI_MANIFEST).digest


GREETER, OTHER = packed_chart("greeter", "0.1.0"), packed_chart("greeter", "0.1.0", {"values.yaml": "greeting: boo\n"})
NAMED = {"name": "greeter", "version": "0.1.0"}
CONFIG = compact(NAMED)


def another_archive(cargo: Cargo) -> None:
    cargo.charts[0] = replace(cargo.charts[0], archive=cargo.put(OTHER, media_types.HELM_CHART).digest)


def another_name(cargo: Cargo) -> None:
    cargo.charts[0] = replace(cargo.charts[0], name="innocent")


def another_version(cargo: Cargo) -> None:
    cargo.charts[0] = replace(cargo.charts[0], version="0.1.1")


def another_name_in_the_archive(cargo: Cargo) -> None:
    cargo.charts.clear()
    cargo.chart(GREETER, {"name": "innocent", "version": "0.1.0"})


def another_version_in_the_archive(cargo: Cargo) -> None:
    cargo.charts.clear()
    cargo.chart(GREETER, {"name": "greeter", "version": "0.2.0"})


def two_names_in_the_archive(cargo: Cargo) -> None:
    """Helm takes what comes last in the archive, whatever folder it is in."""
    metadata = "apiVersion: v2\nname: {}\nversion: 0.1.0\n"
    files = {f"{name}/Chart.yaml": metadata.format(name).encode() for name in ("greeter", "other")}
    cargo.charts.clear()
    cargo.chart(packed(files, level=9), NAMED)


def no_chart(cargo: Cargo) -> None:
    cargo.charts[0] = replace(cargo.charts[0], archive=cargo.put(b"no chart").digest)
    cargo.charts[0] = replace(cargo.charts[0], artifact=artifact(cargo, [b"no chart"], CONFIG))


def an_image_as_artifact(cargo: Cargo) -> None:
    cargo.charts[0] = replace(cargo.charts[0], artifact=cargo.images[0].digest)


def an_index_as_artifact(cargo: Cargo) -> None:
    cargo.charts[0] = replace(cargo.charts[0], artifact=cargo.images[1].digest)


def two_archives(cargo: Cargo) -> None:
    cargo.charts[0] = replace(cargo.charts[0], artifact=artifact(cargo, [GREETER, OTHER], CONFIG))


def an_artifact_without_a_name(cargo: Cargo) -> None:
    cargo.charts[0] = replace(cargo.charts[0], artifact=artifact(cargo, [GREETER], b"{}"))


def an_artifact_with_two_names(cargo: Cargo) -> None:
    config = b'{"name":"greeter","Name":"other","version":"0.1.0"}'
    cargo.charts[0] = replace(cargo.charts[0], artifact=artifact(cargo, [GREETER], config))


def an_artifact_in_part(cargo: Cargo) -> None:
    absent = Cargo().put(b"a signature of Helm", "application/vnd.cncf.helm.chart.provenance.v1.prov")
    manifest = {
        "schemaVersion": 2,
        "config": entry(cargo.put(CONFIG, media_types.HELM_CONFIG)),
        "layers": [entry(cargo.put(GREETER, media_types.HELM_CHART)), entry(absent)],
    }
    digest = cargo.put(compact(manifest), media_types.OCI_MANIFEST).digest
    cargo.charts[0] = replace(cargo.charts[0], artifact=digest)


CHARTS = [
    (another_archive, "artifact .* holds .*, but its archive is"),
    (another_name, "chart innocent 0.1.0: the configuration of its artifact .* says greeter 0.1.0"),
    (another_version, "chart greeter 0.1.1: the configuration of its artifact .* says greeter 0.1.0"),
    (another_name_in_the_archive, "chart innocent 0.1.0: the Chart.yaml in its archive says greeter 0.1.0"),
    (another_version_in_the_archive, "chart greeter 0.2.0: the Chart.yaml in its archive says greeter 0.1.0"),
    (two_names_in_the_archive, "chart greeter 0.1.0: the Chart.yaml in its archive says other 0.1.0"),
    (no_chart, "not a Helm chart"),
    (an_image_as_artifact, "is no Helm chart"),
    (an_index_as_artifact, "is no Helm chart"),
    (two_archives, "holds 2 charts"),
    (an_artifact_without_a_name, "says None None"),
    (an_artifact_with_two_names, "differ only in case"),
    (an_artifact_in_part, "not in this bundle"),
]


def docker(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Cargo], None]:
    """Another manifest.json."""

    def spoil(cargo: Cargo) -> None:
        entries = json.loads(cargo.manifest_json())
        assert len(entries) == 2
        change(entries)
        cargo.docker_index = compact(entries)

    return spoil


DOCKER = {
    "another file": docker(lambda entries: entries[0]["Layers"].append("../../etc/passwd")),
    "another configuration": docker(lambda entries: entries[0].update(Config=entries[1]["Config"])),
    "layers of another image": docker(lambda entries: entries[0].update(Layers=entries[1]["Layers"])),
    "a layer twice": docker(lambda entries: entries[0]["Layers"].append(entries[0]["Layers"][0])),
    "another tag": docker(lambda entries: entries[0]["RepoTags"].append("docker.io/library/page:2.0")),
    "an image less": docker(lambda entries: entries.pop()),
    "an image more": docker(lambda entries: entries.append({**entries[0], "RepoTags": ["docker.io/library/other:1"]})),
    "another order": docker(lambda entries: entries.reverse()),
    "another key": docker(lambda entries: entries[0].update(Parent="x")),
}


def another_size(cargo: Cargo) -> None:
    cargo.images[0] = replace(cargo.images[0], size=cargo.images[0].size + 1)


def another_size_in_an_index(cargo: Cargo) -> None:
    child = cargo.images[0].root
    index = {"schemaVersion": 2, "manifests": [entry(child) | {"size": child.size + 1}]}
    root = cargo.put(compact(index), media_types.OCI_INDEX)
    changes = {"digest": root.digest, "media_type": root.media_type, "size": root.size, "upstream": root.digest}
    cargo.images[0] = replace(cargo.images[0], **changes)


def a_referrer_of_another_image(cargo: Cargo) -> None:
    found = cargo.refer(cargo.images[1].source, b"signature", "application/vnd.example")
    cargo.images[1] = replace(cargo.images[1], referrers=())
    cargo.images[0] = replace(cargo.images[0], referrers=(found.digest,))


def a_signature_of_another_image(cargo: Cargo) -> None:
    cargo.tag_about(cargo.images[1].source, b"signature", "sig")
    cargo.images[0] = replace(cargo.images[0], tagged=cargo.images[1].tagged)
    cargo.images[1] = replace(cargo.images[1], tagged=())


IMAGES = [
    (another_size, "said to have"),
    (another_size_in_an_index, "said to have"),
    (a_referrer_of_another_image, "is said to be about it, and is not"),
    (a_signature_of_another_image, r"\.sig is said to be about it, and is not"),
]


def profile(*steps: dict[str, Any]) -> Callable[[Cargo], None]:
    return lambda cargo: put_document(cargo, "profile", {"steps": steps})


def put_document(cargo: Cargo, kind: str, content: Any) -> None:
    cargo.document(f"{kind}.json", compact(content), kind)


def proof(change: Callable[[dict[str, Any]], object]) -> Callable[[Cargo], None]:
    """A proof that is right but for one thing."""

    def add(cargo: Cargo) -> None:
        references = [
            {"reference": image.source, "verdict": "carried", "digest": image.digest.text} for image in cargo.images
        ]
        (chart,) = cargo.charts
        charts = [{"name": chart.name, "version": chart.version, "archive": chart.archive.text}]
        content = {"references": references, "charts": charts}
        change(content)
        put_document(cargo, "proof", content)

    return add


DOCUMENTS = [
    (profile({"chart": "greeter", "version": "0.2.0"}), "chart greeter 0.2.0: the bundle has 0 of it"),
    (profile({"chart": "other"}), "chart other : the bundle has 0 of it"),
    (profile({"resource": "values.yaml"}), "no values.yaml of kind resource"),
    (profile({"chart": "greeter", "values": "empty.txt"}), "no empty.txt of kind values"),
    (profile({"manifests": ["absent.yaml"]}), "no absent.yaml of kind manifests"),
    (lambda cargo: put_document(cargo, "profile", {"steps": [7]}), "no profile"),
    (proof(lambda content: content["references"].pop()), "proof differ in"),
    (proof(lambda content: content["references"][0].update(digest=content["references"][1]["digest"])), "differ in"),
    (
        proof(lambda content: content["references"][0].update(verdict="optional")),
        "differ in docker.io/library/page:1.0",
    ),
    (proof(lambda content: content["charts"][0].update(version="0.2.0")), "differ in greeter 0.2.0"),
    (proof(lambda content: content["charts"][0].update(archive="sha256:" + 64 * "0")), "differ in greeter 0.1.0"),
    (proof(lambda content: content.update(charts=7)), "no proof"),
]


@pytest.fixture
def fresh(tmp_path: Path) -> Cargo:
    """The reference bundle, to be changed."""
    folder = tmp_path / "layouts"
    folder.mkdir()
    return reference_cargo(folder)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [*CHARTS, *((spoil, "manifest.json, which `docker load` reads") for spoil in DOCKER.values()), *IMAGES, *DOCUMENTS],
)
def test_a_bundle_that_contradicts_itself(
    fresh: Cargo, tmp_path: Path, spoil: Callable[[Cargo], None], said: str
) -> None:
    spoil(fresh)
    (path,) = fresh.write(tmp_path, key=signing_key())
    with open_bundle([path]) as bundle, pytest.raises(ContradictionError, match=said) as caught:
        verify(bundle, Counted())
    assert "tell its sender" in caught.value.hint
    with pytest.raises(second_reader.RefusedError):
        second_reader.read([path.read_bytes()], *PUBLIC)


def test_documents_that_agree(fresh: Cargo, tmp_path: Path) -> None:
    fresh.document("policy.yaml", b"{}", "manifests")
    fresh.document("gadget.yaml", b"{}", "resource")
    profile(
        {"chart": "greeter", "version": "0.1.0", "values": "values.yaml"},
        {"chart": "greeter", "name": "another", "values": {"greeting": "hello"}},
        {"resource": "gadget.yaml", "installs": {"chart": "greeter", "version": "0.1.0", "values": "spec.values"}},
        {"manifests": ["policy.yaml"], "name": "policy"},
    )(fresh)
    proof(lambda content: content["references"].append({"reference": "x", "verdict": "optional", "digest": ""}))(fresh)
    (path,) = fresh.write(tmp_path, key=signing_key())
    with open_bundle([path]) as bundle:
        verify(bundle, Counted())
    second_reader.read([path.read_bytes()], *PUBLIC)


def test_what_is_about_an_image(fresh: Cargo, tmp_path: Path) -> None:
    """By lists, by tags, and both about what is about it."""
    source = fresh.images[0].source
    sbom = fresh.refer(source, b"packages", "application/spdx+json")
    tags = [fresh.tag_about(source, suffix.encode(), suffix) for suffix in ("att", "sig")]
    signature = dict(fresh.images[0].tagged)[tags[1]]
    fresh.images[0] = replace(
        fresh.images[0], tagged=tuple(sorted((*fresh.images[0].tagged, (f"sha256-{sbom.digest.hex}.sig", signature))))
    )
    (path,) = fresh.write(tmp_path, key=signing_key())
    with open_bundle([path]) as bundle:
        verify(bundle, Counted())
        assert {sbom.digest, signature} < bundle.images.closure(bundle.manifest.images[0]).keys()
    second_reader.read([path.read_bytes()], *PUBLIC)


@pytest.mark.parametrize("spoil", [another_archive, another_name_in_the_archive, DOCKER["another file"]])
def test_volumes_that_come_in_turns_contradict_each_other(
    fresh: Cargo, tmp_path: Path, spoil: Callable[[Cargo], None]
) -> None:
    spoil(fresh)
    waiting = list(several_volumes(fresh, tmp_path))
    with open_bundle([waiting.pop(0)], on_missing_volume=next_of(waiting)) as bundle:
        found = verify_by_turns(bundle, Counted())
    assert (len(found.damages), found.unseen) == (1, frozenset())


@pytest.mark.parametrize(
    ("text", "read"),
    [("1.10", "1.1"), ('"1.10"', "1.10"), ("0.1.0\nversion: 0.2.0", "0.2.0")],
    ids=["number", "text", "twice"],
)
def test_a_chart_is_what_helm_reads(tmp_path: Path, text: str, read: str) -> None:
    """Where Chart.yaml has several readings, that of Helm counts."""
    archive = packed_chart("greeter", "x", {"Chart.yaml": f"apiVersion: v2\nname: greeter\nversion: {text}\n"})
    for version in ("0.1.0", read):
        cargo = Cargo(version=version)
        cargo.chart(archive, {"name": "greeter", "version": version})
        with open_bundle(cargo.write(tmp_path, key=signing_key(), name=version)) as bundle:
            (chart,) = bundle.manifest.charts
            if version == read:
                verify(bundle, Counted())
                assert chart_of(bundle, chart).version == read
            else:
                with pytest.raises(BundleError, match=f"says greeter {read}"):
                    verify(bundle, Counted())
                with pytest.raises(BundleError, match=f"says greeter {read}"):
                    chart_of(bundle, chart)


def test_the_first_platform_is_what_docker_loads(tmp_path: Path) -> None:
    """Of an image for several platforms, in whichever order they stand in its index."""
    several = write_layout(tmp_path / "image", [Image((), platform=Platform(name)) for name in ("arm64", "amd64")])
    cargo = Cargo()
    cargo.image("docker.io/demo/several:1", several)
    (path,) = cargo.write(tmp_path, key=signing_key())
    with open_bundle([path]) as bundle:
        assert str(bundle.manifest.platforms[0]) == "linux/amd64"
        verify(bundle, Counted())
    second_reader.read([path.read_bytes()], *PUBLIC)
    (entry,) = json.loads(cargo.manifest_json())
    digest = entry["Config"].rpartition("/")[2]
    config = next(data for blob, data in cargo.blobs.items() if blob.digest.hex == digest)
    assert json.loads(config)["architecture"] == "amd64"
