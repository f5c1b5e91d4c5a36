"""What a real API server refuses, and what an installation that is there refuses, is known before anything is begun."""

from __future__ import annotations

import contextlib
import json
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.application import KEY, Application, packed
from tests.parts.enclave_program import EnclaveProgram, told_by
from tests.parts.process import wait_until
from tests.parts.runnable import job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.enclave import Enclave

pytestmark = pytest.mark.cluster

IMAGE = "docker.io/demo/tools:1.0"
TEMPLATE = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: main}
spec:
  replicas: {{ .Values.replicas }}
  strategy: {{ toJson .Values.strategy }}
  selector: {matchLabels: {app: main, tier: {{ .Values.tier }}}}
  template:
    metadata: {labels: {app: main, tier: {{ .Values.tier }}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: main
          image: {{ .Values.image }}
          args: [sleep 600]
          env: {{ toJson .Values.env }}
          resources: {requests: {cpu: 5m}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: data}
spec:
  replicas: 0
  serviceName: data
  selector: {matchLabels: {app: data}}
  template:
    metadata: {labels: {app: data}}
    spec:
      serviceAccountName: data
      containers:
        - {name: main, image: {{ .Values.image | quote }}, volumeMounts: [{name: data, mountPath: /data}]}
  volumeClaimTemplates:
    - metadata: {name: data}
      spec: {{ toJson .Values.claim }}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: data}
{{- if .Values.definition }}
---
{{ toJson .Values.definition }}
{{- end }}
"""
VALUES: dict[str, Any] = {
    "image": IMAGE,
    "replicas": 1,
    "strategy": {"type": "RollingUpdate"},
    "tier": "one",
    "env": [{"name": "A", "value": "x"}],
    "claim": {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "manual",
        "resources": {"requests": {"storage": "1Gi"}},
    },
}


def bundle(folder: Path, name: str, version: str = "1", **values: Any) -> Path:
    application = Application(folder / version, name, version=version, sequence=int(version), images={IMAGE: job()})
    chart = folder / version / "strict"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text(f"apiVersion: v2\nname: strict\nversion: {version}.0.0\n")
    (chart / "values.yaml").write_text(json.dumps({**VALUES, **values}))
    (chart / "templates" / "strict.yaml").write_text(TEMPLATE)
    application.chart(packed(chart), release="strict")
    return application.write()


@pytest.fixture
def program(enclave: Enclave, tmp_path: Path) -> EnclaveProgram:
    return EnclaveProgram(enclave, tmp_path)


@pytest.fixture(autouse=True)
def _storage(enclave: Enclave) -> Iterator[None]:
    """A class for the claims."""
    storage = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "manual"}}
    with held(enclave, {**storage, "provisioner": "kubernetes.io/no-provisioner"}):
        yield


@contextlib.contextmanager
def held(enclave: Enclave, *items: dict[str, Any], namespace: str = "default") -> Iterator[None]:
    """Objects are there meanwhile."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)})
    enclave.kubectl("apply", f"--namespace={namespace}", "--filename=-", input=text)
    try:
        yield
    finally:
        enclave.kubectl("delete", f"--namespace={namespace}", "--filename=-", "--ignore-not-found", input=text)


def preflight(program: EnclaveProgram, path: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """The exit code and what is told."""
    where = ("--bundle", path, "--key", KEY, "--site", program.folder / "site.yaml")
    done = program.run("preflight", *where, "--output", "json", *options)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def refused(program: EnclaveProgram, path: Path) -> list[dict[str, Any]]:
    """What stands in the way. Policies are in force a moment after they are there."""
    found: list[dict[str, Any]] = []

    def told() -> bool:
        found.extend(preflight(program, path)[1]["refusals"])
        return bool(found)

    assert wait_until(told, 30)
    return found


def rules(namespace: str) -> dict[str, tuple[list[dict[str, Any]], str, str]]:
    """What refuses, and what is told of it: the words, and the next step."""
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    policy = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": namespace}}
    hook = {"service": {"name": "absent", "namespace": namespace, "path": "/"}}
    return {
        "limit range": (
            [
                {
                    "apiVersion": "v1",
                    "kind": "LimitRange",
                    "metadata": {"name": "small"},
                    "spec": {"limits": [{"type": "Container", "max": {"cpu": "3m"}}]},
                }
            ],
            f"Deployment {namespace}/main: its pods are refused: create Pod",
            "within the namespace's LimitRange",
        ),
        "quota": (
            [
                {
                    "apiVersion": "v1",
                    "kind": "ResourceQuota",
                    "metadata": {"name": "memory"},
                    "spec": {"hard": {"requests.memory": "1Gi"}},
                }
            ],
            "failed quota: memory: must specify requests.memory",
            "set the resources that the quota asks for",
        ),
        "policy": (
            [
                {
                    **policy,
                    "kind": "ValidatingAdmissionPolicy",
                    "spec": {
                        "failurePolicy": "Fail",
                        "matchConstraints": {"namespaceSelector": here, "resourceRules": [pods]},
                        "validations": [{"expression": "false", "message": "no pods on Mondays"}],
                    },
                },
                {
                    **policy,
                    "kind": "ValidatingAdmissionPolicyBinding",
                    "spec": {"policyName": namespace, "validationActions": ["Deny"]},
                },
            ],
            "no pods on Mondays",
            "an admission policy of the cluster refuses the pod",
        ),
        "webhook": (
            [
                {
                    **policy,
                    "kind": "ValidatingWebhookConfiguration",
                    "webhooks": [
                        {
                            "name": "guard.example.com",
                            "clientConfig": hook,
                            "rules": [{**pods, "apiGroups": ["apps"], "resources": ["deployments"]}],
                            "namespaceSelector": here,
                            "failurePolicy": "Fail",
                            "sideEffects": "None",
                            "admissionReviewVersions": ["v1"],
                        }
                    ],
                }
            ],
            'failed calling webhook "guard.example.com"',
            "look at the pods behind that webhook",
        ),
    }


def crd(plural: str, release: str = "") -> dict[str, Any]:
    """A definition of a kind, of the Helm release `release` if there is one."""
    place, _, name = release.partition("/")
    marks = {"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": place} if release else {}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.example.com", "annotations": marks},
        "spec": {
            "group": "example.com",
            "names": {"kind": plural.title(), "plural": plural},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def test_credentials_that_count_no_more_are_told(
    enclave: Enclave, namespace: str, program: EnclaveProgram, tmp_path: Path
) -> None:
    config = json.loads(enclave.kubectl("config", "view", "--raw", "--flatten", "--output=json"))
    config["users"][0]["user"] = {"token": "expired-1234"}
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    program.site(namespace=namespace)
    done = program.install(bundle(tmp_path, "strict"), "--kubeconfig", str(tmp_path / "kubeconfig"))
    assert done.returncode == 31, done.stderr
    assert "does not accept the credentials of context" in done.stderr
    assert "may have expired" in done.stderr
    assert "1234" not in done.stderr


def test_what_the_cluster_refuses_is_known_beforehand(
    enclave: Enclave, namespace: str, program: EnclaveProgram, tmp_path: Path
) -> None:
    path = bundle(tmp_path, "strict")
    program.site(namespace=namespace)
    assert preflight(program, path)[1]["refusals"] == []
    for case, (items, words, step) in rules(namespace).items():
        with held(enclave, *items, namespace=namespace):
            told = refused(program, path)
        assert {each["exit_code"] for each in told} == {33}, case
        assert any(words in each["what"] and step in each["next"] for each in told), (case, told)
    definition = crd(f"things{secrets.token_hex(3)}", "far/other")
    with held(enclave, definition):
        told = refused(program, bundle(tmp_path, "strict", "2", definition=crd(definition["spec"]["names"]["plural"])))
    name = definition["metadata"]["name"]
    (what,) = (each["what"] for each in told)
    assert what.endswith(f" there are already: CustomResourceDefinition {name} of the Helm release far/other")
    level = "pod-security.kubernetes.io/enforce"
    enclave.kubectl("label", "namespace", namespace, f"{level}=restricted")
    done = program.install(path)
    assert done.returncode == 33, done.stderr
    assert 'violates PodSecurity "restricted:latest"' in done.stderr
    assert f"StatefulSet {namespace}/data: its pods are refused" in done.stderr
    assert enclave.kubectl("get", "configmaps,secrets,deployments", "--output=name", f"--namespace={namespace}") == (
        "configmap/kube-root-ca.crt\n"
    ), "nothing was begun"
    # What the profile says of the namespace counts.
    enclave.kubectl("label", "namespace", namespace, f"{level}-")
    assert preflight(program, path)[0] == 0


def test_what_never_changes_is_known_before_an_upgrade(
    enclave: Enclave, namespace: str, program: EnclaveProgram, tmp_path: Path
) -> None:
    name = f"strict-{secrets.token_hex(3)}"
    program.site(namespace=namespace)
    first = bundle(tmp_path, name)
    program.result(program.install(first))
    claim = {**VALUES["claim"], "resources": {"requests": {"storage": "2Gi"}}}
    second = bundle(tmp_path, name, "2", tier="two", claim=claim, strategy={"type": "Recreate"})
    code, told = preflight(program, second)
    assert code == 33
    assert ["take it back in site.yaml" in each["next"] for each in told["refusals"]] == [True, True]
    said = " ".join(each["what"] for each in told["refusals"])
    assert "field is immutable" in said
    assert "spec.strategy.rollingUpdate: Forbidden" in said
    assert "updates to statefulset spec for fields other than" in said
    assert [each["what"] for each in told["warnings"]] == [f"{name} 1 is installed, and this bundle holds 2"]

    # Forms of a variable that exclude each other, and more pods than a quota has room for, are no such change.
    source = {"fieldRef": {"fieldPath": "metadata.name"}}
    env = [{"name": "A", "valueFrom": source}]
    third = bundle(tmp_path, name, "3", strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}, env=env)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}, "spec": {"hard": {"pods": "1"}}}
    with held(enclave, quota, namespace=namespace):
        query = ("get", "quota", "full", f"--namespace={namespace}", "--output=jsonpath={.status.used.pods}")
        assert wait_until(lambda: enclave.kubectl(*query) == "1", 30)
        code, told = preflight(program, third)
        assert code == 0, told
        assert any("exceeded quota: full" in each["what"] for each in told["warnings"])
        program.result(program.upgrade(third))
    # `status` tells what Helm has, whatever was noted.
    record = ("configmap", f"airferry-{name}", f"--namespace={namespace}")
    noted = json.loads(enclave.kubectl("get", *record, "--output=json"))["data"]["installation.json"]
    wrong = {"data": {"installation.json": noted.replace("3.0.0", "2.0.0")}}
    enclave.kubectl("patch", *record, f"--patch={json.dumps(wrong)}")
    shown = json.loads(program.run("status", "--name", name, "--output", "json").stdout)
    assert [(each["chart"], each["version"], each["ready"]) for each in shown["releases"]] == [
        ("strict", "3.0.0", False)
    ]
    assert "release-differs" in [each["cause"] for each in told_by(shown)]

    # An older bundle is refused in the namespace and in the registry, by `install` and so by `preflight`.
    code, told = preflight(program, first)
    assert (code, [each["exit_code"] for each in told["refusals"]]) == (13, [13, 13])
    assert preflight(program, first, "--back-to", "1")[0] == 0
    done = program.install(first)
    assert (done.returncode, done.stderr.count("which is older")) == (13, 2)
