"""Installing, diagnosing and removing on a real cluster: charts that the installer gives to Helm itself."""

from __future__ import annotations

import base64
import json
import secrets
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.application import CHARTS, Application, demo_app, packed
from tests.parts.authority import Authority
from tests.parts.enclave_program import EnclaveProgram
from tests.parts.process import wait_until
from tests.parts.registry import read_accesses
from tests.parts.runnable import job

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.enclave import Enclave

pytestmark = pytest.mark.cluster

POD_TEMPLATE = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}"}
spec:
  progressDeadlineSeconds: 600
  selector: {matchLabels: {app: "{{ .Release.Name }}"}}
  template:
    metadata: {labels: {app: "{{ .Release.Name }}"}}
    spec: {{ toJson .Values.pod }}
"""


@pytest.fixture
def program(enclave: Enclave, tmp_path: Path) -> EnclaveProgram:
    return EnclaveProgram(enclave, tmp_path)


@pytest.fixture
def name() -> str:
    """A name for bundle and release."""
    return f"app-{secrets.token_hex(3)}"


def versions(enclave: Enclave, *namespaces: str) -> dict[str, str]:
    """The resource version of every object that an installation touches."""
    kinds = "deployments,statefulsets,jobs,cronjobs,services,configmaps,secrets,serviceaccounts"
    found: dict[str, str] = {}
    for namespace in namespaces:
        items = json.loads(enclave.kubectl("get", kinds, f"--namespace={namespace}", "--output=json"))["items"]
        found |= {f"{item['kind']} {item['metadata']['name']}": item["metadata"]["resourceVersion"] for item in items}
    return found


def test_a_chart_is_installed_found_again_changed_and_removed(
    enclave: Enclave, namespace: str, program: EnclaveProgram, name: str
) -> None:
    bundle = demo_app(program.folder / "bundle", name, values={"greeting": "hello"}).write()
    program.site(namespace=namespace)

    first = program.result(program.install(bundle))
    assert f"release {namespace}/{name}" in first["changed"]
    assert all(item["ready"] for item in first["workloads"])
    prefix = "/v2/airferry/docker.io/demo/httpd/blobs/"
    pulled = [each for each in read_accesses(enclave.registry_log) if each.agent.startswith("containerd/")]
    assert any(each.path.startswith(prefix) for each in pulled)

    before = versions(enclave, namespace)
    assert program.result(program.install(bundle))["changed"] == []
    assert versions(enclave, namespace) == before

    program.site(namespace=namespace, charts={name: {"values": {"greeting": "changed"}}})
    assert program.result(program.install(bundle))["changed"] == [f"release {namespace}/{name}"]
    query = "--output=jsonpath={.items[*].data.*}"
    assert "changed" in enclave.kubectl("get", "configmap", f"--namespace={namespace}", query)

    status = program.result(program.run("status", "--name", name, "--output", "json"))
    assert status["ready"]
    assert [item["helm"] for item in status["releases"]] == ["deployed"]

    removed = program.result(program.run("uninstall", "--name", name, "--yes", "--output", "json"))
    assert f"release {namespace}/{name}" in removed["removed"]
    assert f"Namespace {namespace}" in removed["kept"]
    left = json.loads(enclave.kubectl("get", "all,configmaps", f"--namespace={namespace}", "--output=json"))["items"]
    assert {item["metadata"]["name"] for item in left if item["kind"] != "Pod"} == {"kube-root-ca.crt"}
    assert program.run("status", "--name", name).returncode == 22


def test_an_object_that_somebody_removed_is_restored(
    enclave: Enclave, namespace: str, program: EnclaveProgram, name: str
) -> None:
    bundle = demo_app(program.folder / "bundle", name).write()
    program.site(namespace=namespace)
    program.result(program.install(bundle))
    query = ("get", "deployments", f"--namespace={namespace}", "--output=name")
    (deployment,) = enclave.kubectl(*query).split()
    enclave.kubectl("delete", deployment, f"--namespace={namespace}")

    assert program.result(program.install(bundle))["changed"] == [f"release {namespace}/{name}"]
    assert enclave.kubectl(*query).split() == [deployment]


def test_a_namespace_is_made_where_there_is_none(enclave: Enclave, program: EnclaveProgram, name: str) -> None:
    bundle = demo_app(program.folder / "bundle", name).write()
    program.site(namespace=name)
    try:
        assert f"Namespace {name}" in program.result(program.install(bundle))["changed"]
    finally:
        enclave.kubectl("delete", "namespace", name, "--wait=false")


def container(image: str = "docker.io/demo/tools:1.0", script: str = "sleep 600", **more: Any) -> dict[str, Any]:
    """A container of a pod that ends at once when it is told to."""
    return {"name": "main", "image": image, "args": [script], **more}


# What is wrong with a pod → what the diagnosis must say, the next step included.
BROKEN_PODS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no-node": (
        {"containers": [container(resources={"requests": {"cpu": "500"}})]},
        ["no node can take it", "Insufficient cpu", "lower requests"],
    ),
    "crash": (
        {"containers": [container(script="echo cannot find my database; exit 3")]},
        ["exit code 3", "cannot find my database", "kubectl logs"],
    ),
    "probe": (
        {"containers": [container(readinessProbe={"exec": {"command": ["/bin/false"]}, "periodSeconds": 1})]},
        ["Readiness probe failed", "read its log"],
    ),
    "secret": (
        {"containers": [container(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "a"}}}])]},
        ['secret "absent" not found', "create the Secret absent"],
    ),
    "volume": (
        {
            "containers": [container(volumeMounts=[{"name": "data", "mountPath": "/data"}])],
            "volumes": [{"name": "data", "configMap": {"name": "absent"}}],
        },
        ['configmap "absent" not found', "create the ConfigMap absent"],
    ),
    "claim": (
        {
            "containers": [container()],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "absent"}}],
        },
        ["volume claim absent does not exist"],
    ),
    "account": ({"serviceAccountName": "absent", "containers": [container()]}, ['serviceaccount "absent" not found']),
}


def pod_bundle(folder: Path, name: str, pod: dict[str, Any], image: str = "docker.io/demo/tools:1.0") -> Path:
    """A bundle with one image, whose chart makes a Deployment of `pod`."""
    application = Application(folder, name, images={image: job()})
    application.document("values.yaml", {"pod": {"terminationGracePeriodSeconds": 1, **pod}}, "values")
    chart = folder / "pod"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: pod\nversion: 1.0.0\n")
    (chart / "templates" / "pod.yaml").write_text(POD_TEMPLATE)
    application.chart(packed(chart), release=name, values="values.yaml")
    return application.write()


@pytest.mark.parametrize("case", BROKEN_PODS)
def test_a_workload_that_does_not_come_up_is_diagnosed(
    namespace: str, program: EnclaveProgram, name: str, case: str
) -> None:
    pod, expected = BROKEN_PODS[case]
    bundle = pod_bundle(program.folder / "bundle", name, pod)
    program.site(namespace=namespace)
    done = program.install(bundle, timeout=12)
    assert done.returncode == 32, done.stderr
    for text in [f"Deployment {namespace}/{name}", *expected]:
        assert text in done.stderr

    status = program.run("status", "--name", name)
    assert status.returncode == 32
    assert expected[0] in status.stdout


def test_a_quota_that_forbids_pods_is_named(
    enclave: Enclave, namespace: str, program: EnclaveProgram, name: str
) -> None:
    enclave.kubectl("create", "quota", "none", "--hard=pods=0", f"--namespace={namespace}")
    bundle = pod_bundle(program.folder / "bundle", name, {"containers": [container()]})
    program.site(namespace=namespace)
    done = program.install(bundle, timeout=10)
    assert done.returncode == 32, done.stderr
    assert "exceeded quota: none" in done.stderr


def test_an_image_that_the_registry_has_lost_is_named(
    enclave: Enclave, namespace: str, program: EnclaveProgram, name: str
) -> None:
    image = f"docker.io/demo/{name}:1.0"  # of its own: other tests must not lose theirs
    pod = {"containers": [container(image, imagePullPolicy="Always")]}
    bundle = pod_bundle(program.folder / "bundle", name, pod, image)
    program.site(namespace=namespace)
    program.result(program.install(bundle))
    (repository,) = (enclave.folder / "registry").rglob(f"repositories/airferry/docker.io/demo/{name}")
    shutil.rmtree(repository)
    enclave.kubectl("delete", "pods", "--all", f"--namespace={namespace}")

    def told() -> bool:
        return "cannot be pulled" in program.run("status", "--name", name).stdout

    assert wait_until(told, 60)
    said = program.run("status", "--name", name).stdout
    assert f"{enclave.registry}/airferry/docker.io/demo/{name}:1.0" in said
    assert "run `load` again" in said
    program.result(program.install(bundle))


def test_a_hook_that_fails_is_diagnosed(namespace: str, program: EnclaveProgram, name: str) -> None:
    folder = program.folder / "bundle"
    application = demo_app(folder, name)
    hook = (CHARTS / "demo-app" / "templates" / "hook.yaml").read_text()
    assert "post-install" in hook
    application.charts.clear()
    failing = hook.replace('"echo ', '"echo the schema is newer than I am; exit 4; ')
    assert failing != hook
    application.chart(packed(CHARTS / "demo-app", {"templates/hook.yaml": failing}), release=name, values="values.yaml")
    program.site(namespace=namespace)
    done = program.install(application.write(), timeout=60)
    assert done.returncode == 32, done.stderr
    assert "the schema is newer than I am" in done.stderr


def test_an_image_from_outside_is_refused_before_anything_is_written(
    enclave: Enclave, namespace: str, program: EnclaveProgram, name: str
) -> None:
    bundle = demo_app(program.folder / "bundle", name).write()
    program.site(namespace=namespace, charts={name: {"values": {"toolsImage": "quay.io/other/tools:2"}}})
    before = versions(enclave, namespace)
    done = program.install(bundle)
    assert done.returncode == 40, done.stderr
    assert "quay.io/other/tools:2" in done.stderr
    assert versions(enclave, namespace) == before


def kubeconfig(program: EnclaveProgram, **changes: str) -> Path:
    """The administrator's kubeconfig with other answers: `server`, `token`, `certificate-authority-data`."""
    text = program.enclave.kubectl("config", "view", "--raw", "--flatten", "--output=json")
    config = json.loads(text)
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    for key, value in changes.items():
        if key == "token":
            user.clear()
            user["token"] = value
        else:
            cluster[key.replace("_", "-")] = value
    path = program.folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


def test_a_cluster_that_does_not_answer_or_is_another_one(program: EnclaveProgram, tmp_path: Path) -> None:
    other = base64.b64encode(Authority(tmp_path / "other").certificate.read_bytes()).decode()
    cases: list[tuple[dict[str, str], int, str]] = [
        ({"server": "https://10.99.0.1:1"}, 30, "Connection refused"),
        ({"server": "https://192.0.2.1:6443"}, 30, "unreachable"),
        ({"certificate_authority_data": other}, 30, "certificate is not trusted"),
        ({"token": "wrong-token-1234"}, 31, "does not accept the credentials"),
    ]
    for changes, code, words in cases:
        done = program.run("status", "--kubeconfig", kubeconfig(program, **changes))
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr
        assert "wrong-token-1234" not in done.stderr
    assert program.run("status", "--kubeconfig", tmp_path / "absent").returncode == 22
