"""What `render` writes, applied to the real cluster by kubectl alone, as Argo CD and Flux do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.parts.application import KEY, demo_platform
from tests.parts.enclave_program import EnclaveProgram
from tests.parts.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.enclave import Enclave
    from tests.parts.operators import Operator

pytestmark = [pytest.mark.cluster, pytest.mark.controller]


@pytest.fixture
def folder(enclave: Enclave, tmp_path: Path, operator: Operator) -> Iterator[Path]:
    """The rendered folder; its images are loaded, and what comes of it is removed afterwards."""
    program = EnclaveProgram(enclave, tmp_path)
    (tmp_path / "license").write_text("licence\n")
    (tmp_path / "license").chmod(0o600)
    site = program.site(namespace="wandb", operator_namespace="wandb-operator", license={"file": "license"})
    bundle = demo_platform(tmp_path / "bundle", "wandb", operator, values={"web": {"replicas": 1}}).write()
    common = ("--bundle", bundle, "--key", KEY, "--site", site)
    program.result(program.run("load", *common, "--output", "json"))
    program.result(program.run("render", *common, "--output-dir", tmp_path / "rendered", "--output", "json"))
    yield tmp_path / "rendered"
    for name in ("3-wandb", "2-operator", "1-beforehand", "namespaces"):
        enclave.kubectl("delete", "--ignore-not-found", "--timeout=120s", "-k", str(tmp_path / "rendered" / name))


def apply(enclave: Enclave, *arguments: str | Path) -> list[str]:
    """Apply, and what kubectl says of each object."""
    return enclave.kubectl("apply", "--server-side", *map(str, arguments)).splitlines()


def test_kubectl_alone_installs_what_was_rendered(enclave: Enclave, folder: Path) -> None:
    # The whole, as Argo CD reads it: in order, each step in a wave of its own.
    objects = list(yaml.safe_load_all(enclave.kubectl("kustomize", str(folder))))
    kinds = [item["kind"] for item in objects]
    assert kinds[:2] == ["Namespace", "Namespace"]
    assert kinds.index("CustomResourceDefinition") < kinds.index("Deployment") < kinds.index("WeightsAndBiases")
    assert "Secret" not in kinds
    waves = [(item["metadata"].get("annotations") or {}).get("argocd.argoproj.io/sync-wave") for item in objects]
    assert waves == [None, None, "1", *["2"] * (len(objects) - 4), "3"], "namespaces, charts, operator, resource"

    apply(enclave, "-k", folder / "namespaces")
    [secret] = (folder / "secrets").iterdir()
    manifest = secret.read_text()
    assert yaml.safe_load(manifest)["stringData"] == {"license": "VALUE-FROM-SITE"}  # noqa: TID251 - as others read it
    secret.write_text(manifest.replace("VALUE-FROM-SITE", "licence"))
    apply(enclave, "-f", secret)
    apply(enclave, "-k", folder / "1-beforehand")
    apply(enclave, "-k", folder / "2-operator")
    enclave.kubectl("rollout", "status", "deployment/wandb-controller-manager", "--namespace=wandb-operator")
    apply(enclave, "-k", folder / "3-wandb")

    def phase() -> str:
        found = json.loads(enclave.kubectl("get", "wandb", "wandb", "--namespace=wandb", "--output=json"))
        return str((found.get("status") or {}).get("phase"))

    assert wait_until(lambda: phase() == "Completed", 120), phase()
    for workload in ("deployment/wandb-web", "deployment/wandb-worker", "statefulset/wandb-cache"):
        enclave.kubectl("rollout", "status", workload, "--namespace=wandb", "--timeout=120s")
    # Once more, and what the operator wrote into the custom resource meanwhile is in nobody's way.
    for name in ("namespaces", "1-beforehand", "2-operator", "3-wandb"):
        lines = apply(enclave, "-k", folder / name)
        assert lines
        assert all(line.endswith("serverside-applied") for line in lines)
