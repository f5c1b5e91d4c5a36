"""Installing, diagnosing and removing on a real cluster: charts that the installer gives to Helm itself."""

from __future__ import annotations

import base64
import json
import secrets
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.parts.application import KEY, Application, demo_app
from tests.parts.authority import Authority
from tests.parts.bundles import packed_chart
from tests.parts.cluster_files import PLACES
from tests.parts.enclave_program import ROOT, EnclaveProgram
from tests.parts.images import File, Layer
from tests.parts.registry import read_accesses

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.enclave import Enclave

pytestmark = pytest.mark.cluster


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
    prefix = "/v2/airferry/docker.io/demo/httpd/"
    pulled = [each for each in read_accesses(enclave.registry_log) if each.agent.startswith("containerd/")]
    assert any(each.path.startswith(prefix) for each in pulled)

    before = versions(enclave, namespace)
    assert program.result(program.install(bundle))["changed"] == []
    assert versions(enclave, namespace) == before

    program.site(namespace=namespace, charts={name: {"values": {"greeting": "changed"}}})
    assert program.result(program.install(bundle))["changed"] == [f"release {namespace}/{name}"]
    query = "--output=jsonpath={.items[*].data.*}"
    assert "changed" in enclave.kubectl("get", "configmap", f"--namespace={namespace}", query)
    back = program.result(program.run("rollback", "--name", name, "--yes", "--output", "json"))
    assert f"release {namespace}/{name}" in back["changed"]
    assert "hello" in enclave.kubectl("get", "configmap", f"--namespace={namespace}", query)

    status = program.result(program.run("status", "--name", name, "--output", "json"))
    assert status["ready"]
    assert [item["helm"] for item in status["releases"]] == ["deployed"]

    removed = program.result(program.run("uninstall", "--name", name, "--yes", "--output", "json"))
    assert f"release {namespace}/{name}" in removed["removed"]
    assert f"Namespace {namespace}" in removed["kept"]
    left = json.loads(enclave.kubectl("get", "all,configmaps", f"--namespace={namespace}", "--output=json"))["items"]
    assert {item["metadata"]["name"] for item in left if item["kind"] != "Pod"} == {"kube-root-ca.crt"}
    assert program.run("status", "--name", name).returncode == 42


def test_a_site_without_a_registry(enclave: Enclave, namespace: str, program: EnclaveProgram, name: str) -> None:
    """The images are on the node before; pods start with nothing pulled from anywhere, whatever the chart says."""
    application = demo_app(program.folder / "bundle", name, values={"image": {"pullPolicy": "Always"}})
    # Kubelets ask again for what they have ever pulled under another name (Kubernetes, pkg/kubelet/images/pullmanager).
    own = Layer({"/own": File(name.encode())})
    application.images = {each: replace(it, layers=(*it.layers, own)) for each, it in application.images.items()}
    bundle = application.write()
    registry = {"host": "images.enclave", "project": name, "on_nodes": True}
    site = program.site(namespace=namespace, registry=registry)
    start = enclave.containerd_log.stat().st_size
    options: list[str | Path] = ["--bundle", bundle, "--key", KEY, "--site", site, "--output", "json"]
    # The node's own view of its file system has this folder in its usual place.
    socket = enclave.folder / PLACES["/run/containerd"] / "containerd.sock"
    brought = program.result(program.run("import", *options, "--containerd", socket))
    assert not any(image["present"] for image in brought["images"])

    assert all(item["ready"] for item in program.result(program.install(bundle))["workloads"])
    program.site(namespace=namespace, registry=registry, charts={name: {"values": {"greeting": "changed"}}})
    assert program.result(program.install(bundle))["changed"] == [f"release {namespace}/{name}"]
    back = program.result(program.run("rollback", "--name", name, "--yes", "--output", "json"))
    assert f"release {namespace}/{name}" in back["changed"]
    assert program.result(program.run("status", "--name", name, "--output", "json"))["ready"]
    log = enclave.containerd_log.read_bytes()[start:].decode()
    assert "images.enclave" in log
    assert not [line for line in log.splitlines() if "PullImage" in line and "images.enclave" in line]
    done = program.run("load", *options)
    assert (done.returncode, "no registry" in done.stderr) == (2, True)


def test_a_release_that_an_upgrade_dropped_comes_back_with_its_bundle_only(
    enclave: Enclave, namespace: str, program: EnclaveProgram, name: str
) -> None:
    def bundle(version: str, *releases: str) -> Path:
        application = Application(program.folder / version, name, version=version, sequence=int(version))
        for release in releases:
            application.chart(packed_chart(f"greeter-{release}", "1.0.0"), release=f"{name}-{release}")
        return application.write()

    program.site(namespace=namespace)
    first, more = bundle("1", "one", "more"), f"{namespace}/{name}-more"
    program.result(program.install(first))
    assert f"release {more} (removed)" in program.result(program.upgrade(bundle("2", "one")))["changed"]

    before = versions(enclave, namespace)
    done = program.run("rollback", "--name", name, "--yes")
    assert done.returncode == 33, done.stderr
    assert f"revision 1 of Helm release {more}" in done.stderr
    assert "run `upgrade --back-to NUMBER` with the bundle of that version" in done.stderr
    assert versions(enclave, namespace) == before
    assert f"release {more}" in program.result(program.upgrade(first, "--back-to", "1"))["changed"]


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


def test_inside_a_pod_no_kubeconfig_is_needed(
    enclave: Enclave, namespace: str, program: EnclaveProgram, name: str
) -> None:
    """The service account's files are all that tells a pod from its node."""
    bundle = demo_app(program.folder / "bundle", name).write()
    site = program.site(namespace=namespace)
    enclave.kubectl("create", "serviceaccount", "installer", f"--namespace={namespace}")
    account = f"--serviceaccount={namespace}:installer"
    enclave.kubectl("create", "rolebinding", "installer", "--clusterrole=cluster-admin", account, "-n", namespace)
    account_folder = program.folder / "account"
    account_folder.mkdir()
    token = enclave.kubectl("create", "token", "installer", f"--namespace={namespace}").strip()
    authority = json.loads(enclave.kubectl("config", "view", "--raw", "--flatten", "--output=json"))["clusters"][0]
    certificate = base64.b64decode(authority["cluster"]["certificate-authority-data"]).decode()
    for file, text in (("token", token), ("namespace", namespace), ("ca.crt", certificate)):
        (account_folder / file).write_text(text)
    place = "/run/secrets/kubernetes.io/serviceaccount"
    script = f'mount -t tmpfs none /run && mkdir -p {place} && cp "$0"/* {place} && exec "$@"'
    host, port = authority["cluster"]["server"].removeprefix("https://").split(":")
    env = {"HOME": str(program.folder), "PATH": "/usr/bin:/bin"}
    env |= {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    start = ["unshare", "--mount", "sh", "-c", script, str(account_folder), sys.executable, "-m", "installer"]
    command = ["install", "--bundle", str(bundle), "--key", str(KEY), "--site", str(site), "--output", "json"]
    done = enclave.run([*start, *command], check=False, cwd=ROOT, env=env)
    assert f"release {namespace}/{name}" in program.result(done)["changed"]


def test_a_namespace_is_made_where_there_is_none(enclave: Enclave, program: EnclaveProgram, name: str) -> None:
    bundle = demo_app(program.folder / "bundle", name).write()
    program.site(namespace=name)
    try:
        assert f"Namespace {name}" in program.result(program.install(bundle))["changed"]
    finally:
        enclave.abandon(name)


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
    assert program.run("status", "--kubeconfig", tmp_path / "absent").returncode == 2
