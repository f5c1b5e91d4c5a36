"""The real W&B platform chart behind a W&B controller, with the frozen file, from the first installation to the end.

The controller reads the chart from each source in turn, and the registry wants its certificate trusted and a login.

Only the programs inside the images are stand-ins; names, commands, probes, hooks, volumes and Secrets are the chart's.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from installer.chart.helm import Chart
from installer.chart.images import references
from tests.parts.enclave_program import EnclaveProgram
from tests.parts.guarded import Guarded, guarded_registry
from tests.parts.process import wait_until
from tests.parts.registry import Registry
from tests.parts.wandb_release import EARLIER, LATER, PlatformRelease, release, small_values

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.enclave import Enclave
    from tests.parts.operators import Operator

pytestmark = [pytest.mark.cluster, pytest.mark.charts, pytest.mark.controller, pytest.mark.frozen]

# The default profile of templates/wandb.yaml.
WORKLOADS = {
    "DaemonSet wandb/wandb-otel-daemonset",
    "Deployment wandb-operator/wandb-controller-manager",
    "Deployment wandb/wandb-app-bc",
    "Deployment wandb/wandb-console-bc",
    "Deployment wandb/wandb-parquet-bc",
    "Deployment wandb/wandb-weave-bc",
    "StatefulSet wandb/wandb-redis-master",
}
HOOKS = ("wandb-app-rename-pre-hook", "wandb-app-rename-post-hook")
HOOK_IMAGE = "docker.io/alpine/k8s:1.31.12"
PULL = re.compile(r'msg="PullImage \\"([^"\\]+)\\""')


@pytest.fixture(scope="module")
def releases(
    tmp_path_factory: pytest.TempPathFactory, assets: Path, operator: Operator
) -> tuple[PlatformRelease, PlatformRelease]:
    """The same platform twice, the later one with a newer chart and newer images."""
    folder = tmp_path_factory.mktemp("releases")
    with Registry(folder / "upstream") as upstream:
        first = release(folder / "earlier", assets, operator.program, upstream, EARLIER)
        return first, release(folder / "later", assets, operator.program, upstream, LATER, sequence=2)


@pytest.fixture
def guarded(enclave: Enclave, tmp_path: Path) -> Iterator[Guarded]:
    """The registry of the site: HTTPS by an authority of its own, and a login."""
    with guarded_registry(enclave, tmp_path / "guarded") as registry:
        yield registry


@pytest.fixture
def site(enclave: Enclave, guarded: Guarded, tmp_path: Path) -> Iterator[EnclaveProgram]:
    """The program with the answers of a site, which has a volume for Redis; all of it is removed afterwards."""
    program = EnclaveProgram(enclave, tmp_path)
    secrets = {name: {"file": name} for name in ("license", "password", "access_key", "secret_key")}
    for name in secrets:
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(f"the {name}\n")
    program.site(
        registry=guarded.answers,
        namespace="wandb",
        operator_namespace="wandb-operator",
        host="https://wandb.enclave",
        license=secrets["license"],
        mysql={"host": "10.99.0.1", "password": secrets["password"]},
        bucket={
            "name": "10.99.0.1:9000",
            "path": "wandb",
            "region": "here",
            "access_key": secrets["access_key"],
            "secret_key": secrets["secret_key"],
        },
        values=small_values(),
        operator_values={"resources": {"requests": {"cpu": "20m", "memory": "64Mi"}}},
    )
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "redis"},
        "spec": {
            "capacity": {"storage": "8Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": str(tmp_path / "redis"), "type": "DirectoryOrCreate"},
        },
    }
    enclave.kubectl("apply", "--filename=-", input=json.dumps(volume))
    yield program
    done = program.run("uninstall", "--yes", "--timeout", "120")
    enclave.kubectl("delete", "namespace", "wandb", "wandb-operator", "--ignore-not-found", "--timeout=90s")
    enclave.kubectl("delete", "persistentvolume", "redis")
    assert done.returncode in (0, 42), done.stderr


def objects(enclave: Enclave, kinds: str, namespace: str = "wandb") -> list[dict[str, Any]]:
    found = json.loads(enclave.kubectl("get", kinds, f"--namespace={namespace}", "--output=json"))
    return [item for item in found["items"] if "deletionTimestamp" not in item["metadata"]]


def images(enclave: Enclave, registry: Registry, release: PlatformRelease) -> set[str]:
    """The images of `release` of which all pods and all pods to come are made. Raises KeyError if there are others."""
    found = set()
    for namespace in ("wandb", "wandb-operator"):
        made = objects(enclave, "pods,deployments,statefulsets,daemonsets,jobs,cronjobs", namespace)
        # In a status the runtime tells images in words of its own.
        found |= set(re.findall(r'"image": "([^"]+)"', json.dumps([item["spec"] for item in made])))
    inside = f"{registry.address}/airferry/"
    assert all(image.startswith(inside) for image in found), found
    return {release.name_of(image.removeprefix(inside)) for image in found}


def pulled(enclave: Enclave, since: int) -> set[str]:
    """The images that containerd was asked for, by its log from the byte `since` on."""
    return set(PULL.findall(enclave.containerd_log.read_bytes()[since:].decode()))


def completed(enclave: Enclave) -> set[tuple[str, str]]:
    """The Jobs that have come to their end, by the events about them: hooks are removed when they have served."""
    involved = [item["involvedObject"] for item in objects(enclave, "events") if item["reason"] == "Completed"]
    return {(item["name"], item["uid"]) for item in involved}


def change(enclave: Enclave, season: str) -> None:
    """Change a value while no process of ours is there any more: that comes to its end all the same, with all hooks."""
    before = completed(enclave)
    values = {"spec": {"values": {"app": {"extraEnv": {"SEASON": season}}}}}
    patch = f"--patch={json.dumps(values)}"
    enclave.kubectl("patch", "wandb", "wandb", "--namespace=wandb", "--type=merge", patch)
    assert wait_until(lambda: season in json.dumps(objects(enclave, "deployments")), 90)
    assert wait_until(lambda: {name for name, _ in completed(enclave) - before} >= set(HOOKS), 90)


def chart_of(enclave: Enclave) -> dict[str, Any]:
    """Where the controller will read the chart at the next change."""
    (resource,) = objects(enclave, "weightsandbiases")
    found: dict[str, Any] = resource["spec"]["chart"]
    return found


def refused_beforehand(enclave: Enclave, program: EnclaveProgram) -> None:
    """Rules of a namespace are held against what the chart is going to make there."""
    small = {"limits": [{"type": "Container", "max": {"memory": "1Mi"}}]}
    limits = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"}, "spec": small}

    def told() -> str:
        done = program.run("preflight", "--site", program.folder / "site.yaml")
        assert done.returncode == 33, done.stderr
        return done.stdout

    enclave.kubectl("label", "namespace", "wandb", "pod-security.kubernetes.io/enforce=restricted")
    assert 'wandb/wandb-app-bc: its pods are refused: create Pod wandb/wandb-app-bc: pods "wandb-app-bc"' in told()
    enclave.kubectl("label", "namespace", "wandb", "pod-security.kubernetes.io/enforce-")
    enclave.kubectl("apply", "--namespace=wandb", "--filename=-", input=json.dumps(limits))
    assert "keep requests and limits within the namespace's LimitRange" in told()


def test_install_change_upgrade_change_rollback_uninstall(
    enclave: Enclave,
    site: EnclaveProgram,
    guarded: Guarded,
    releases: tuple[PlatformRelease, PlatformRelease],
) -> None:
    registry = guarded.registry
    earlier, later = releases
    start = enclave.containerd_log.stat().st_size
    first = replace(site, executable=earlier.frozen)
    second = replace(site, executable=later.frozen)

    # From a repository that ends with the installer, and so handed over to a ConfigMap.
    installed = first.install(earlier.bundle, "--chart-source", "temporary")
    done = first.result(installed)
    assert "warning: license in site.yaml is no licence of W&B" in installed.stderr
    assert "handing WeightsAndBiases wandb/wandb over to ConfigMap" in installed.stderr
    assert {item["workload"] for item in done["workloads"] if item["ready"]} == WORKLOADS
    assert earlier.images.keys() - images(enclave, registry, earlier) == {HOOK_IMAGE}
    assert chart_of(enclave)["path"].startswith(f"/charts/operator-wandb-{EARLIER.chart}-")
    change(enclave, "winter")
    assert wait_until(lambda: first.run("status").returncode == 0, 120)

    done = second.result(second.upgrade(later.bundle, "--chart-source", "oci"))
    assert {item["workload"] for item in done["workloads"] if item["ready"]} == WORKLOADS
    status = second.result(second.run("status", "--output", "json"))
    assert [item["version"] for item in status["releases"]] == ["1.4.8", LATER.chart]
    assert later.images.keys() - images(enclave, registry, later) == {HOOK_IMAGE}
    assert "winter" in json.dumps(objects(enclave, "deployments"))
    assert chart_of(enclave)["url"].startswith(f"oci://{registry.address}/airferry/charts/operator-wandb@sha256:")
    assert chart_of(enclave)["credentialSecret"]["name"] == "airferry-charts"
    change(enclave, "spring")
    assert wait_until(lambda: second.run("status").returncode == 0, 120)

    # Back to the former chart where that was read.
    done = second.result(second.run("rollback", "--yes", "--timeout", "240", "--output", "json"))
    assert {item["workload"] for item in done["workloads"] if item["ready"]} == WORKLOADS
    assert earlier.images.keys() - images(enclave, registry, earlier) == {HOOK_IMAGE}
    assert chart_of(enclave)["path"].startswith(f"/charts/operator-wandb-{EARLIER.chart}-")
    assert second.run("status").returncode == 0

    done = second.result(second.run("uninstall", "--yes", "--output", "json"))
    assert done["removed"][0] == "WeightsAndBiases wandb/wandb"
    assert objects(enclave, "weightsandbiases,deployments,statefulsets,daemonsets,jobs,cronjobs,services") == []
    kept = {item["metadata"]["name"] for item in objects(enclave, "secrets,persistentvolumeclaims")}
    told = " ".join(done["kept"])
    assert [name for name in sorted(kept) if name not in told] == []

    refused_beforehand(enclave, second)
    assert all(image.startswith(f"{registry.address}/") for image in pulled(enclave, start))
    accesses = [each.path for each in registry.accesses() if each.agent.startswith("containerd/")]
    for name in {**earlier.images, **later.images}:
        repository = name.rpartition(":")[0]
        assert any(path.startswith(f"/v2/airferry/{repository}/") for path in accesses), name


def test_a_global_registry_alone_leaves_images_public_and_ours_does_not(
    enclave: Enclave, releases: tuple[PlatformRelease, PlatformRelease], assets: Path, tmp_path: Path
) -> None:
    """Row 10 of test_observed.py: what guides tell to set reaches one image only."""
    values = {"global": {"imageRegistry": enclave.registry}}
    name = f"operator-wandb-{LATER.chart}.tgz"
    chart = Chart.load((assets / name).read_bytes(), source=name)
    found = references(chart.render(values, release="wandb", namespace="wandb").objects)
    public = {item.text for item in found if not item.test_only and not item.text.startswith(enclave.registry)}
    assert public >= {"wandb/local:latest", "otel/opentelemetry-collector-contrib:0.97.0"}

    program = EnclaveProgram(enclave, tmp_path)
    site = program.site(values=values)
    later = releases[1]
    program = replace(program, executable=later.frozen)
    done = program.run("render", "--site", site, "--output-dir", tmp_path / "out", "--output", "json")
    written = "".join((tmp_path / "out" / file).read_text() for file in program.result(done)["files"])
    asked = set(re.findall(r"image: [\"']?([^\"'\s]+)", written))
    assert {later.name_of(image.removeprefix(f"{enclave.registry}/airferry/")) for image in asked} >= {
        "docker.io/wandb/local:0.82.2",
        "docker.io/otel/opentelemetry-collector-contrib:0.97.0",
    }
