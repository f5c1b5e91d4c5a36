"""Applications that no driver knows, by the data of their profiles alone: the whole journey of each on a cluster."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts import runnable
from tests.parts.application import KEY, Application
from tests.parts.bundles import packed_chart
from tests.parts.enclave_program import EnclaveProgram
from tests.parts.zoo import ANIMAL, OPERATOR, animals_chart, operator_chart, operator_image, zoo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.enclave import Enclave

pytestmark = pytest.mark.cluster


@pytest.fixture
def program(enclave: Enclave, tmp_path: Path) -> EnclaveProgram:
    return EnclaveProgram(enclave, tmp_path)


@pytest.fixture
def name() -> str:
    """A name for bundle and installation."""
    return f"app-{secrets.token_hex(3)}"


@pytest.fixture(autouse=True)
def no_zoos(enclave: Enclave) -> Iterator[None]:
    """The kind belongs to the whole cluster: it goes with the test."""
    yield
    enclave.kubectl("delete", "crd", "zoos.demo.example", "--ignore-not-found", "--timeout=60s")


def got(enclave: Enclave, kind: str, namespace: str, query: str = ".items[*].metadata.name") -> list[str]:
    """What a JSONPath finds in all objects of a kind."""
    return sorted(enclave.kubectl("get", kind, f"--namespace={namespace}", f"--output=jsonpath={{{query}}}").split())


def preflight(program: EnclaveProgram, bundle: Path) -> dict[str, Any]:
    site = program.folder / "site.yaml"
    done = program.run("preflight", "--bundle", bundle, "--key", KEY, "--site", site, "--output", "json")
    return dict(program.result(done))


def again(program: EnclaveProgram, bundle: Path) -> list[str]:
    return list(program.result(program.install(bundle))["changed"])


def test_charts_come_in_the_order_of_the_profile_and_go_in_the_reverse(
    enclave: Enclave, namespace: str, program: EnclaveProgram, name: str
) -> None:
    """`animals` sorts before `zoo-operator`, which brings its kind among its templates."""

    def bundle(version: int, animals: int) -> Path:
        made = Application(program.folder / str(version), name, version=str(version), sequence=version)
        made.images = {OPERATOR: operator_image(), ANIMAL: runnable.pause()}
        made.chart(operator_chart(f"{version}.0.0"))
        made.chart(animals_chart(f"{version}.0.0"), release="animals")
        made.document("more.yaml", {"animals": animals}, "values")
        made.chart(animals_chart(f"{version}.0.0"), release="more-animals", values="more.yaml")
        return made.write()

    first = bundle(1, 2)
    program.site(namespace=namespace)
    assert preflight(program, first)["ready"]
    changed = program.result(program.install(first))["changed"]
    releases = [item for item in changed if item.startswith("release ")]
    assert releases == [f"release {namespace}/{each}" for each in ("zoo-operator", "animals", "more-animals")]
    assert again(program, first) == []
    program.site(namespace=namespace, charts={"animals": {"values": {"animals": 3}}})
    assert again(program, first) == [f"release {namespace}/animals"]
    assert got(enclave, "zoos", namespace, ".items[*].spec.animals") == ["2", "3"]

    second = bundle(2, 1)
    told = program.result(program.run("upgrade", "--bundle", second, "--key", KEY, "--site",
                                      program.folder / "site.yaml", "--dry-run", "--output", "json"))  # fmt: skip
    assert [item["what"] for item in told["changes"]["values"]] == ["more-animals: animals"]
    program.result(program.upgrade(second))
    assert got(enclave, "zoos", namespace, ".items[*].spec.animals") == ["1", "3"]
    program.result(program.run("rollback", "--name", name, "--yes", "--output", "json"))
    assert got(enclave, "zoos", namespace, ".items[*].spec.animals") == ["2", "3"]

    removed = program.result(program.run("uninstall", "--name", name, "--yes", "--output", "json"))["removed"]
    releases = [item for item in removed if item.startswith("release ")]
    assert releases == [f"release {namespace}/{each}" for each in ("more-animals", "animals", "zoo-operator")]
    assert got(enclave, "deployments", namespace) == []


def test_an_operator_and_its_resource(enclave: Enclave, namespace: str, program: EnclaveProgram, name: str) -> None:
    """A resource is applied, waited for by its condition, changed by an answer, taken back, and removed before its
    operator, which has to serve its finalizer."""
    first = zoo(program.folder / "1", name, animals=1).write()
    program.site(namespace=namespace)
    found = preflight(program, first)
    assert found["ready"], found
    installed = program.result(program.install(first))
    assert f"Zoo {namespace}/zoo" in installed["changed"]
    assert got(enclave, "deployments", namespace, ".items[*].status.availableReplicas") == ["1", "1"]
    image = enclave.kubectl("get", "zoo/zoo", f"--namespace={namespace}", "--output=jsonpath={.spec.image}")
    assert image == f"{enclave.registry}/airferry/{ANIMAL}"
    assert again(program, first) == []

    program.site(namespace=namespace, animals=2)
    assert again(program, first) == [f"Zoo {namespace}/zoo"]
    assert got(enclave, "deployment/zoo", namespace, ".status.availableReplicas") == ["2"]

    second = zoo(program.folder / "2", name, version=2).write()
    changed = program.result(program.upgrade(second))["changed"]
    assert f"Zoo {namespace}/zoo" in changed
    assert got(enclave, "zoo/zoo", namespace, ".metadata.labels.edition") == ["2"]
    program.result(program.run("rollback", "--name", name, "--yes", "--output", "json"))
    assert got(enclave, "zoo/zoo", namespace, [".metadata.labels.edition", ".spec.animals"][0]) == ["1"]

    status = program.result(program.run("status", "--name", name, "--output", "json"))
    assert status["ready"], status
    assert "all animals are awake" in status["phase"]
    removed = program.result(program.run("uninstall", "--name", name, "--yes", "--output", "json"))["removed"]
    assert removed.index(f"Zoo {namespace}/zoo") < removed.index(f"release {namespace}/zoo-operator")
    assert got(enclave, "deployments", namespace) == []


def test_a_resource_that_does_not_get_ready_is_explained(
    enclave: Enclave, namespace: str, program: EnclaveProgram, name: str
) -> None:
    bundle = zoo(program.folder / "1", name, closed=True).write()
    program.site(namespace=namespace)
    done = program.install(bundle, timeout=25)
    assert done.returncode == 32, done.stderr
    assert "the zoo is closed" in done.stderr
    assert "the zoo is closed in winter" in done.stderr
    assert "open it with `closed: false`" in done.stderr
    done = program.run("status", "--name", name)
    assert done.returncode == 32
    assert "the zoo is closed in winter" in done.stdout


def test_manifests_and_their_images(enclave: Enclave, namespace: str, program: EnclaveProgram, name: str) -> None:
    """Objects as they are, their images moved; what a later bundle does not have any more is removed."""

    def deployment(label: str) -> dict[str, Any]:
        labels = {"app": label}
        container = {"name": "web", "image": "docker.io/demo/httpd:1.0"}
        spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": label},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        }

    def settings(text: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"text": text}}

    def bundle(version: int, *objects: dict[str, Any]) -> Path:
        made = Application(program.folder / str(version), name, version=str(version), sequence=version)
        made.images = {"docker.io/demo/httpd:1.0": runnable.httpd()}
        made.manifests("plain", *objects)
        return made.write()

    first = bundle(1, deployment("one"), deployment("two"), settings("first"))
    program.site(namespace=namespace)
    assert preflight(program, first)["ready"]
    installed = program.result(program.install(first))
    assert {str(item["workload"]) for item in installed["workloads"]} == {
        f"Deployment {namespace}/one",
        f"Deployment {namespace}/two",
    }
    (image,) = set(got(enclave, "deployments", namespace, ".items[*].spec.template.spec.containers[*].image"))
    assert image.startswith(f"{enclave.registry}/airferry/docker.io/demo/httpd:1.0@sha256:")
    assert again(program, first) == []

    second = bundle(2, deployment("one"), settings("second"))
    changed = program.result(program.upgrade(second))["changed"]
    assert f"Deployment {namespace}/two (removed)" in changed
    assert f"ConfigMap {namespace}/settings" in changed
    assert got(enclave, "deployments", namespace) == ["one"]
    back = program.result(program.run("rollback", "--name", name, "--yes", "--output", "json"))
    assert f"Deployment {namespace}/two" in back["changed"]
    assert got(enclave, "configmap/settings", namespace, ".data.text") == ["first"]
    removed = program.result(program.run("uninstall", "--name", name, "--yes", "--output", "json"))["removed"]
    assert f"Deployment {namespace}/one" in removed
    assert got(enclave, "deployments,configmaps", namespace) == ["kube-root-ca.crt"]


# As Bitnami's charts do it: a password is made once and found again, or taken from the Secret that is named.
PASSWORD = """
{{- $held := lookup "v1" "Secret" .Release.Namespace .Release.Name }}
apiVersion: v1
kind: Secret
metadata: {name: {{ .Release.Name }}}
data:
  password: {{ if $held }}{{ $held.data.password }}{{ else }}{{ randAlphaNum 16 | b64enc }}{{ end }}
"""
SERVER = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec:
      terminationGracePeriodSeconds: 1
      {{- with .Values.imagePullSecrets }}
      imagePullSecrets: {{ toJson . }}
      {{- end }}
      containers:
        - name: server
          image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
          env:
            - {name: OWN, valueFrom: {secretKeyRef: {name: {{ .Release.Name }}, key: password}}}
            - {name: MODE, value: {{ .Values.mode | quote }}}
            {{- with .Values.auth.existingSecret }}
            - {name: GIVEN, valueFrom: {secretKeyRef: {name: {{ . }}, key: {{ $.Values.auth.secretKey }}}}}
            {{- end }}
"""
SERVER_VALUES = """
image: {repository: docker.io/demo/httpd, tag: "1.0"}
imagePullSecrets: []
mode: quiet
auth: {existingSecret: "", secretKey: password}
"""


def server(folder: Path, name: str, version: int) -> Application:
    """A chart that generates a password and may be given another, in a namespace with a Pod Security level."""
    application = Application(folder, name, version=str(version), sequence=version)
    application.images = {"docker.io/demo/httpd:1.0": runnable.httpd()}
    files = {"templates/greeting.yaml": PASSWORD, "templates/server.yaml": SERVER, "values.yaml": SERVER_VALUES}
    application.chart(packed_chart("server", f"{version}.0.0", files))
    application.profile = {
        "namespaces": {"default": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}},
        "pull_secret": {"values": {"server": ["imagePullSecrets"]}},
        "questions": {
            "mode": {
                "type": "choice",
                "choices": ["quiet", "loud"],
                "help": "How much it says.",
                "to": [{"step": "server", "path": "mode"}],
            },
            "password": {
                "type": "secret",
                "help": "What users log in with.",
                "secret": {"name": "server-password", "key": "word", "step": "server"},
                "to": [
                    {"step": "server", "path": "auth.existingSecret", "put": "secret-name"},
                    {"step": "server", "path": "auth.secretKey", "put": "secret-key"},
                ],
            },
        },
    }
    return application


def test_generated_passwords_secrets_and_answers(
    enclave: Enclave, namespace: str, program: EnclaveProgram, name: str
) -> None:
    word = "correct-horse-battery"
    (program.folder / "word").write_text(word)
    first = server(program.folder / "1", name, 1).write()
    program.site(namespace=namespace, password={"file": "word"})
    assert preflight(program, first)["ready"]
    done = program.install(first)
    program.result(done)
    assert word not in done.stdout + done.stderr
    made = got(enclave, f"secret/{'server'}", namespace, ".data.password")
    assert again(program, first) == []
    labels = json.loads(enclave.kubectl("get", f"namespace/{namespace}", "--output=jsonpath={.metadata.labels}"))
    assert labels["pod-security.kubernetes.io/enforce"] == "baseline"
    env = enclave.kubectl("exec", "deploy/server", f"--namespace={namespace}", "--", "/bin/sh", "-c", "echo $GIVEN")
    assert env.strip() == word

    program.site(namespace=namespace, password={"file": "word"}, mode="loud")
    assert again(program, first) == [f"release {namespace}/server"]
    second = server(program.folder / "2", name, 2).write()
    program.result(program.upgrade(second))
    assert got(enclave, "secret/server", namespace, ".data.password") == made, "the generated password stays"
    program.result(program.run("rollback", "--name", name, "--yes", "--output", "json"))
    assert got(enclave, "secret/server", namespace, ".data.password") == made

    removed = program.result(program.run("uninstall", "--name", name, "--yes", "--output", "json"))
    assert any("server-password" in item for item in removed["kept"])
    assert got(enclave, "deployments", namespace) == []


def test_an_answer_that_the_profile_does_not_ask_for_is_refused(program: EnclaveProgram, name: str) -> None:
    bundle = server(program.folder / "1", name, 1).write()
    program.site(mysql={"host": "db"})
    done = program.install(bundle)
    assert done.returncode == 40
    assert "mysql: unknown key" in done.stderr
    program.site(charts={"serve": {"values": {}}})
    done = program.install(bundle)
    assert (done.returncode, "did you mean server?" in done.stderr) == (40, True)
    program.site(mode="lout")
    done = program.install(bundle)
    assert (done.returncode, "mode" in done.stderr) == (40, True)
