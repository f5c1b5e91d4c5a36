"""W&B with operator v2 goes as far as it is supported: what a server manifest names is carried like all else."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from installer.errors import RecipeError
from installer.strict_yaml import load_yaml
from tests.parts.helm_program import helm
from tests.parts.image_texts import Images, full
from tests.parts.images import OCI, File, Image, Layer, write_layout
from tests.parts.programs import Program, from_source
from tests.parts.registry import Registry
from tests.parts.willing_registry import WillingRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.wandb_v2

MANIFEST = "us-docker.pkg.dev/wandb-production/public/wandb/server-manifest"
WANDB = "us-docker.pkg.dev/wandb-production/public/wandb"
RELEASES = ["0.83.0-clickhouse-keeper.2", "0.84.0-notifications-security-flags.0"]
SERVICES = {
    "docker.io/altinity/clickhouse-keeper",
    "docker.io/altinity/clickhouse-server",
    "docker.io/amazon/aws-cli",
    "docker.io/chrislusf/seaweedfs",
    "docker.io/prom/mysqld-exporter",
    "ghcr.io/cybozu-go/moco/mysql",
    "quay.io/opstree/redis",
    "quay.io/opstree/redis-exporter",
    "quay.io/opstree/redis-sentinel",
}
ALWAYS = {
    "quay.io/coreos/etcd",
    "us-docker.pkg.dev/buf-images-1/buf/images/bufstream",
    *(f"{WANDB}/{name}" for name in ("anaconda2", "frontend-nginx", "megabinary", "weave-python", "weave-trace")),
}
EXTERNAL = {"mysql": "externalMysql", "redis": "externalRedis", "objectStore": "externalObjectStore"} | {
    "clickhouse": "externalClickhouse"
}


@dataclass(frozen=True)
class Desk:
    """The folder of a recipe for a release, made of our template and the files at hand."""

    folder: Path
    airferry: Program
    release: str
    registry: WillingRegistry
    charts: Images

    def edit(self, name: str, change: Mapping[str, Any]) -> None:
        (self.folder / name).write_text(json.dumps(self.read(name) | change))

    def read(self, name: str) -> Any:
        return parsed((self.folder / name).read_bytes())

    def publish(self, files: Mapping[str, bytes]) -> None:
        """What the server manifest of the release is from now on."""
        layer = Layer({name: File(data) for name, data in files.items()})
        layout = write_layout(self.folder / "manifest", Image((layer,)), tag="x")
        self.edit("recipe.yaml", {"images": [{"layout": layout.path.name, "entry": "x", "name": self.artifact}]})

    @property
    def artifact(self) -> str:
        return f"{MANIFEST}:{self.release}"

    def refusal(self) -> str:
        done = self.airferry.run("list", "--recipe")
        assert done.returncode not in (0, 1), done.stdout
        return done.stderr


@pytest.fixture(scope="module")
def in_charts(wandb_v2: Path, tmp_path_factory: pytest.TempPathFactory) -> Images:
    """What helm shows of the operator's chart."""
    home, seen = tmp_path_factory.mktemp("helm"), Images()
    [chart] = (wandb_v2 / "charts").glob("operator-*.tgz")
    options = ("--set", "wandb.install=false", "--kube-version", "1.34.0", "--namespace", "wandb-operators")
    seen.read(helm(home, "template", "wandb-operator", chart, *options))
    return seen


@pytest.fixture
def desk(request: pytest.FixtureRequest, wandb_v2: Path, in_charts: Images, tmp_path: Path) -> Iterator[Desk]:
    release = getattr(request, "param", RELEASES[-1])
    folder = tmp_path / "wandb"
    from_source("builder", tmp_path).result("init", "--profile", "wandb-v2", folder)
    [chart] = (wandb_v2 / "charts").glob("operator-*.tgz")
    files = {path.name: path.read_bytes() for path in (wandb_v2 / "server-manifest" / release).iterdir()}
    named = {full(text) for text in spelt(files)} | in_charts.all
    with WillingRegistry(named.__contains__) as registry:
        made = Desk(folder, from_source("builder", folder), release, registry, in_charts)
        made.edit(
            "recipe.yaml",
            {
                "versions": {"server": release},
                "charts": [{"name": "operator", "path": str(chart)}],
                # The site has a cert-manager.
                "kubernetes": {"from": "1.34.0", "api_versions": ["apps.wandb.com/v2", "cert-manager.io/v1"]},
                "registries": registry.mirrors("\n".join(named).encode()),
            },
        )
        profile = made.read("profile.yaml")
        profile["artifacts"][0]["readers"] = {"operator": ">=2.0.0-beta.3"}
        made.edit("profile.yaml", {"steps": profile["steps"][1:], "artifacts": profile["artifacts"]})
        made.edit("operator-values.yaml", {"wandb": {"install": False}})
        made.publish(files)
        yield made


def digest_in(registry: Registry, repository: str, tag: str) -> str:
    asked = {"Accept": OCI.manifest}
    request = urllib.request.Request(f"{registry.url}/v2/{repository}/manifests/{tag}", headers=asked)
    with urllib.request.urlopen(request) as answer:
        return f"sha256:{hashlib.sha256(answer.read()).hexdigest()}"


def parsed(data: bytes) -> Any:
    return load_yaml(data, "file", RecipeError)


def spelt(files: Mapping[str, bytes]) -> set[str]:
    """The images that a server manifest spells in parts, told by the plainest of means."""
    found: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "repository" in node:
                found.add("/".join(filter(None, (node.get("registry"), node["repository"]))) + f":{node['tag']}")
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    for data in files.values():
        walk(parsed(data))
    return found


def repositories(names: set[str]) -> set[str]:
    return {name.rpartition(":")[0] for name in names}


@pytest.mark.parametrize("desk", RELEASES, indirect=True)
def test_what_lock_finds_is_what_others_find(desk: Desk, wandb_v2: Path) -> None:
    files = {path.name: path.read_bytes() for path in (wandb_v2 / "server-manifest" / desk.release).iterdir()}
    in_manifest = {full(text) for text in spelt(files)}
    assert repositories(in_manifest) == SERVICES | ALWAYS
    desk.airferry.result("lock")
    listed = desk.airferry.result("list")["images"]
    second = {"amazon/aws-cli:2.35.10", f"wandb/server-manifest:{desk.release}"}
    names = in_manifest | desk.charts.all | {desk.artifact, *(f"nowhere.invalid/{name}" for name in second)}
    assert {item["image"] for item in listed} == names
    reasons = {item["image"]: [reason["text"] for reason in item["reasons"]] for item in listed}
    assert f"artifact server-manifest:{desk.release}: kafka.images.etcd" in reasons["quay.io/coreos/etcd:v3.5.31"]
    assert "wandb-resource.json: WeightsAndBiases wandb: spec.wandb.version" in reasons[desk.artifact]
    assert len(in_manifest) == 16
    assert {item["image"] for item in desk.airferry.result("plan")["images"]} == reasons.keys()


def test_services_of_the_site_leave_out_their_images(desk: Desk) -> None:
    resource = desk.read("wandb.yaml")
    services = {name: {"default": {block: {"host": {"value": "x.example"}}}} for name, block in EXTERNAL.items()}
    desk.edit("wandb.yaml", {"spec": resource["spec"] | services})
    found = desk.airferry.result("list", "--recipe")
    needed, optional = ({item["image"] for item in found[key]} for key in ("images", "optional"))
    assert repositories(needed - desk.charts.all) == ALWAYS | {MANIFEST, "nowhere.invalid/wandb/server-manifest"}
    assert repositories(optional) >= SERVICES
    assert "spec.mysql.default.externalMysql=null" in desk.airferry.run("list", "--recipe").stdout


@pytest.mark.parametrize("key", ["clickhouseKeeper.default.images.keeper", "migrations.*.image"])
def test_a_manifest_that_lacks_a_key_is_refused(desk: Desk, wandb_v2: Path, key: str) -> None:
    """With a prefix for its images the operator has no name of its own to fall back on."""
    files = {path.name: path.read_bytes() for path in (wandb_v2 / "server-manifest" / desk.release).iterdir()}
    manifest = parsed(files["manifest.yaml"])
    del manifest[key.partition(".")[0]]
    desk.publish(files | {"manifest.yaml": json.dumps(manifest).encode()})
    assert f"names no image at {key}, and its controller needs one" in desk.refusal()


def test_an_operator_that_is_too_old_is_refused(desk: Desk) -> None:
    profile = desk.read("profile.yaml")
    profile["artifacts"][0]["readers"] = {"operator": ">=2.0.0-beta.4"}
    desk.edit("profile.yaml", {"artifacts": profile["artifacts"]})
    assert "chart operator 2.0.0-beta.3 reads server-manifest in another way" in desk.refusal()


def test_it_goes_into_the_registry_of_an_enclave(desk: Desk, wandb_v2: Path, tmp_path: Path) -> None:
    desk.airferry.result("lock")
    desk.airferry.result("build")
    desk.airferry.result("keygen", "release", "--no-passphrase")
    bundle = desk.folder / f"wandb-{desk.release}.tar"
    desk.airferry.result("sign", bundle, "--key", "release.key")
    inside = from_source("installer", tmp_path, "--bundle", bundle, "--key", desk.folder / "release.pub")
    with Registry(tmp_path / "enclave") as registry:
        (tmp_path / "site.yaml").write_text(f"registry: {{host: '{registry.address}', project: p, plain_http: true}}\n")
        inside.result("load", "--site", "site.yaml")
        [entry] = json.loads((desk.folder / "manifest" / "index.json").read_text())["manifests"]
        for name in (MANIFEST, "wandb/server-manifest"):
            assert digest_in(registry, f"p/{name}", desk.release) == entry["digest"]
        # As the operator asks for it.
        tool = digest_in(registry, "p/amazon/aws-cli", "2.35.10")
        assert tool == digest_in(registry, "p/docker.io/amazon/aws-cli", "2.35.10")
    inside.result("render", "--site", "site.yaml", "--output-dir", "out")
    documents = [yaml.safe_load_all(path.read_text()) for path in (tmp_path / "out").rglob("*.yaml")]
    rendered = [item for found in documents for item in found if item and "kind" in item]
    [resource] = [item for item in rendered if item["kind"] == "WeightsAndBiases"]
    spec = resource["spec"]
    assert spec["global"] == {"imageRegistry": f"{registry.address}/p"}
    # The operator asks registries over HTTPS alone: without it, it gets the manifest as files.
    assert spec["wandb"]["version"] == desk.release
    assert spec["wandb"]["manifestRepository"] == "file:///etc/airferry/server-manifest"
    [files] = [item for item in rendered if item["kind"] == "ConfigMap" and "airferry" in item["metadata"]["name"]]
    published = sorted((wandb_v2 / "server-manifest" / desk.release).iterdir())
    assert list(files["data"].values()) == [path.read_text() for path in published]
