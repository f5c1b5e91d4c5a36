"""The real W&B charts: no image missing by the measure of another program, and a release in three lines."""

from __future__ import annotations

import difflib
import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from installer.chart.retarget import merged
from tests.image_table import CHARTS, listed, page
from tests.parts import image_texts, images, runnable, second_prover, second_reader
from tests.parts.frozen import enclave_program
from tests.parts.kubectl import tools
from tests.parts.programs import Program, from_source
from tests.parts.registry import Registry
from tests.parts.static_files import StaticFiles
from tests.parts.wandb_release import EARLIER
from tests.parts.wandb_values import EVERYTHING as PARTS

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.charts

ROOT = Path(__file__).parents[2]
ON, METRICS = {"enabled": True}, {"metrics": {"enabled": True}}
PERMISSIONS = {"volumePermissions": ON}
INSIDE: dict[str, Any] = {
    "clickhouse": {"defaultInitContainers": PERMISSIONS},
    "etcd": PERMISSIONS,
    "kafka": {
        **PERMISSIONS,
        "externalAccess": {**ON, "autoDiscovery": ON},
        "metrics": {"kafka": ON},
        "zookeeper": {**ON, **PERMISSIONS},
    },
    "otel": {"deployment": {"install": True}},
    "prometheus": {"mysql-exporter": {"install": True, **ON}, "redis-exporter": {"install": True, **ON}},
    "redis": {**PERMISSIONS, **METRICS, "sysctl": ON},
}
"""Switches inside subcharts, written down from their values.yaml: not what airferry found."""
OPTIONAL = {"global": {"bucket": PARTS["global"]["bucket"]}, **{name: PARTS[name] for name in ("bufstream", "yace")}}
PROFILE = {
    "driver": "wandb",
    "namespace": "wandb",
    "steps": [
        {"chart": "operator"},
        {"resource": "wandb.yaml", "controller": "operator", "installs": {"chart": "operator-wandb"}},
    ],
}
RESOURCE = {
    "apiVersion": "apps.wandb.com/v1",
    "kind": "WeightsAndBiases",
    "metadata": {"name": "wandb", "namespace": "wandb"},
    "spec": {"values": {}},
}


def extracted(archive: bytes, values: Mapping[str, Any], folder: Path) -> set[str]:
    """The images of all containers that `helm template` prints, those of test hooks left out."""
    chart, file = folder / "chart.tgz", folder / "values.json"
    chart.write_bytes(second_prover.without_notes(archive))
    file.write_text(json.dumps(values))
    found = set()
    for more in ([], ["--is-upgrade"]):
        text = tools().run_helm("template", "wandb", chart, "-n", "wandb", "--values", file, *more, home=folder)
        for item in yaml.load_all(text, yaml.CSafeLoader):
            hooks = ((item or {}).get("metadata") or {}).get("annotations") or {}
            if item and hooks.get("helm.sh/hook") != "test":
                found |= {image_texts.full(image) for image in second_prover.images(item)}
    return found


@pytest.mark.parametrize("platform", ["operator-wandb-0.41.4", "operator-wandb-0.43.8"])
def test_the_list_is_what_helm_says_of_the_profile_and_with_everything_on(
    assets: Path, tmp_path: Path, platform: str
) -> None:
    name, _, version = platform.rpartition("-")
    (tmp_path / "wandb.yaml").write_text(json.dumps(RESOURCE))
    operator = {"name": "operator", "version": "1.4.8", "path": str(assets / "operator-1.4.8.tgz")}
    entry = {"name": name, "version": version, "path": str(assets / f"{platform}.tgz")}
    charts = [operator, {**entry, "optional_values": OPTIONAL}]
    recipe = {"name": "wandb", "version": "1", "charts": charts, "kubernetes": {"to": "1.34"}}
    recipe["profile"] = "profile.yaml"
    (tmp_path / "profile.yaml").write_text(json.dumps(PROFILE))
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    found = from_source("builder", tmp_path).result("list")
    archive = (assets / f"{platform}.tgz").read_bytes()
    controller = {"docker.io/wandb/controller:latest"}
    needed = {image["image"] for image in found["images"]}
    assert needed == extracted(archive, {}, tmp_path) | controller
    everything = extracted(archive, merged(PARTS, INSIDE), tmp_path) | controller
    assert len(everything) >= 30
    assert needed | {image["image"] for image in found["optional"]} == everything
    assert {item["because"] for item in found["suspected"]} == {"only `helm test` asks for it"}
    # The archives were packed without the community's Prometheus chart.
    assert [item["template"] for item in found["failures"]] == [f"{name}/charts/prometheus/charts/instance"]


@pytest.fixture(scope="module")
def whole(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder of the recipe of `init --profile wandb`, but with the charts at hand, and what `list` says of it."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, listed(folder, assets)


def test_the_page_of_images_is_up_to_date(whole: tuple[Path, Any]) -> None:
    committed = (ROOT / "docs" / "images.md").read_text()
    assert committed == page(whole[1]), "run `make docs` with AIRFERRY_TEST_ASSETS"


def publish(assets: Path, folder: Path) -> None:
    """The charts with an index, as a chart repository has them."""
    entries: dict[str, list[dict[str, Any]]] = {}
    for chart in (*CHARTS, f"operator-wandb-{EARLIER.chart}"):
        archive = (assets / f"{chart}.tgz").read_bytes()
        (folder / f"{chart}.tgz").write_bytes(archive)
        name, _, version = chart.rpartition("-")
        digest = hashlib.sha256(archive).hexdigest()
        entry = {"name": name, "version": version, "urls": [f"{chart}.tgz"], "digest": digest}
        entries.setdefault(name, []).append(entry)
    (folder / "index.yaml").write_text(json.dumps({"apiVersion": "v1", "entries": entries}))


@pytest.fixture
def upstream(assets: Path, tmp_path: Path) -> Any:
    """A chart repository with the real charts, and a registry with stand-ins for all images of the profile."""
    with StaticFiles(tmp_path / "charts") as charts, Registry(tmp_path / "upstream") as registry:
        publish(assets, tmp_path / "charts")
        yield charts, registry


# The three lines of recipe.yaml that README says are all there is to edit, and what a test makes of them.
THREE_LINES = {
    'server: "0.82.2"': 'server: "0.82.9"',
    'console: "2.18.16"': 'console: "2.18.17"',
    "version: 0.43.8": f"version: {EARLIER.chart}",
}


@pytest.mark.frozen
def test_three_lines_from_init_to_a_signed_frozen_file(upstream: Any, tmp_path: Path) -> None:
    """Prints the seconds of each step; the images are so small that their bytes take none of them.

    The program is made once for a version of airferry, with its first `freeze`, and so beforehand here.
    """
    enclave_program()
    charts, registry = upstream
    folder = tmp_path / "work"
    folder.mkdir()
    airferry = from_source("builder", folder)
    seconds: dict[str, float] = {}

    def step(subcommand: str, *arguments: str | Path) -> Any:
        start = time.monotonic()
        found = airferry.result(subcommand, *arguments)
        seconds[subcommand] = time.monotonic() - start
        return found

    step("init", "--profile", "wandb")
    recipe = (folder / "recipe.yaml").read_text()
    # Where the stand-ins are, not the real thing.
    before = recipe.replace("https://charts.wandb.ai", charts.url)
    before = before.replace("registries: {}", f'registries: {{docker.io: {{mirror: "{registry.url}"}}}}')
    after = before
    for line, edited in THREE_LINES.items():
        assert before.count(line) == 1
        after = after.replace(line, edited)
    changed = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line.startswith("+")]
    assert len(changed) == 3
    (folder / "recipe.yaml").write_text(after)
    stand_in = images.write_layout(tmp_path / "image", runnable.pause())
    needed = [image["image"] for image in step("list")["images"]]
    assert {"docker.io/wandb/local:0.82.9", "docker.io/wandb/console:2.18.17"} <= set(needed)
    for name in needed:
        images.push(stand_in, name.replace("docker.io", registry.address))
    step("lock")
    bundle = f"{step('plan')['name']}-0.82.9.tar"
    step("build")
    step("keygen", "release", "--no-passphrase")
    step("sign", bundle, "--key", "release.key")
    step("freeze", bundle, "--key", "release.pub", "--file", folder / "wandb-installer")
    each = ", ".join(f"{name} {taken:.1f}" for name, taken in seconds.items())
    print(f"from init to a signed frozen file without the image bytes: {sum(seconds.values()):.1f} s ({each})")
    frozen = Program((str(folder / "wandb-installer"),), folder)
    held = frozen.result("inspect")
    assert {image["image"] for image in held["images"]} == set(needed)
    assert {chart["version"] for chart in held["charts"]} == {"1.4.8", EARLIER.chart}
    assert (held["proof"]["carried"], held["proof"]["failures"]) == (len(needed), 1)
    read = second_reader.read([(folder / bundle).read_bytes()], folder / "release.pub", folder / "release.minisign.pub")
    proof = second_prover.check(read, tmp_path)
    assert {item["tag"] for item in proof["references"] if item["verdict"] == "carried"} == {"fixed"}


def test_a_site_shrinks_the_list_to_what_it_uses(whole: tuple[Path, Any]) -> None:
    folder, listing = whole
    default = {image["image"] for image in listing["images"]}
    site = folder / "this-site.yaml"
    site.write_text(
        "registry: {host: r.enclave:5000}\n"
        "mysql: {host: db.enclave, password: {file: only-there.password}, ca: only-there.pem}\n"
        "values:\n"
        "  {otel: {install: false}, weave: {install: false}, redis: {install: false}, global: {api: {enabled: true}}}\n"
    )
    found = from_source("builder", folder).result("list", "--site", site)
    mine = {image["image"] for image in found["images"]}
    assert {name.removeprefix("docker.io/").partition(":")[0] for name in default - mine} == {
        *("otel/opentelemetry-collector-contrib", "wandb/weave-python", "bitnamilegacy/redis")
    }
    assert mine < default
    asking = {reason["name"] for image in found["images"] for reason in image["reasons"]}
    assert any(name.startswith("wandb-api") for name in asking)
