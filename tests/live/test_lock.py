"""Locking and building against real registries, a real chart repository, helm, skopeo and a real engine."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from builder.cli.main import cli
from builder.recipe.lock import Lock
from installer import shell
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.reference import Repository, TagRef
from installer.registry.client import Registry as Client
from installer.registry.endpoint import HostSettings
from installer.registry.transport import Transport
from tests.parts import images, runnable
from tests.parts.chart_repository import ChartRepository, ChartSource, pack, web_chart
from tests.parts.charts import package
from tests.parts.dockerd import Dockerd
from tests.parts.kubectl import tools
from tests.parts.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass
class Upstream:
    """A registry with the images of `web_chart`, and a chart repository that publishes it."""

    registry: Registry
    charts: ChartRepository
    layouts: Mapping[str, images.Layout]

    @property
    def address(self) -> str:
        return self.registry.address


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    folder = tmp_path_factory.mktemp("upstream")
    pictures: dict[str, images.Image | list[images.Image]] = {
        "web": runnable.two_platforms(runnable.httpd()),
        "init": runnable.job("echo init"),
        "job": runnable.job("echo job"),
        "agent": runnable.pause(),
    }
    with Registry(folder / "registry") as registry, ChartRepository(folder / "charts") as charts:
        layouts = {name: images.write_layout(folder / name, pictures[name], tag="1.0") for name in pictures}
        for name, layout in layouts.items():
            images.push(layout, f"{registry.address}/team/{name}:1.0")
        charts.add(web_chart(registry.address))
        yield Upstream(registry, charts, layouts)


@dataclass
class Workshop:
    """A folder with a recipe, and the command line run in this process on it."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    def write(self, recipe: Mapping[str, Any], **files: str) -> None:
        whole = {"name": "demo", "version": "1.0", "created": "2026-01-01T00:00:00Z", "suspected": "note", **recipe}
        whole = {key: value for key, value in whole.items() if value is not None}
        (self.folder / "recipe.yaml").write_text(json.dumps(whole))
        for name, text in files.items():
            (self.folder / name).write_text(text)

    def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """Run `airferry ARGUMENTS`, with `@` for the recipe and `%` for the lock; stdout and stderr."""
        names = {"@": str(self.folder / "recipe.yaml"), "%": str(self.folder / "airferry.lock")}
        found = shell.run(cli, "airferry", [names.get(argument, argument) for argument in arguments])
        out, err = self.capsys.readouterr()
        assert found == code, err
        return out, err

    def locked(self, *arguments: str) -> Lock:
        self.run("lock", "@", *arguments)
        return self.lock

    @property
    def lock(self) -> Lock:
        return Lock.load(self.folder / "airferry.lock")

    def build(self, name: str = "bundle.tar") -> Path:
        self.run("build", "%", "--file", str(self.folder / name))
        return self.folder / name


@pytest.fixture
def workshop(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no-docker-config"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    folder = tmp_path / "work"
    folder.mkdir()
    return Workshop(folder, capsys)


def web_entry(upstream: Upstream, **more: object) -> dict[str, object]:
    return {"name": "web", "version": "1.2.3", "repository": upstream.charts.url, **more}


def test_a_chart_is_locked_with_all_its_images(workshop: Workshop, upstream: Upstream) -> None:
    workshop.write({"charts": [web_entry(upstream, release="site", namespace="prod")]})
    lock = workshop.locked()
    found = {image.source: image for image in lock.images}
    address = upstream.address
    assert sorted(found) == [f"{address}/team/{name}:1.0" for name in ("init", "job", "web")]
    web = found[f"{address}/team/web:1.0"]
    # One platform: the child of the index is carried, under its own digest.
    assert (web.digest.text, web.upstream.text) == (
        upstream.layouts["web"].manifests[0],
        upstream.layouts["web"].digest,
    )
    assert [str(platform) for platform in web.platforms] == ["linux/amd64"]
    job = found[f"{address}/team/job:1.0"]
    assert job.digest.text == upstream.layouts["job"].digest
    assert {(reason.kind, reason.name, reason.container, reason.hooks) for reason in job.reasons} == {
        ("CronJob", "site-tidy", "tidy", ""),
        ("Job", "site-migrate", "migrate", "pre-upgrade,post-upgrade"),
    }
    sizes = {blob.digest.text: blob.size for blob in lock.blobs}
    for name in ("init", "job"):
        assert upstream.layouts[name].blobs.items() <= sizes.items()
    assert [item.text for item in lock.suspected] == [f"{address}/team/agent:1.0"]
    (chart,) = lock.charts
    assert profile_of(lock)["steps"] == [{"chart": "web", "name": "site", "namespace": "prod", "version": "1.2.3"}]
    assert chart.origin.location == f"{upstream.charts.url}/web-1.2.3.tgz"


def test_a_text_that_may_be_an_image_has_to_be_decided(workshop: Workshop, upstream: Upstream) -> None:
    agent, charts = f"{upstream.address}/team/agent:1.0", [web_entry(upstream)]
    workshop.write({"charts": charts, "suspected": "error"})
    _, err = workshop.run("lock", "@", code=41)
    assert f"{agent} (chart web: CronJob web-tidy, container tidy: spec.jobTemplate.spec" in err
    assert "it is an image, but perhaps none that the cluster asks for" in err
    assert f"accept_suspected:\n  - {agent}" in err
    assert f"exclude:\n  - {{image: '{agent}', reason: TODO}}" in err
    assert not (workshop.folder / "airferry.lock").exists()

    accepted = {
        "charts": charts,
        "suspected": "error",
        "accept_suspected": [f"{upstream.address}/team/a*", "no/such/*"],
    }
    workshop.write(accepted)
    _, err = workshop.run("lock", "@")
    assert "accept_suspected: no/such/* fits nothing that is suspected" in err
    (image,) = [image for image in workshop.lock.images if image.source == agent]
    assert {reason.field for reason in image.reasons} == {"spec.jobTemplate.spec.template.spec.containers[0].args[0]"}
    assert workshop.lock.suspected == ()

    workshop.write({**accepted, "exclude": [{"image": "*/team/agent:?.0", "reason": "the site has its own"}]})
    lock = workshop.locked()
    assert agent not in {image.source for image in lock.images}
    assert [(item.image, item.reason) for item in lock.excluded] == [(agent, "the site has its own")]
    assert profile_of(lock)["settled"] == [agent]


def test_what_its_registry_does_not_have_is_no_image(workshop: Workshop, upstream: Upstream) -> None:
    """The answer is kept, so that a lock is the same again, and is asked for anew on request."""
    text = f"see {upstream.address}/team/never:1.0 and unreachable.example:1/a:1"
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "words"}, "data": {"text": text}}
    recipe = {"manifests": ["words.yaml"], "suspected": "error"}
    workshop.write(recipe, **{"words.yaml": json.dumps(config)})
    _, err = workshop.run("lock", "@", code=41)
    assert "1 text may be an image" in err
    assert "unreachable.example:1/a:1" in err
    refused = [{"image": "unreachable.example:1/*", "reason": "words of a manual"}]
    workshop.write({**recipe, "exclude": refused})
    (weeded,) = workshop.locked().suspected
    assert (weeded.text, weeded.verdict) == (f"{upstream.address}/team/never:1.0", "no image")
    assert profile_of(workshop.lock)["settled"] == [weeded.text, "unreachable.example:1/a:1"]
    (reference,) = [item for item in proof_of(workshop.lock)["references"] if item["verdict"] == "no-image"]
    assert reference["because"] == "its registry has no such image"
    seen = len(upstream.registry.accesses())
    workshop.run("lock", "@", "--check")
    assert not [access for access in upstream.registry.accesses()[seen:] if "never" in access.path]
    workshop.run("lock", "@", "--check", "--update")
    assert [access for access in upstream.registry.accesses()[seen:] if "never" in access.path]


def test_several_platforms_and_digests_carry_the_index_whole(workshop: Workshop, upstream: Upstream) -> None:
    index, name = upstream.layouts["web"], f"{upstream.address}/team/web"
    workshop.write({"images": [f"{name}@{index.digest}", f"{name}:1.0"]})
    by_tag, by_digest = workshop.locked().images
    assert by_digest.digest.text == index.digest
    assert by_tag.digest.text == index.manifests[0]
    assert set(index.blobs) <= {blob.digest.text for blob in workshop.lock.blobs}
    workshop.write({"images": [f"{name}:1.0"], "platforms": ["linux/amd64", "linux/arm64"]})
    (image,) = workshop.locked().images
    assert (image.digest.text, image.media_type) == (index.digest, media_types.OCI_INDEX)
    assert [str(platform) for platform in image.platforms] == ["linux/amd64", "linux/arm64/v8"]
    loaded = []
    for platforms in (["linux/amd64", "linux/arm64"], ["linux/arm64", "linux/amd64"]):
        workshop.write({"images": [f"{name}:1.0"], "platforms": platforms})
        workshop.locked()
        with tarfile.open(workshop.build(f"{platforms[0][6:]}.tar")) as bundle:
            member = bundle.extractfile("manifest.json")
            assert member is not None
            (entry,) = json.load(member)
            config = bundle.extractfile(entry["Config"])
            assert config is not None
            loaded.append(json.load(config)["architecture"])
    # What `docker load` gets is for the platform that is named first.
    assert loaded == ["amd64", "arm64"]


def test_pins_outlive_a_moved_tag_until_they_are_updated(
    workshop: Workshop, upstream: Upstream, tmp_path: Path
) -> None:
    name = f"{upstream.address}/moving/app:latest"
    first = images.write_layout(tmp_path / "first", runnable.job("echo 1"), tag="1")
    images.push(first, name)
    workshop.write({"images": [name]})
    _, err = workshop.run("lock", "@")
    assert f"`latest` is whatever was pushed last; locked to {first.digest}" in err
    raw = (workshop.folder / "airferry.lock").read_bytes()
    second = images.write_layout(tmp_path / "second", runnable.job("echo 2"), tag="2")
    images.push(second, name)
    out, _ = workshop.run("lock", "@")
    assert "unchanged" in out
    workshop.run("lock", "@", "--check")
    assert (workshop.folder / "airferry.lock").read_bytes() == raw
    _, err = workshop.run("lock", "@", "--check", "--update", code=41)
    assert f"image {name}: {first.digest} -> {second.digest}" in err
    assert (workshop.folder / "airferry.lock").read_bytes() == raw
    workshop.run("lock", "@", "--update-image", "no/such:1", code=41)
    assert workshop.locked("--update-image", name).images[0].digest.text == second.digest


def test_a_changed_recipe_fails_the_check(workshop: Workshop, upstream: Upstream) -> None:
    workshop.write({"images": [f"{upstream.address}/team/job:1.0"]})
    workshop.locked()
    workshop.write({"images": [f"{upstream.address}/team/job:1.0", f"{upstream.address}/team/init:1.0"]})
    _, err = workshop.run("lock", "@", "--check", code=41)
    assert f"image {upstream.address}/team/init:1.0: - -> sha256:" in err
    assert "document recipe.yaml: " in err
    _, err = workshop.run("build", "%", code=41)
    assert "recipe.yaml" in err


def test_every_image_that_fails_is_named(workshop: Workshop, upstream: Upstream) -> None:
    workshop.write({"images": [f"{upstream.address}/team/{name}" for name in ("job:1.0", "gone:1.0", "job:9")]})
    _, err = workshop.run("lock", "@", code=22)
    assert "2 images cannot be resolved" in err
    assert f"{upstream.address}/team/gone:1.0 (recipe images[1]): " in err
    assert f"{upstream.address}/team/job:9 (recipe images[2]): " in err
    assert not (workshop.folder / "airferry.lock").exists()


def test_an_image_for_another_platform_is_refused(workshop: Workshop, upstream: Upstream) -> None:
    workshop.write(
        {"images": [f"{upstream.address}/team/{name}:1.0" for name in ("web", "job")], "platforms": ["linux/s390x"]}
    )
    _, err = workshop.run("lock", "@", code=22)
    assert "published for linux/amd64, linux/arm64/v8" in err
    assert "team/job:1.0 (recipe images[1]): not for linux/s390x; it is published for linux/amd64" in err


def test_substitutions_keep_the_asked_name_and_take_bytes_from_elsewhere(
    workshop: Workshop, upstream: Upstream
) -> None:
    workshop.write(
        {
            "images": ["docker.io/bitnami/job:1.0", "docker.io/wandb/local:latest"],
            "substitutions": {
                "docker.io/bitnami/": f"{upstream.address}/team/",
                "docker.io/wandb/local:latest": f"{upstream.address}/team/init:1.0",
            },
        }
    )
    first, second = workshop.locked().images
    assert (first.source, first.digest.text) == ("docker.io/bitnami/job:1.0", upstream.layouts["job"].digest)
    assert str(first.origin) == f"registry {upstream.address}/team/job:1.0"
    assert (second.source, second.digest.text) == ("docker.io/wandb/local:latest", upstream.layouts["init"].digest)
    workshop.build()


def test_a_mirror_is_asked_and_the_true_name_kept(workshop: Workshop, upstream: Upstream) -> None:
    workshop.write({"images": ["team/job:1.0"], "registries": {"docker.io": {"mirror": upstream.registry.url}}})
    (image,) = workshop.locked().images
    assert image.source == "docker.io/team/job:1.0"
    assert image.digest.text == upstream.layouts["job"].digest
    workshop.build()


def test_a_build_asks_for_no_tag_and_no_index_and_is_the_same_each_time(workshop: Workshop, upstream: Upstream) -> None:
    workshop.write({"charts": [web_entry(upstream, values={"note": "inline"})]}, **{"notes.txt": "hello"})
    workshop.locked()
    seen, asked = len(upstream.registry.accesses()), len(upstream.charts.asked)
    first = workshop.build("first.tar")
    paths = [access.path for access in upstream.registry.accesses()[seen:]]
    assert paths
    assert not [path for path in paths if path.endswith("/manifests/1.0")]
    assert upstream.charts.asked[asked:] == ["/web-1.2.3.tgz"]
    assert workshop.build("second.tar").read_bytes() == first.read_bytes()
    out, _ = workshop.run("plan", "%", "--output", "json")
    assert json.loads(out)["file_bytes"] == first.stat().st_size


def test_a_chart_in_a_registry_keeps_its_own_manifest(workshop: Workshop, upstream: Upstream, tmp_path: Path) -> None:
    archive = pack(web_chart(upstream.address, name="pushed", version="1.0.0+build.7"), tmp_path)
    tools().run_helm("push", archive, f"oci://{upstream.address}/charts", "--plain-http", home=tmp_path)
    repository = f"oci://{upstream.address}/charts"
    workshop.write({"charts": [{"name": "pushed", "version": "1.0.0+build.7", "repository": repository}]})
    lock = workshop.locked()
    (chart,) = lock.charts
    assert str(chart.origin) == f"registry {upstream.address}/charts/pushed:1.0.0_build.7"
    raw = subprocess.run(
        [
            "skopeo",
            "inspect",
            "--raw",
            "--tls-verify=false",
            f"docker://{upstream.address}/charts/pushed:1.0.0_build.7",
        ],
        check=True,
        capture_output=True,
    ).stdout
    assert chart.artifact.text == Digest.of(raw).text
    made = {document.digest for document in lock.documents if document.kind in ("profile", "proof", "site")}
    assert {blob.digest for blob in lock.blobs if blob.text} == made
    workshop.build()


def test_a_chart_in_a_registry_that_contradicts_itself(workshop: Workshop, upstream: Upstream, tmp_path: Path) -> None:
    """Its manifest has the configuration of one version and the archive of another; no reader would take it."""
    repository = Repository(upstream.address, "charts/mixed")
    client = Client(Transport(hosts={upstream.address: HostSettings(plain_http=True)}))
    manifests = []
    for version in ("1.0.0", "2.0.0"):
        archive = pack(web_chart(upstream.address, name="mixed", version=version), tmp_path)
        tools().run_helm("push", archive, f"oci://{upstream.address}/charts", "--plain-http", home=tmp_path)
        manifests.append(client.manifest(TagRef(repository, version)))
    first, second = (json.loads(manifest.raw) for manifest in manifests)
    mixed = json.dumps({**second, "config": first["config"]}).encode()
    client.put_manifest(repository, mixed, media_types.OCI_MANIFEST, "2.0.0")
    entry = {"name": "mixed", "version": "2.0.0", "repository": f"oci://{upstream.address}/charts"}
    workshop.write({"charts": [entry]})
    _, err = workshop.run("lock", "@", code=23)
    assert "mixed:2.0.0 is mixed 2.0.0, but its configuration says mixed 1.0.0" in err
    assert "next: " in err


def test_a_local_chart(workshop: Workshop, upstream: Upstream) -> None:
    archive = pack(web_chart(upstream.address, name="local", version="0.1.0"), workshop.folder)
    workshop.write({"charts": [{"name": "local", "version": "0.1.0", "path": archive.name}]})
    assert len(workshop.locked().images) == 3
    workshop.build()
    archive.write_bytes(archive.read_bytes() + b"\0")
    _, err = workshop.run("build", "%", code=41)
    assert archive.name in err
    workshop.write({"charts": [{"name": "other", "version": "0.1.0", "path": archive.name}]})
    _, err = workshop.run("lock", "@", code=41)
    assert "holds local 0.1.0, the recipe says other 0.1.0" in err


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"version": "9.9.9"}, 22, "no version 9.9.9 of chart web\nnext: the newest there: 1.2.3"),
        ({"name": "wbe"}, 22, "no chart wbe"),
        ({"values": {"image": {"repository": "Not An Image"}}}, 41, "chart web: Deployment web-web, container web"),
        ({"repository": "http://127.0.0.1:1"}, 20, "127.0.0.1:1"),
    ],
)
def test_charts_that_cannot_be_had(
    workshop: Workshop, upstream: Upstream, change: Mapping[str, object], code: int, words: str
) -> None:
    workshop.write({"charts": [web_entry(upstream, **change)]})
    _, err = workshop.run("lock", "@", code=code)
    assert words in err
    assert "next: " in err


def test_an_archive_that_differs_from_the_index_is_refused(
    workshop: Workshop, upstream: Upstream, tmp_path: Path
) -> None:
    with ChartRepository(tmp_path / "charts") as charts:
        archive = charts.add(web_chart(upstream.address))
        other = pack(web_chart(upstream.address, version="1.2.4"), tmp_path)
        archive.write_bytes(other.read_bytes())
        workshop.write({"charts": [web_entry(upstream, repository=charts.url)]})
        _, err = workshop.run("lock", "@", code=23)
    assert "says sha256" in err


def test_a_chart_published_anew_under_its_version_is_noticed(
    workshop: Workshop, upstream: Upstream, tmp_path: Path
) -> None:
    with ChartRepository(tmp_path / "charts") as charts:
        charts.add(web_chart(upstream.address))
        workshop.write({"charts": [web_entry(upstream, repository=charts.url)]})
        workshop.locked()
        changed = web_chart(upstream.address)
        charts.add(ChartSource(changed.name, changed.version, {**changed.values, "more": 1}, changed.files))
        _, err = workshop.run("lock", "@", code=23)
        assert "was locked as" in err
        workshop.locked("--update")


def test_layout_archive_and_engine(
    workshop: Workshop, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = upstream.layouts["job"]
    archive = workshop.folder / "job.tar"
    subprocess.run(
        [
            *("skopeo", "--insecure-policy", "copy", "--quiet"),
            *(f"oci:{layout.path}:{layout.tag}", f"docker-archive:{archive}:demo/job:1.0"),
        ],
        check=True,
    )
    (workshop.folder / "layout").symlink_to(layout.path)
    workshop.write(
        {
            "images": [
                {"engine": "demo/job:1.0"},
                {"archive": "job.tar", "name": "demo/job:2.0", "entry": "demo/job:1.0"},
                {"layout": "layout", "name": "demo/job:3.0", "entry": "1.0"},
            ]
        }
    )
    with Dockerd(tmp_path_factory.mktemp("d", numbered=True)) as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.url)
        engine.docker("load", "--input", archive)
        _, err = workshop.run("lock", "@")
        assert "docker.io/demo/job:1.0: its digest is made here" in err
        saved, packed, plain = workshop.lock.images
        assert plain.digest.text == layout.digest
        # Both unpack the same layer, so both get the same generated manifest.
        assert saved.digest == packed.digest != plain.digest
        bundle = workshop.build()
    listed = subprocess.run(
        ["skopeo", "inspect", f"oci-archive:{bundle}:docker.io/demo/job:2.0"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(listed.stdout)["Digest"] == packed.digest.text
    assert not [path for path in workshop.folder.iterdir() if path.name.startswith(".")]
    _, err = workshop.run("lock", "@", "--update", code=20)
    assert "does not answer" in err


def test_an_engine_without_the_image(
    workshop: Workshop, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.write({"images": [{"engine": "no/such:1.0"}]})
    with Dockerd(tmp_path_factory.mktemp("d", numbered=True)) as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.url)
        _, err = workshop.run("lock", "@", code=22)
    assert "has no image no/such:1.0" in err


PLATFORM = """
apiVersion: apps.wandb.com/v1
kind: WeightsAndBiases
metadata: {name: wandb, namespace: default}
spec:
  chart: {}
  values: {image: {tag: "1.0"}}
"""


PROFILE: dict[str, Any] = {
    "versions": {"server": ["wandb/megabinary"]},
    "steps": [{"resource": "wandb.yaml", "installs": {"chart": "plat"}}],
}


def test_exclusions_and_the_list(workshop: Workshop, upstream: Upstream) -> None:
    init = f"{upstream.address}/team/init:1.0"
    agent = f"{upstream.address}/team/agent:1.0"
    exclusions = [{"image": init, "reason": "on every node"}, {"image": agent, "reason": "unused"}]
    workshop.write({"charts": [web_entry(upstream)], "exclude": exclusions})
    out, err = workshop.run("list", "@", "--output", "json")
    assert "names only" in err
    before = json.loads(out)
    assert (before["source"], "digest" in before["images"][0]) == ("recipe", False)
    workshop.locked()
    out, _ = workshop.run("list", "@", "--output", "json")
    after = json.loads(out)
    names = [f"{upstream.address}/team/{name}:1.0" for name in ("job", "web")]
    assert [item["image"] for item in after["images"]] == [item["image"] for item in before["images"]] == names
    assert after["suspected"] == []
    assert {item["image"] for item in after["excluded"]} == {init, agent}
    out, err = workshop.run("list", "@")
    assert "has changed" not in err
    assert "because on every node" in out
    assert "CronJob web-tidy, container tidy" in out
    _, err = workshop.run("lock", "@")
    assert "not asked for" not in err
    workshop.write({"charts": [web_entry(upstream)]})
    _, err = workshop.run("list", "@")
    assert "has changed since it was locked" in err


def traps_entry(workshop: Workshop, **more: object) -> dict[str, object]:
    """The chart of traps as a file, its own images replaced by those that are there."""
    (workshop.folder / "traps.tgz").write_bytes(package("traps"))
    return {"name": "traps", "version": "0.1.0-rc.1+build.5", "path": "traps.tgz", "values": {"token": "x"}, **more}


def test_everything_that_a_chart_may_ask_for_is_carried_on_request(workshop: Workshop, upstream: Upstream) -> None:
    job, mirror = f"{upstream.address}/team/job:1.0", f"{upstream.address}/team/"
    recipe: dict[str, Any] = {"charts": [traps_entry(workshop, optional_values="more.yaml")]}
    (workshop.folder / "more.yaml").write_text("demanding: {bucket: b}\n")
    workshop.write(recipe)
    listed = json.loads(workshop.run("list", "@", "--output", "json")[0])
    names = [image["image"] for image in (*listed["images"], *listed["optional"])]
    assert {image["image"]: image["mutable"] for image in listed["images"]}["docker.io/demo/untagged:latest"]
    fetched = {name: job for name in names if "@" not in name}
    digest = upstream.layouts["job"].digest
    pinned = next(name for name in names if "@" in name)
    recipe |= {
        "substitutions": fetched,
        "exclude": [{"image": pinned, "reason": f"no registry has it; {mirror} has {digest}"}],
    }
    workshop.write(recipe)
    lock = workshop.locked()
    assert {image.source for image in lock.images} == {item["image"] for item in listed["images"]} - {pinned}
    assert {item.image for item in lock.optional} == {item["image"] for item in listed["optional"]}
    assert "more.yaml" in {document.name for document in lock.documents}
    assert "docker.io/demo/demanding:1.0" in {item.image for item in lock.optional}
    proof = proof_of(lock)
    tags = {item["reference"]: item["tag"] for item in proof["references"] if item["verdict"] == "carried"}
    assert [name for name, tag in tags.items() if tag == "mutable"] == ["docker.io/demo/untagged:latest"]
    assert {item["verdict"] for item in proof["references"]} == {"carried", "optional", "excluded", "suspected"}
    out, _ = workshop.run("list", "@")
    for group in ("needed (", "optional, left out", "suspected, left out", "excluded by", "failing, not looked into"):
        assert group in out
    assert "chart traps: decoy.image: docker.io/demo/decoy" in out
    assert json.loads(workshop.run("list", "@", "--output", "json")[0])["unused"] == listed["unused"]
    workshop.write({**recipe, "include": "everything"})
    lock = workshop.locked()
    assert {image.source for image in lock.images} == set(names) - {pinned}
    assert lock.optional == ()
    workshop.build()


def proof_of(lock: Lock) -> Any:
    (digest,) = (document.digest for document in lock.documents if document.kind == "proof")
    return json.loads(lock.blobs_by_digest()[digest].text)


def profile_of(lock: Lock) -> Any:
    (digest,) = (document.digest for document in lock.documents if document.kind == "profile")
    return json.loads(lock.blobs_by_digest()[digest].text)


def test_a_lock_for_one_site_holds_what_that_site_uses(workshop: Workshop, upstream: Upstream) -> None:
    values = {"init": {"enabled": True}}
    workshop.write({"charts": [web_entry(upstream, release="web", values=values)]})
    assert len(workshop.locked().images) == 3
    site = "registry: {host: r.enclave}\ncharts: {web: {namespace: there, values: {image: {repository: %s}}}}\n"
    (workshop.folder / "this.yaml").write_text(site % f"{upstream.address}/team/job")
    lock = workshop.locked("--site", str(workshop.folder / "this.yaml"))
    names = [image.source.rpartition("/")[2] for image in lock.images]
    assert names == ["init:1.0", "job:1.0"]
    # Whoever locks again without these answers is told that this widens the bundle again.
    assert lock.site.startswith("this.yaml sha256:")
    assert f"for the answers in {lock.site}" in workshop.run("list", "@")[1]
    _, err = workshop.run("lock", "@", "--check", code=41)
    assert f"was for the answers in {lock.site}" in err
    assert f"answers: {lock.site} -> -" in err
    assert proof_of(lock)["charts"][0]["namespace"] == "there"
    # The installer merges the answers on site itself.
    (document,) = (document for document in lock.documents if document.kind == "values")
    assert json.loads(lock.blobs_by_digest()[document.digest].text) == values
    (workshop.folder / "this.yaml").write_text("registry: {host: r.enclave}\nchart: {}\n")
    _, err = workshop.run("lock", "@", "--site", str(workshop.folder / "this.yaml"), code=40)
    assert "did you mean charts?" in err


def test_versions_that_the_recipe_states_reach_the_documents_of_the_installer(
    workshop: Workshop, upstream: Upstream
) -> None:
    chart = web_chart(upstream.address, name="plat", version="1.0.0")
    values = {**chart.values, "parts": {"off": {"image": {"repository": "docker.io/wandb/megabinary"}}}}
    archive = pack(ChartSource(chart.name, chart.version, values, chart.files), workshop.folder)
    entry = {"name": "plat", "version": "1.0.0", "path": archive.name}
    recipe = {"charts": [entry], "profile": "profile.yaml", "versions": {"server": "0.82.2"}, "version": None}
    workshop.write({**recipe, "kubernetes": {"api_versions": ["apps.wandb.com/v1"]}})
    (workshop.folder / "profile.yaml").write_text(json.dumps(PROFILE))
    (workshop.folder / "wandb.yaml").write_text(PLATFORM)
    lock = workshop.locked()
    assert lock.version == "0.82.2"
    (step,) = profile_of(lock)["steps"]
    installs = {"chart": "plat", "version": "1.0.0"}
    assert step == {"resource": "wandb-resource.json", "name": "wandb", "installs": installs}
    kinds = {document.name: document for document in lock.documents}
    assert (kinds["wandb.yaml"].kind, kinds[step["resource"]].kind) == ("other", "resource")
    resource = json.loads(lock.blobs_by_digest()[kinds[step["resource"]].digest].text)
    assert resource["metadata"] == {"name": "wandb", "namespace": "default"}
    assert resource["spec"]["values"] == {"image": {"tag": "1.0"}, "parts": {"off": {"image": {"tag": "0.82.2"}}}}
    workshop.build()


@pytest.mark.parametrize("place", ["repository", "registry"])
def test_a_range_is_pinned_until_it_is_updated(
    workshop: Workshop, upstream: Upstream, tmp_path: Path, place: str
) -> None:
    with ChartRepository(tmp_path / "charts") as charts:

        def publish(version: str) -> None:
            archive = charts.add(web_chart(upstream.address, name=f"ranged-{place}", version=version))
            tools().run_helm("push", archive, f"oci://{upstream.address}/charts", "--plain-http", home=tmp_path)

        for version in ("1.1.0", "1.2.0+b.1", "2.0.0-rc.1"):
            publish(version)
        repository = charts.url if place == "repository" else f"oci://{upstream.address}/charts"
        entry = {"name": f"ranged-{place}", "version": "^1.0.0", "repository": repository}
        workshop.write({"charts": [entry]})
        (chart,) = workshop.locked().charts
        assert (chart.version, chart.asked) == ("1.2.0+b.1", "^1.0.0")
        assert profile_of(workshop.lock)["steps"][0]["version"] == "1.2.0+b.1"
        publish("1.3.0")
        assert workshop.locked().charts == (chart,)
        workshop.run("lock", "@", "--check")
        assert workshop.locked("--update").charts[0].version == "1.3.0"
        workshop.build()
        workshop.write({"charts": [{**entry, "version": "^4"}]})
        _, err = workshop.run("lock", "@", code=22)
        assert "1.3.0" in err


def test_a_chart_folder_is_packed_each_time_alike(workshop: Workshop, upstream: Upstream) -> None:
    archive = pack(web_chart(upstream.address, name="local", version="0.1.0"), workshop.folder)
    subprocess.run(["tar", "xzf", archive.name], cwd=workshop.folder, check=True)
    archive.unlink()
    workshop.write({"charts": [{"name": "local", "path": "local"}]})
    lock = workshop.locked()
    assert str(lock.charts[0].origin) == "folder local"
    assert len(lock.images) == 3
    first = workshop.build("first.tar")
    (workshop.folder / "local" / "values.yaml").touch()
    assert workshop.build("second.tar").read_bytes() == first.read_bytes()
    with (workshop.folder / "local" / "values.yaml").open("a") as values:
        values.write("\n# changed\n")
    _, err = workshop.run("build", "%", "--file", str(workshop.folder / "third.tar"), code=41)
    assert "changed since they were locked, or gone: local" in err


def test_files_and_manifests_are_in_the_bundle(workshop: Workshop, upstream: Upstream) -> None:
    job = f"{upstream.address}/team/job:1.0"
    pod = {"containers": [{"name": "job", "image": job}]}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tool"}, "spec": pod}
    (workshop.folder / "large.bin").write_bytes(b"large" * 1000)
    workshop.write({"manifests": ["tool.yaml"], "files": ["large.bin"]}, **{"tool.yaml": json.dumps(manifest)})
    lock = workshop.locked()
    (image,) = lock.images
    assert [str(reason) for reason in image.reasons] == ["tool.yaml: Pod tool, container job: spec.containers[0].image"]
    bundle = workshop.build()
    with tarfile.open(bundle) as archive:
        stored = archive.extractfile(f"blobs/sha256/{hashlib.sha256(b'large' * 1000).hexdigest()}")
        assert stored
        assert stored.read() == b"large" * 1000
    # Content of the same length is noticed while it is copied.
    (workshop.folder / "large.bin").write_bytes(b"other" * 1000)
    _, err = workshop.run("build", "%", "--file", str(workshop.folder / "other.tar"), code=23)
    assert hashlib.sha256(b"large" * 1000).hexdigest()[:12] in err
