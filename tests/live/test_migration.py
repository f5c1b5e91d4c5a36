"""From operator v1 to v2, without the platform standing still: on stand-ins of both operators."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts import wandb_v2
from tests.parts.application import KEY, demo_platform
from tests.parts.enclave_program import ROOT, EnclaveProgram
from tests.parts.programs import COLLECTOR
from tests.parts.wandb_v2 import Release

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.enclave import Enclave
    from tests.parts.operators import Operator

pytestmark = [pytest.mark.cluster, pytest.mark.controller]

SITE = {"namespace": "wandb", "host": "http://wandb.enclave"}
SERVICES = {
    "mysql": {"host": "mysql.enclave", "password": {"file": "password"}},
    "redis": {"host": "redis.enclave"},
    "bucket": {"name": "wandb"},
}
CLICKHOUSE = {"host": "clickhouse.enclave", "password": {"file": "password"}}


@pytest.fixture
def program(enclave: Enclave, tmp_path: Path, platform_namespaces: tuple[str, str]) -> Iterator[EnclaveProgram]:
    program = EnclaveProgram(enclave, tmp_path)
    (tmp_path / "password").write_text("p@ss/word")
    (tmp_path / "password").chmod(0o600)
    yield program
    done = program.run("uninstall", "--yes", "--delete-data", "--delete-crds", "--timeout", "120")
    assert done.returncode in (0, 42), done.stderr


def objects(enclave: Enclave, kinds: str, namespace: str = "wandb") -> dict[str, dict[str, Any]]:
    found = json.loads(enclave.kubectl("get", kinds, f"--namespace={namespace}", "--output=json"))["items"]
    return {f"{item['kind']} {item['metadata']['name']}": item for item in found}


def interrupted(program: EnclaveProgram, bundle: Path, at: str) -> str:
    """Upgrade to `bundle` until a line with the text `at` appears, and end the program as a crash would."""
    site = program.folder / "site.yaml"
    options = ("--bundle", bundle, "--key", KEY, "--site", site, "--timeout", "240", "--yes")
    access = {"HOME": str(program.folder), "PATH": "/usr/bin:/bin", "KUBECONFIG": str(program.enclave.kubeconfig)}
    argv = program.enclave.command([sys.executable, "-m", "installer", "upgrade", *options])
    told = ""
    with subprocess.Popen(
        argv, cwd=ROOT, env={**access, **COLLECTOR}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as running:
        assert running.stderr
        for line in running.stderr:
            told += line
            if at in line:
                running.kill()
                return told
    raise AssertionError(f"ended before {at!r}:\n{told}")


def runs(enclave: Enclave, *names: str) -> bool:
    found = objects(enclave, "deployments")
    return all(found[f"Deployment {name}"]["status"].get("availableReplicas") for name in names)


def test_the_platform_goes_on_while_the_operator_changes(
    enclave: Enclave, program: EnclaveProgram, operator: Operator, newer: wandb_v2.Operator, claimed: None
) -> None:
    stands_in = newer.tag == wandb_v2.STAND_IN
    # A service of its own needs an operator of its own, which only the stand-in does without.
    answers = {**SITE, **SERVICES, "expose": "none", "clickhouse": {"internal": True} if stands_in else CLICKHOUSE}
    # A version by which a conversion would fetch a manifest that nobody has here.
    values = {"app": {"image": {"tag": "0.80.0"}}}
    former = demo_platform(program.folder / "v1", "wandb", operator, values=values).write()
    program.site(**SITE, **SERVICES, operator_namespace="wandb-operator")
    program.result(program.install(former))
    assert runs(enclave, "wandb-web", "wandb-worker")

    # Installing over it is no way, and an upgrade says what is new.
    release = Release(program.folder / "v2", sequence=2, version="0.84.0", succeeds=("demo-platform",), operator=newer)
    bundle = release.write()
    program.site(**answers)
    assert program.install(bundle).returncode == 2
    shown = program.upgrade(bundle, "--dry-run")
    assert "moves the platform to operator v2: Kafka" in shown.stderr
    assert ("ClickHouse with its Keeper is" in shown.stderr) == stands_in

    for moment in (
        "(prepared for operator v2)",
        "applied release cert-manager/cert-manager",
        "release wandb-operators/wandb-operator: chart operator",
        "applied release wandb-operators/wandb-operator",
        "applied WeightsAndBiases wandb/wandb\n",
        "made by operator v1; removing it",
    ):
        interrupted(program, bundle, moment)
        assert runs(enclave, "wandb-web", "wandb-worker"), moment
    program.result(program.upgrade(bundle))

    resource = json.loads(
        enclave.kubectl("get", "weightsandbiases.v2.apps.wandb.com", "wandb", "--namespace=wandb", "--output=json")
    )
    assert resource["metadata"]["finalizers"] == ["wandb.apps.wandb.com/cleanup"]
    assert not [key for key in resource["metadata"].get("annotations") or {} if "legacy" in key]
    assert resource["spec"]["global"] == {"imageRegistry": f"{enclave.registry}/airferry"}
    assert resource["spec"]["mysql"]["default"].keys() == {"externalMysql"}
    assert runs(enclave, "api", "frontend")
    assert "Deployment wandb-web" not in objects(enclave, "deployments")
    releases = objects(enclave, "secrets") | objects(enclave, "secrets", "wandb-operator")
    assert not [name for name in releases if "sh.helm.release.v1" in name]
    status = program.result(program.run("status", "--output", "json"))
    assert status["ready"]

    # There is no way back.
    assert "there is no way back" in program.run("rollback", "--yes").stderr
    program.site(**SITE, **SERVICES, operator_namespace="wandb-operator")
    back = program.upgrade(former, "--back-to", "1")
    assert back.returncode == 33, back.stderr
    assert "is of another version: it serves v1, v2" in back.stderr
    program.site(**answers)
