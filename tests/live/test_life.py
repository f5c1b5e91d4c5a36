"""What comes after the installation, with a W&B controller: upgrade, rollback, interruptions, removal."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import IO, TYPE_CHECKING

import pytest

from tests.parts.application import KEY, demo_platform
from tests.parts.enclave_program import ROOT, EnclaveProgram
from tests.parts.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.enclave import Enclave
    from tests.parts.operators import Operator

pytestmark = [pytest.mark.cluster, pytest.mark.controller]

NAMESPACE, OPERATOR_NAMESPACE = "life", "life-operator"
NAME = ("--name", "life")
# Data of the platform, and keys that a chart leaves behind on purpose.
KEPT = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: life-data, annotations: {helm.sh/resource-policy: keep}}
spec: {accessModes: [ReadWriteOnce], storageClassName: "", resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Secret
metadata: {name: life-key, annotations: {helm.sh/resource-policy: keep}}
stringData: {key: "0123456789"}
"""
# Data that the chart would take with it: unlike the claim above, this one is an object of the release and no more.
DATABASE = """
{{- if .Values.database }}
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: life-database}
spec: {accessModes: [ReadWriteOnce], storageClassName: "", resources: {requests: {storage: 1Mi}}}
{{- end }}
"""
# The second version brings an object along, and a hook that gives us the time to break it off.
ADDED = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: life-added}\n"
SLOW_HOOK = """
apiVersion: batch/v1
kind: Job
metadata:
  name: life-slow
  annotations: {helm.sh/hook: pre-upgrade, helm.sh/hook-delete-policy: before-hook-creation}
spec:
  backoffLimit: 0
  template:
    spec:
      {{- $image := printf "%s:%s" .Values.renew.image.repository .Values.renew.image.tag }}
      {{- include "platform.job" (dict "root" . "name" "slow" "image" $image "script" "sleep 8") | nindent 6 }}
"""


@pytest.fixture
def program(enclave: Enclave, tmp_path: Path) -> Iterator[EnclaveProgram]:
    """The program with answers for two namespaces; what a test leaves is removed, for operators are rivals."""
    program = EnclaveProgram(enclave, tmp_path)
    program.site(namespace=NAMESPACE, operator_namespace=OPERATOR_NAMESPACE, host="http://life.enclave")
    yield program
    done = program.run("uninstall", *NAME, "--yes", "--timeout", "120")
    assert done.returncode in (0, 42), done.stderr
    enclave.kubectl("delete", "namespace", NAMESPACE, OPERATOR_NAMESPACE, "--ignore-not-found", "--timeout=90s")


def versions(folder: Path, operator: Operator) -> tuple[Path, Path]:
    """Bundles 1.0 and 2.0 of one application."""
    changes = {"templates/kept.yaml": KEPT}
    first = demo_platform(folder / "first", "life", operator, values={"web": {"replicas": 1}}, changes=changes)
    changes |= {"templates/added.yaml": ADDED, "templates/slow.yaml": SLOW_HOOK}
    second = demo_platform(folder / "second", "life", operator, values={"web": {"replicas": 2}}, changes=changes)
    second.version, second.sequence = "2.0", 2
    return first.write(), second.write()


def arguments(program: EnclaveProgram, bundle: Path, *options: str) -> list[str]:
    site = program.folder / "site.yaml"
    source = ("--bundle", bundle, "--key", KEY, "--site", site, "--timeout", "240", "--output", "json")
    return ["upgrade", *map(str, source), *options]


def upgrade(program: EnclaveProgram, bundle: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return program.run(*arguments(program, bundle, *options))


@contextlib.contextmanager
def started(program: EnclaveProgram, bundle: Path) -> Iterator[IO[str]]:
    """An upgrade at work, by what it says; killed in the end, as by a power cut."""
    env = {"HOME": str(program.folder), "PATH": "/usr/bin:/bin", "KUBECONFIG": str(program.enclave.kubeconfig)}
    command = [sys.executable, "-m", "installer", *arguments(program, bundle, "--yes")]
    process = subprocess.Popen(
        program.enclave.command(command),
        cwd=ROOT,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    try:
        yield process.stderr
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def until(talk: IO[str], word: str) -> None:
    """Read on until a line has `word` in it."""
    heard = []
    for line in talk:
        heard.append(line)
        if word in line:
            return
    raise AssertionError(f"{word!r} was never said:\n{''.join(heard)}")


def exists(enclave: Enclave, kind: str, name: str, namespace: str = NAMESPACE) -> bool:
    return bool(enclave.kubectl("get", kind, name, f"--namespace={namespace}", "--ignore-not-found", "--output=name"))


def test_from_one_version_to_the_next_and_back(enclave: Enclave, program: EnclaveProgram, operator: Operator) -> None:
    first, second = versions(program.folder, operator)
    assert upgrade(program, first, "--yes").returncode == 42, "there is nothing to upgrade yet"
    program.result(program.install(first))
    refused = program.install(second)
    assert refused.returncode == 2
    assert "run `upgrade`" in refused.stderr

    shown = program.result(upgrade(program, second, "--dry-run"))["changes"]
    assert [item["what"] for item in shown["bundle"]] == ["life"]
    assert {"what": "life: web.replicas", "old": "1", "new": "2"} in shown["values"]
    asked = upgrade(program, second)
    assert asked.returncode == 130, "nobody answers, so nothing is done"
    assert "web.replicas: 1 -> 2" in asked.stderr
    assert not exists(enclave, "configmap", "life-added")

    interrupted(enclave, program, second)
    done = upgrade(program, second, "--yes")
    assert "was left behind" in done.stderr
    assert "was left pending-upgrade" in done.stderr
    assert all(item["ready"] for item in program.result(done)["workloads"])
    assert exists(enclave, "configmap", "life-added")
    assert not exists(enclave, "daemonset", "airferry-images-life")
    assert program.result(upgrade(program, second, "--yes"))["changed"] == []
    older = upgrade(program, first, "--yes")
    assert older.returncode == 13
    assert "number 2 of life was brought there" in older.stderr

    back = program.result(program.run("rollback", *NAME, "--yes", "--output", "json"))
    assert back["installation"]["version"] == "1.0"
    assert not exists(enclave, "configmap", "life-added")
    assert program.result(program.run("wait", *NAME, "--output", "json"))["ready"]
    again = program.run("rollback", *NAME, "--to", "1", "--yes")
    assert again.returncode == 2
    assert "runs already" in again.stderr
    listed = program.result(program.run("history", *NAME, "--output", "json"))
    assert [(item["version"], item["finished"], item["from"]) for item in listed] == [
        ("1.0", True, 0),
        ("2.0", True, 0),
        ("1.0", True, 1),
    ]

    removed_with_all_data(enclave, program)


def interrupted(enclave: Enclave, program: EnclaveProgram, bundle: Path) -> None:
    """Kill an upgrade at several points, once with the controller in the middle of its work."""
    with started(program, bundle) as talk:
        until(talk, "applied ConfigMap")
        rival = upgrade(program, bundle, "--yes")
        assert rival.returncode == 33, rival.stderr
        assert "has been changing this installation since" in rival.stderr
    with started(program, bundle) as talk:
        until(talk, "images of hooks are on")
    with started(program, bundle) as talk:
        until(talk, "pending-upgrade")
        pods = ("--selector=control-plane=controller-manager", f"--namespace={OPERATOR_NAMESPACE}")
        enclave.kubectl("delete", "pod", *pods, "--grace-period=0", "--force")


def removed_with_all_data(enclave: Enclave, program: EnclaveProgram) -> None:
    """What is ours goes, data included; what is not ours stays."""
    secret = ("create", "secret", "generic", "theirs", "--from-literal=key=value", f"--namespace={NAMESPACE}")
    enclave.kubectl(*secret)
    enclave.kubectl("label", "secret", "theirs", "app.kubernetes.io/instance=life", f"--namespace={NAMESPACE}")
    asked = program.run("uninstall", *NAME, "--delete-data")
    assert asked.returncode == 130
    assert "will be deleted for good: PersistentVolumeClaim life/life-data" in asked.stderr
    done = program.run("uninstall", *NAME, "--delete-data", "--delete-crds", "--yes", "--output", "json")
    removed = program.result(done)["removed"]
    assert {"PersistentVolumeClaim life/life-data", "Secret life/life-key"} <= set(removed)
    assert "CustomResourceDefinition weightsandbiases.apps.wandb.com" in removed
    assert any("Secret life/theirs" in item for item in program.result(done)["kept"])
    left = enclave.kubectl("get", "secrets,persistentvolumeclaims,leases", f"--namespace={NAMESPACE}", "--output=name")
    assert left.split() == ["secret/theirs"]
    kinds = "secrets,configmaps,deployments"
    left = enclave.kubectl("get", kinds, f"--namespace={OPERATOR_NAMESPACE}", "--output=name")
    assert left.split() == ["configmap/kube-root-ca.crt"]
    assert not exists(enclave, "lease", "airferry-life", OPERATOR_NAMESPACE)


@pytest.fixture
def volume(enclave: Enclave, program: EnclaveProgram) -> Iterator[str]:
    """A volume for the claim of DATABASE that goes with it, unless somebody sees to it."""
    name = f"{program.folder.name}-database".replace("_", "-")
    spec = {
        "capacity": {"storage": "1Mi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Delete",
        "storageClassName": "",
        "claimRef": {"namespace": NAMESPACE, "name": "life-database"},
        # What Kubernetes itself deletes must be in there.
        "hostPath": {"path": f"/tmp/{name}", "type": "DirectoryOrCreate"},
    }
    obj = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
    enclave.kubectl("apply", "--filename=-", input=json.dumps(obj))
    yield name
    enclave.kubectl("delete", "persistentvolume", name, "--ignore-not-found", "--wait=false")


def test_data_outlives_the_claims_that_the_chart_deletes(
    enclave: Enclave, program: EnclaveProgram, volume: str, operator: Operator
) -> None:
    def phase() -> str:
        what = "--output=jsonpath={.status.phase} {.spec.persistentVolumeReclaimPolicy}"
        return enclave.kubectl("get", "persistentvolume", volume, "--ignore-not-found", what).strip()

    def answers(*, database: bool) -> None:
        places = {"namespace": NAMESPACE, "operator_namespace": OPERATOR_NAMESPACE}
        program.site(**places, host="http://life.enclave", values={"database": True} if database else {})

    def revisions() -> int:
        query = ("get", "secrets", "--selector=owner=helm,name=life", "--output=name", f"--namespace={NAMESPACE}")
        return len(enclave.kubectl(*query).split())

    changes = {"templates/database.yaml": DATABASE}
    bundle = demo_platform(program.folder / "bundle", "life", operator, changes=changes).write()
    answers(database=True)
    program.result(program.install(bundle))
    assert wait_until(lambda: phase() == "Bound Delete", 60), phase()

    answers(database=False)
    shown = program.result(upgrade(program, bundle, "--dry-run"))["changes"]["volumes"]
    assert [item.partition(" (")[0] for item in shown] == [f"PersistentVolume {volume}"]
    assert phase() == "Bound Delete"
    done = program.install(bundle)
    program.result(done)
    assert revisions() == 2, "a change that only takes something away is done when the controller has acted"
    assert f"its claim will be deleted, the volume is kept: PersistentVolume {volume} (" in done.stderr
    assert wait_until(lambda: phase() == "Released Retain", 60), phase()

    # What the message says: the next claim of that name takes the volume.
    patch = json.dumps({"spec": {"claimRef": {"uid": None, "resourceVersion": None}}})
    enclave.kubectl("patch", "persistentvolume", volume, "--type=merge", f"--patch={patch}")
    answers(database=True)
    program.result(program.install(bundle))
    assert wait_until(lambda: phase() == "Bound Retain", 60), phase()

    kept = program.result(program.run("uninstall", *NAME, "--yes", "--output", "json"))["kept"]
    assert [item for item in kept if item.startswith(f"PersistentVolume {volume} (")], kept
    assert not exists(enclave, "persistentvolumeclaim", "life-database")
    assert wait_until(lambda: phase() == "Released Retain", 60), phase()
