"""Where the W&B controller reads the platform chart: each source from the installation to the removal."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.application import CONTROLLER_IMAGE, KEY, OPERATOR_VALUES, demo_platform
from tests.parts.enclave_program import ROOT, EnclaveProgram
from tests.parts.guarded import PASSWORD, Guarded, guarded_registry
from tests.parts.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.enclave import Enclave
    from tests.parts.operators import Operator

pytestmark = [pytest.mark.cluster, pytest.mark.controller]

CHARTS = "airferry/charts/demo-platform"
# Refuses the first change after the installation until the operator's pod is another one: as if it were too early.
HASTE = """
{{- $pods := (lookup "v1" "Pod" "wandb-operator" "").items }}
{{- $noted := lookup "v1" "ConfigMap" .Release.Namespace "installer" }}
{{- $pod := "" }}
{{- range $pods }}
{{- if and $noted (not .metadata.deletionTimestamp) (eq .metadata.name $noted.data.pod) }}
{{- fail "too early" }}
{{- end }}
{{- $pod = .metadata.name }}
{{- end }}
apiVersion: v1
kind: ConfigMap
metadata: {name: installer}
data: {pod: "{{ if $noted }}{{ $noted.data.pod }}{{ else }}{{ $pod }}{{ end }}"}
"""


@pytest.fixture
def program(enclave: Enclave, tmp_path: Path, platform_namespaces: tuple[str, str]) -> Iterator[EnclaveProgram]:
    """The program with answers for two namespaces; what a test leaves is removed, for operators are rivals."""
    program = EnclaveProgram(enclave, tmp_path)
    platform, operator = platform_namespaces
    program.site(namespace=platform, operator_namespace=operator)
    yield program
    done = program.run("uninstall", "--yes", "--timeout", "120")
    assert done.returncode in (0, 42), done.stderr


@pytest.fixture
def guarded(enclave: Enclave, tmp_path: Path) -> Iterator[Guarded]:
    """A second registry in the enclave: HTTPS by an authority of its own, and a login."""
    with guarded_registry(enclave, tmp_path / "guarded") as registry:
        yield registry


def source_of(done: dict[str, Any]) -> str:
    """Where the controller reads its chart, as the record says."""
    (source,) = [step["chart_source"] for step in done["installation"]["steps"] if step["kind"] == "resource"]
    return str(source)


def resource(enclave: Enclave) -> Any:
    """The custom resource."""
    return json.loads(enclave.kubectl("get", "wandb", "wandb", "--namespace=wandb", "--output=json"))


def change_replicas(program: EnclaveProgram, count: int) -> None:
    """Change a value while nothing of the program runs, and see it done."""
    change = json.dumps({"spec": {"values": {"web": {"replicas": count}}}})
    program.enclave.kubectl("patch", "wandb", "wandb", "--namespace=wandb", "--type=merge", f"--patch={change}")
    query = ("get", "deployment", "wandb-web", "--namespace=wandb", "--output=jsonpath={.spec.replicas}")
    assert wait_until(lambda: program.enclave.kubectl(*query) == str(count), 90), program.run("status").stdout


def uninstalled(program: EnclaveProgram) -> None:
    """Remove everything; the custom resource goes without its finalizer being touched by us."""
    done = program.run("uninstall", "--yes", "--output", "json")
    assert program.result(done)["removed"][0] == "WeightsAndBiases wandb/wandb"
    assert "finalizer" not in done.stderr
    assert "without the controller" not in done.stderr


def large() -> dict[str, str]:
    """A file that makes a chart too large for a ConfigMap.

    It is a subchart's: Helm keeps the files of the chart itself in the record of the release, which has the same limit.
    """
    return {"charts/base/files/noise.txt": base64.b85encode(random.Random(3).randbytes(1_400_000)).decode()}


def test_too_large_for_a_config_map_and_so_from_a_registry_with_a_private_authority_and_a_login(
    enclave: Enclave, program: EnclaveProgram, guarded: Guarded, operator: Operator, tmp_path: Path
) -> None:
    registry = guarded.registry
    program.site(registry=guarded.answers, namespace="wandb", operator_namespace="wandb-operator")
    bundle = demo_platform(tmp_path / "bundle", "wandb", operator, changes=large()).write()
    done = program.install(bundle, "--chart-source", "configmap")
    assert (done.returncode, "a ConfigMap holds 1048576" in done.stderr) == (40, True), done.stderr
    assert not [each for each in registry.accesses() if each.status == 201]

    first = program.result(program.install(bundle))
    assert source_of(first) == "oci"
    found = resource(enclave)["spec"]["chart"]
    assert found["url"].startswith(f"oci://{registry.address}/{CHARTS}@sha256:")
    assert found["credentialSecret"] == {
        "name": "airferry-charts",
        "usernameKey": "username",
        "passwordKey": "password",
    }
    pulled = [each for each in registry.accesses() if each.path.startswith(f"/v2/{CHARTS}/") and each.method == "GET"]
    assert any(each.agent.startswith("Helm/") and each.status == 200 for each in pulled)
    everything = enclave.kubectl("get", "wandb,configmaps,pods", "--all-namespaces", "--output=json")
    assert PASSWORD not in everything
    assert program.result(program.install(bundle))["changed"] == []
    change_replicas(program, 2)

    # A chart that the registry does not have: the controller's words, what to do, and a removal that does not need it.
    lost = {"spec": {"chart": {"url": f"oci://{registry.address}/{CHARTS}@sha256:{'0' * 64}"}}}
    enclave.kubectl("patch", "wandb", "wandb", "--namespace=wandb", "--type=merge", f"--patch={json.dumps(lost)}")
    assert wait_until(lambda: "failed to pull chart" in program.run("status").stdout, 60)
    assert "pods must reach the registry, trust it" in program.run("status").stdout
    uninstalled(program)


def test_a_temporary_repository_is_handed_over_and_not_missed_afterwards(
    enclave: Enclave, program: EnclaveProgram, operator: Operator, tmp_path: Path
) -> None:
    application = demo_platform(
        tmp_path / "bundle", "wandb", operator, values={"autoscaler": True}, changes={"templates/haste.yaml": HASTE}
    )
    bundle = application.write()
    done = program.install(bundle, "--chart-source", "temporary")
    assert source_of(program.result(done)) == "configmap"
    assert "handing WeightsAndBiases wandb/wandb over to ConfigMap, /charts/" in done.stderr
    assert "too early; waking the controller" in done.stderr
    assert resource(enclave)["spec"]["chart"].keys() == {"path"}
    query = ("--selector=owner=helm,name=wandb", "--output=name")
    assert len(enclave.kubectl("get", "secrets", "--namespace=wandb", *query).split()) == 2
    # Nothing is left to do: the repository is not needed again.
    assert program.result(program.install(bundle, "--chart-source", "temporary"))["changed"] == []
    change_replicas(program, 2)
    uninstalled(program)


def cut_off(program: EnclaveProgram, bundle: Path, address: str) -> None:
    """Start an installation with a temporary repository at `address` and end it when the custom resource is there."""
    command: list[str | Path] = [sys.executable, "-m", "installer", "install", "--bundle", bundle, "--key", KEY]
    command += ["--site", program.folder / "site.yaml", "--chart-source", "temporary", "--serve-address", address]
    env = {"HOME": str(program.folder), "PATH": "/usr/bin:/bin", "KUBECONFIG": str(program.enclave.kubeconfig)}

    def born() -> bool:
        with contextlib.suppress(subprocess.CalledProcessError):
            return bool(resource(program.enclave)["spec"]["chart"]["url"] == f"http://{address}/charts")
        return False

    started = subprocess.Popen(program.enclave.command(command), cwd=ROOT, env=env, stderr=subprocess.DEVNULL)
    try:
        assert wait_until(born, 120)
    finally:
        os.kill(started.pid, signal.SIGKILL)
        started.wait(10)
    assert f"chart: repository, http://{address}/charts" in program.run("status").stdout


def test_a_handover_that_was_cut_off_is_finished_by_the_next_installation(
    enclave: Enclave, program: EnclaveProgram, operator: Operator, tmp_path: Path
) -> None:
    bundle = demo_platform(tmp_path / "bundle", "wandb", operator).write()
    cut_off(program, bundle, f"{enclave.registry.partition(':')[0]}:8880")
    done = program.install(bundle, "--chart-source", "oci")
    assert all(item["ready"] for item in program.result(done)["workloads"])
    found = resource(enclave)["spec"]["chart"]
    assert found["url"].startswith(f"oci://{enclave.registry}/{CHARTS}@sha256:")
    assert found["plainHTTP"] is True

    # Another source is an upgrade, and the program says so.
    done = program.install(bundle, "--chart-source", "configmap")
    assert source_of(program.result(done)) == "configmap"
    assert "chart source changes from registry, oci://" in done.stderr
    assert resource(enclave)["spec"]["chart"].keys() == {"path"}
    assert "chart: ConfigMap, /charts/demo-platform-1.0.0-" in program.run("status").stdout


def test_without_a_source_that_lasts_the_next_installation_serves_again_and_the_removal_needs_none(
    enclave: Enclave, program: EnclaveProgram, operator: Operator, tmp_path: Path
) -> None:
    application = demo_platform(tmp_path / "bundle", "wandb", operator, changes=large())
    # Of an unknown version, the controller is not trusted to read charts from a registry.
    application.images["docker.io/wandb/controller:edge"] = application.images.pop(CONTROLLER_IMAGE)
    image = {**OPERATOR_VALUES["image"], "tag": "edge"}
    application.document("operator-values.yaml", {**OPERATOR_VALUES, "image": image}, "values")
    bundle = application.write()
    done = program.install(bundle, "--chart-source", "oci")
    assert (done.returncode, "it must be 1.22.0 or later" in done.stderr) == (40, True), done.stderr

    cut_off(program, bundle, f"{enclave.registry.partition(':')[0]}:8879")
    done = program.install(bundle)
    assert source_of(program.result(done)) == "temporary"
    assert "which ends with this program" in done.stderr
    done = program.run("uninstall", "--yes", "--output", "json")
    assert program.result(done)["removed"][0] == "WeightsAndBiases wandb/wandb"
    assert "without the controller" in done.stderr
