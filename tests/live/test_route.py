"""OpenShift's Route on a cluster that has this kind: installed beside the platform, and removed with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.application import demo_platform
from tests.parts.enclave_program import EnclaveProgram

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.enclave import Enclave
    from tests.parts.operators import Operator

pytestmark = pytest.mark.cluster

ANY = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
KIND: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "routes.route.openshift.io"},
    "spec": {
        "group": "route.openshift.io",
        "scope": "Namespaced",
        "names": {"kind": "Route", "plural": "routes"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": ANY}}},
            }
        ],
    },
}


@pytest.fixture
def program(enclave: Enclave, tmp_path: Path) -> Iterator[EnclaveProgram]:
    program = EnclaveProgram(enclave, tmp_path)
    program.site(namespace="wandb", operator_namespace="wandb-operator", host="https://w.example", expose="route")
    yield program
    program.run("uninstall", "--yes", "--timeout", "120")
    enclave.kubectl("delete", "crd", "routes.route.openshift.io", "--ignore-not-found")
    enclave.kubectl("delete", "namespace", "wandb", "wandb-operator", "--ignore-not-found", "--timeout=90s")


def test_a_route_comes_and_goes_with_the_platform(
    enclave: Enclave, program: EnclaveProgram, operator: Operator, tmp_path: Path
) -> None:
    bundle = demo_platform(tmp_path / "bundle", "wandb", operator).write()
    refused = program.install(bundle)
    assert refused.returncode == 33, refused.stderr
    assert "this cluster has no Route in route.openshift.io/v1" in refused.stderr
    enclave.kubectl("apply", "--filename=-", input=json.dumps(KIND))
    enclave.kubectl("wait", "--for=condition=established", "crd/routes.route.openshift.io")
    program.result(program.install(bundle))
    found = json.loads(enclave.kubectl("get", "routes", "--namespace=wandb", "--output=json"))["items"]
    assert [(item["metadata"]["name"], item["spec"]["host"]) for item in found] == [("wandb", "w.example")]
    assert program.result(program.install(bundle)), "once more, with nothing to change"
    assert program.run("uninstall", "--yes", "--timeout", "120").returncode == 0
    assert enclave.kubectl("get", "routes", "--all-namespaces", "--output=name") == ""
