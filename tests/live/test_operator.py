"""The whole way with a W&B controller: operator chart, custom resource, platform, and back.

What the controller was seen to do on the way is in test_observed.py, one test for each observation.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.application import CHARTS, REFUSING, Application, demo_platform
from tests.parts.cluster_files import ADDRESS
from tests.parts.enclave_program import EnclaveProgram
from tests.parts.frozen import freeze_volume
from tests.parts.process import wait_until
from tests.parts.registry import read_accesses

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.enclave import Enclave
    from tests.parts.operators import Operator

pytestmark = [pytest.mark.cluster, pytest.mark.controller]


@pytest.fixture
def program(enclave: Enclave, tmp_path: Path, platform_namespaces: tuple[str, str]) -> Iterator[EnclaveProgram]:
    """The program with answers for two namespaces; what a test leaves is removed, for operators are rivals."""
    program = EnclaveProgram(enclave, tmp_path)
    platform, operator = platform_namespaces
    program.site(namespace=platform, operator_namespace=operator, host="http://wandb.enclave")
    yield program
    done = program.run("uninstall", "--yes", "--timeout", "120")
    assert done.returncode in (0, 42), done.stderr


def objects(enclave: Enclave, kinds: str, namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        enclave.kubectl("get", kinds, f"--namespace={namespace}", "--output=json")
    )["items"]
    return found


def everything(enclave: Enclave) -> dict[str, str]:
    """The resource version of all that an installation makes. The lease of the controller changes by itself."""
    kinds = "deployments,statefulsets,jobs,cronjobs,services,configmaps,secrets,serviceaccounts,weightsandbiases"
    found = {
        f"{namespace} {item['kind']} {item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for namespace in ("wandb", "wandb-operator")
        for item in objects(enclave, kinds, namespace)
    }
    crd = json.loads(enclave.kubectl("get", "crd", "weightsandbiases.apps.wandb.com", "--output=json"))
    return {**found, "crd": crd["metadata"]["resourceVersion"]}


def pods(enclave: Enclave, namespace: str) -> list[dict[str, Any]]:
    return [pod for pod in objects(enclave, "pods", namespace) if "deletionTimestamp" not in pod["metadata"]]


def bundle_images(application: Application) -> set[str]:
    """Repositories of the images that a first installation runs."""
    return {name.rpartition(":")[0] for name in application.images} - {"docker.io/demo/renew"}


@pytest.mark.frozen
def test_the_whole_way_and_back_with_the_frozen_file(
    enclave: Enclave, program: EnclaveProgram, operator: Operator
) -> None:
    application = demo_platform(program.folder / "bundle", "wandb", operator, values={"web": {"replicas": 2}})
    bundle = application.write()
    freeze_volume(bundle, program.folder / "wandb-installer", "wandb-1.0")
    program = replace(program, executable=program.folder / "wandb-installer")

    first = program.result(program.install(bundle))
    assert "WeightsAndBiases wandb/wandb" in first["changed"]
    assert all(item["ready"] for item in first["workloads"])
    running = {item["workload"] for item in first["workloads"]}
    assert running == {
        "Deployment wandb-operator/wandb-controller-manager",
        "Deployment wandb/wandb-web",
        "Deployment wandb/wandb-worker",
        "StatefulSet wandb/wandb-cache",
    }
    for namespace in ("wandb", "wandb-operator"):
        for pod in pods(enclave, namespace):
            for container in pod["spec"]["containers"]:
                assert container["image"].startswith(f"{enclave.registry}/airferry/docker.io/")
            for container in pod["status"]["containerStatuses"]:
                # A node calls content after the registry of the enclave that it first had it from.
                assert container["imageID"].startswith(f"{ADDRESS}:")

    now = ("create", "job", "now", "--from=cronjob/wandb-backup", "--namespace=wandb")
    enclave.kubectl(*now)
    enclave.kubectl("wait", "job/now", "--for=condition=Complete", "--namespace=wandb", "--timeout=60s")
    enclave.kubectl("delete", "job", "now", "--namespace=wandb")
    pulled = [each.path for each in read_accesses(enclave.registry_log) if each.agent.startswith("containerd/")]
    for image in bundle_images(application):
        assert any(path.startswith(f"/v2/airferry/{image}/") for path in pulled), image

    # Whatever the file is called, another one may go on with it, and Helm's own program.
    show = ("--show-managed-fields", "--output=jsonpath={.metadata.managedFields[?(@.operation=='Apply')].manager}")
    deployment = ("get", "deployment", "wandb-controller-manager", "--namespace=wandb-operator")
    assert enclave.kubectl(*deployment, *show) == "helm"

    # Again: nothing changes.
    before = everything(enclave)
    assert program.result(program.install(bundle))["changed"] == []
    assert everything(enclave) == before

    # The program has ended, and nothing of it serves the chart: a change is reconciled all the same.
    change = {"spec": {"values": {"web": {"replicas": 1}}}}
    resource = ("wandb", "wandb", "--namespace=wandb")
    enclave.kubectl("patch", *resource, "--type=merge", f"--patch={json.dumps(change)}")
    assert wait_until(
        lambda: len([pod for pod in pods(enclave, "wandb") if "-web-" in pod["metadata"]["name"]]) == 1, 90
    )
    assert wait_until(lambda: program.run("status").returncode == 0, 60)
    assert program.result(program.run("status", "--output", "json"))["phase"] == "Completed"

    removed = program.result(program.run("uninstall", "--yes", "--output", "json"))
    assert removed["removed"][0] == "WeightsAndBiases wandb/wandb"
    assert objects(enclave, "weightsandbiases,deployments,statefulsets,jobs,cronjobs", "wandb") == []
    assert objects(enclave, "deployments,secrets", "wandb-operator") == []


def test_a_refusal_is_told_in_the_words_of_the_controller_and_mended_by_a_new_chart(
    enclave: Enclave, program: EnclaveProgram, operator: Operator
) -> None:
    changes = {"templates/refuse.yaml": REFUSING}
    refused = demo_platform(program.folder / "refused", "wandb", operator, changes=changes).write()
    done = program.install(refused)
    assert done.returncode == 32, done.stderr
    assert "this platform is closed on Mondays" in done.stderr
    assert "this platform is closed on Mondays" in program.run("status").stdout

    # The controller never looks again by itself: a second attempt wakes it, in vain this time.
    done = program.install(refused)
    assert done.returncode == 32
    assert "waking the controller" in done.stderr

    # The new chart reaches the operator although its pod is older; the former one stays for a rollback.
    application = demo_platform(program.folder / "good", "wandb", operator, values={"web": {"replicas": 1}})
    application.version, application.sequence = "2.0", 2
    good = application.write()
    assert all(item["ready"] for item in program.result(program.install(good))["workloads"])
    maps = {item["metadata"]["name"]: item for item in objects(enclave, "configmaps", "wandb-operator")}
    assert len(maps["wandb-charts"]["binaryData"]) == 2

    # What an administrator has changed meanwhile is not overwritten silently.
    change = {"spec": {"values": {"web": {"replicas": 2}}}}
    enclave.kubectl("patch", "wandb", "wandb", "--namespace=wandb", "--type=merge", f"--patch={json.dumps(change)}")
    done = program.install(good)
    assert done.returncode == 33, done.stderr
    assert "web.replicas" in done.stderr
    assert "kubectl-patch" in done.stderr
    done = program.install(good, "--take-over")
    assert program.result(done)["changed"] == ["WeightsAndBiases wandb/wandb"]
    assert any("web.replicas" in line and "overwriting" in line for line in done.stderr.splitlines())

    # What the controller could not change is known before it is asked to.
    cache = (CHARTS / "demo-platform/templates/cache.yaml").read_text()
    changes = {"templates/cache.yaml": cache.replace("serviceName: ", "serviceName: other-")}
    fixed = demo_platform(program.folder / "fixed", "wandb", operator, changes=changes)
    fixed.version, fixed.sequence = "3.0", 3
    done = program.upgrade(fixed.write())
    assert done.returncode == 33, done.stderr
    assert "StatefulSet" in done.stderr
    assert "updates to statefulset spec for fields other than" in done.stderr
    assert "take it back in site.yaml" in done.stderr
    assert program.run("status").returncode == 0


def test_an_interrupted_installation_is_finished_and_removed_even_without_the_controller(
    enclave: Enclave, program: EnclaveProgram, operator: Operator
) -> None:
    bundle = demo_platform(program.folder / "bundle", "wandb", operator).write()
    # Too short for the platform: it ends while the operator starts.
    assert program.install(bundle, timeout=4).returncode == 32
    assert all(item["ready"] for item in program.result(program.install(bundle))["workloads"])

    enclave.kubectl("delete", "deployment", "wandb-controller-manager", "--namespace=wandb-operator", "--timeout=60s")
    removed = program.result(program.run("uninstall", "--yes", "--output", "json"))
    assert removed["removed"][0] == "WeightsAndBiases wandb/wandb"
    assert objects(enclave, "weightsandbiases,deployments,statefulsets", "wandb") == []
