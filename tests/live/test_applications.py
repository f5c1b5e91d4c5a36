"""Applications that no driver knows, by the data of their profiles alone: the whole journey of each on a cluster."""

from __future__ import annotations

import json
import secrets
from base64 import b64decode
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts import runnable
from tests.parts.application import Application
from tests.parts.bundles import packed_chart
from tests.parts.enclave_program import EnclaveProgram
from tests.parts.frozen import freeze_volume
from tests.parts.sealed_secrets import CRD, IMAGE, SiteKey, sealed
from tests.parts.zoo import ANIMAL, OPERATOR, animals_chart, operator_chart, operator_image, zoo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.enclave import Enclave

pytestmark = pytest.mark.cluster


@dataclass(frozen=True)
class Journey:
    """One application on its way, each bundle frozen into a file of its own, as people on site get it."""

    program: EnclaveProgram
    name: str

    def at(self, bundle: Path) -> EnclaveProgram:
        """The installer that carries `bundle`."""
        path = bundle.with_suffix(".installer")
        if not path.exists():
            freeze_volume(bundle, path, bundle.stem)
        return replace(self.program, executable=path)

    def run(self, bundle: Path, command: str, *options: str) -> dict[str, Any]:
        """The result of a command that reads site.yaml."""
        site = self.program.folder / "site.yaml"
        done = self.at(bundle).run(command, "--site", site, "--output", "json", *options)
        return dict(self.program.result(done))

    def installed(self, bundle: Path, *options: str) -> list[str]:
        """What an installation changes, after a look and a dry run that change nothing."""
        found = self.run(bundle, "preflight")
        assert found["ready"], found
        phases = self.run(bundle, "install", "--dry-run")["phases"]
        assert phases[0]["phase"] == "see that the registry holds all images"
        return list(self.run(bundle, "install", "--timeout", "240", *options)["changed"])

    def upgraded(self, bundle: Path) -> list[str]:
        """What an upgrade changes, after its dry run."""
        assert self.run(bundle, "upgrade", "--dry-run")["phases"]
        return list(self.run(bundle, "upgrade", "--yes", "--timeout", "240")["changed"])

    def known(self, bundle: Path, command: str, *options: str) -> dict[str, Any]:
        """The result of a command that needs no site.yaml; of one that changes something after its dry run."""
        named = ("--name", self.name, "--output", "json", *options)
        if command in ("rollback", "uninstall"):
            assert self.program.result(self.at(bundle).run(command, *named, "--dry-run"))["phases"]
            named = (*named, "--yes")
        return dict(self.program.result(self.at(bundle).run(command, *named)))


@pytest.fixture
def journey(enclave: Enclave, tmp_path: Path) -> Journey:
    return Journey(EnclaveProgram(enclave, tmp_path), f"app-{secrets.token_hex(3)}")


@pytest.fixture(autouse=True)
def no_kinds(enclave: Enclave) -> Iterator[None]:
    """Kinds and roles belong to the whole cluster: they go with the test."""
    yield
    enclave.kubectl("delete", "crd", "zoos.demo.example", CRD, "--ignore-not-found", "--timeout=60s")
    roles = ("clusterrole,clusterrolebinding", "--selector=app.kubernetes.io/name=sealed-secrets")
    enclave.kubectl("delete", *roles, "--timeout=60s")


def got(enclave: Enclave, kind: str, namespace: str, query: str = ".items[*].metadata.name") -> list[str]:
    """What a JSONPath finds in all objects of a kind, or in the one that is named behind it."""
    output = f"--output=jsonpath={{{query}}}"
    return sorted(enclave.kubectl("get", *kind.split(), f"--namespace={namespace}", output).split())


def test_charts_come_in_the_order_of_the_profile_and_go_in_the_reverse(
    enclave: Enclave, namespace: str, journey: Journey
) -> None:
    """`animals` sorts before `zoo-operator`, which brings its kind among its templates."""
    program = journey.program

    def bundle(version: int, animals: int) -> Path:
        made = Application(program.folder / str(version), journey.name, version=str(version), sequence=version)
        made.images = {OPERATOR: operator_image(), ANIMAL: runnable.pause()}
        made.chart(operator_chart(f"{version}.0.0"))
        made.chart(animals_chart(f"{version}.0.0"), release="animals")
        made.document("more.yaml", {"animals": animals}, "values")
        made.chart(animals_chart(f"{version}.0.0"), release="more-animals", values="more.yaml")
        return made.write()

    def releases(names: list[str]) -> list[str]:
        return [item.rpartition("/")[2] for item in names if item.startswith("release ")]

    first, second = bundle(1, 2), bundle(2, 1)
    program.site(namespace=namespace)
    assert releases(journey.installed(first)) == ["zoo-operator", "animals", "more-animals"]
    assert journey.run(first, "install")["changed"] == []
    program.site(namespace=namespace, charts={"animals": {"values": {"animals": 3}}})
    assert journey.run(first, "install")["changed"] == [f"release {namespace}/animals"]
    assert got(enclave, "zoos", namespace, ".items[*].spec.animals") == ["2", "3"]

    told = journey.run(second, "upgrade", "--dry-run")
    assert [item["what"] for item in told["changes"]["values"]] == ["more-animals: animals"]
    journey.upgraded(second)
    assert got(enclave, "zoos", namespace, ".items[*].spec.animals") == ["1", "3"]
    journey.known(second, "rollback")
    assert got(enclave, "zoos", namespace, ".items[*].spec.animals") == ["2", "3"]
    removed = journey.known(second, "uninstall")["removed"]
    assert releases(removed) == ["more-animals", "animals", "zoo-operator"]
    assert got(enclave, "deployments", namespace) == []


def test_an_operator_and_its_resource(enclave: Enclave, namespace: str, journey: Journey) -> None:
    """A resource is applied, waited for by its condition, changed by an answer, taken back, and removed before its
    operator, which has to serve its finalizer."""
    program = journey.program
    first = zoo(program.folder / "1", journey.name, animals=1).write()
    second = zoo(program.folder / "2", journey.name, version=2).write()
    program.site(namespace=namespace)
    assert f"Zoo {namespace}/zoo" in journey.installed(first)
    assert got(enclave, "deployments", namespace, ".items[*].status.availableReplicas") == ["1", "1"]
    assert got(enclave, "zoos", namespace, ".items[*].spec.image") == [f"{enclave.registry}/airferry/{ANIMAL}"]
    assert journey.run(first, "install")["changed"] == []

    program.site(namespace=namespace, animals=2)
    assert journey.run(first, "install")["changed"] == [f"Zoo {namespace}/zoo"]
    assert got(enclave, "deployment zoo", namespace, ".status.availableReplicas") == ["2"]
    assert f"Zoo {namespace}/zoo" in journey.upgraded(second)
    assert got(enclave, "zoo zoo", namespace, ".metadata.labels.edition") == ["2"]
    journey.known(second, "rollback")
    assert got(enclave, "zoo zoo", namespace, ".metadata.labels.edition") == ["1"]

    status = journey.known(second, "status")
    assert status["ready"], status
    assert "all animals are awake" in status["phase"]
    removed = journey.known(second, "uninstall")["removed"]
    assert removed.index(f"Zoo {namespace}/zoo") < removed.index(f"release {namespace}/zoo-operator")
    assert got(enclave, "deployments", namespace) == []


def test_a_resource_that_does_not_get_ready_is_explained(enclave: Enclave, namespace: str, journey: Journey) -> None:
    program = journey.program
    bundle = zoo(program.folder / "1", journey.name, closed=True).write()
    program.site(namespace=namespace)
    done = program.install(bundle, timeout=25)
    assert done.returncode == 32, done.stderr
    for words in ("the zoo is closed", "the zoo is closed in winter", "open it with `closed: false`"):
        assert words in done.stderr
    done = program.run("status", "--name", journey.name)
    assert (done.returncode, "the zoo is closed in winter" in done.stdout) == (32, True)


def test_an_operator_that_others_wrote(enclave: Enclave, namespace: str, journey: Journey) -> None:
    """sealed-secrets opens what was sealed beforehand for the key of the site, which is none of the bundle's; what was
    sealed for another site it refuses, and the installer says so."""
    program, key, resource = journey.program, SiteKey.make(), f"SealedSecret {namespace}/database"

    def bundle(version: int, key: SiteKey) -> Path:
        return sealed(program.folder / str(version), journey.name, key, namespace, version).write()

    def opened() -> tuple[str, str]:
        query = "--output=jsonpath={.data.word} {.metadata.labels.owner}"
        word, owner = enclave.kubectl("get", "secret", "database", f"--namespace={namespace}", query).split()
        return b64decode(word).decode(), owner

    first, second, foreign = bundle(1, key), bundle(2, key), bundle(3, SiteKey.make())
    enclave.kubectl("create", "--filename=-", input=json.dumps(key.secret(namespace)))
    program.site(namespace=namespace)
    assert journey.installed(first)[-2:] == [f"release {namespace}/sealed-secrets", resource]
    assert opened() == ("word-1", "nobody")
    (image,) = got(enclave, "deployments", namespace, ".items[*].spec.template.spec.containers[*].image")
    assert image.startswith(f"{enclave.registry}/airferry/{IMAGE}")
    assert journey.run(first, "install")["changed"] == []

    # The condition is True all along: only the generation tells that the operator is not there to see the change.
    scale = ("scale", "deployment/sealed-secrets", f"--namespace={namespace}")
    enclave.kubectl(*scale, "--replicas=0")
    enclave.kubectl("wait", "pods", "--all", "--for=delete", f"--namespace={namespace}", "--timeout=60s")
    program.site(namespace=namespace, owner="billing")
    done = journey.at(first).install(first, timeout=20)
    assert (done.returncode, "to see this generation" in done.stderr) == (32, True), done.stderr
    enclave.kubectl(*scale, "--replicas=1")
    assert journey.run(first, "install")["changed"] == []
    assert opened() == ("word-1", "billing")
    assert resource in journey.upgraded(second)
    assert opened() == ("word-2", "billing")
    assert resource in journey.known(second, "rollback")["changed"]
    assert opened() == ("word-1", "billing")

    done = journey.at(foreign).upgrade(foreign, timeout=20)
    assert (done.returncode, "no key could decrypt secret (word)" in done.stderr) == (32, True), done.stderr
    assert resource in journey.known(foreign, "rollback")["changed"]
    status = journey.known(foreign, "status")
    assert (status["ready"], status["phase"]) == (True, f"{resource}: Synced"), status
    assert opened() == ("word-1", "billing")

    told = journey.known(foreign, "uninstall")
    assert told["removed"][:2] == [resource, f"release {namespace}/sealed-secrets"]
    assert f"CustomResourceDefinition {CRD} (others may use it)" in told["kept"]
    assert got(enclave, "deployments", namespace) == []
    assert "site-key" in got(enclave, "secrets", namespace)


def test_manifests_and_their_images(enclave: Enclave, namespace: str, journey: Journey) -> None:
    """Objects as they are, their images moved; what a later bundle does not have any more is removed."""
    program, name = journey.program, journey.name

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
    second = bundle(2, deployment("one"), settings("second"))
    program.site(namespace=namespace)
    changed = journey.installed(first)
    assert {f"Deployment {namespace}/one", f"Deployment {namespace}/two"} <= set(changed)
    assert got(enclave, "deployments", namespace, ".items[*].status.availableReplicas") == ["1", "1"]
    (image,) = set(got(enclave, "deployments", namespace, ".items[*].spec.template.spec.containers[*].image"))
    assert image.startswith(f"{enclave.registry}/airferry/docker.io/demo/httpd:1.0@sha256:")
    assert journey.run(first, "install")["changed"] == []

    changed = journey.upgraded(second)
    assert f"Deployment {namespace}/two (removed)" in changed
    assert f"ConfigMap {namespace}/settings" in changed
    assert got(enclave, "deployments", namespace) == ["one"]
    assert f"Deployment {namespace}/two" in journey.known(second, "rollback")["changed"]
    assert got(enclave, "configmap settings", namespace, ".data.text") == ["first"]
    assert f"Deployment {namespace}/one" in journey.known(second, "uninstall")["removed"]
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


def test_generated_passwords_secrets_and_answers(enclave: Enclave, namespace: str, journey: Journey) -> None:
    program, name, word = journey.program, journey.name, "correct-horse-battery"
    (program.folder / "word").write_text(word)
    first, second = (server(program.folder / str(version), name, version).write() for version in (1, 2))
    program.site(namespace=namespace, password={"file": "word"})
    done = journey.at(first).install(first)
    program.result(done)
    assert word not in done.stdout + done.stderr
    made = got(enclave, "secret server", namespace, ".data.password")
    assert journey.installed(first) == []
    labels = got(
        enclave, f"namespace {namespace}", namespace, ".metadata.labels.pod-security\\.kubernetes\\.io/enforce"
    )
    assert labels == ["baseline"]
    given = ("exec", "deploy/server", f"--namespace={namespace}", "--", "/bin/sh", "-c", "echo $GIVEN")
    assert enclave.kubectl(*given).strip() == word

    program.site(namespace=namespace, password={"file": "word"}, mode="loud")
    assert journey.run(first, "install")["changed"] == [f"release {namespace}/server"]
    journey.upgraded(second)
    assert got(enclave, "secret server", namespace, ".data.password") == made, "the generated password stays"
    journey.known(second, "rollback")
    assert got(enclave, "secret server", namespace, ".data.password") == made
    removed = journey.known(second, "uninstall")
    assert any("server-password" in item for item in removed["kept"])
    assert got(enclave, "deployments", namespace) == []


def test_an_answer_that_the_profile_does_not_ask_for_is_refused(journey: Journey) -> None:
    program = journey.program
    bundle = server(program.folder / "1", journey.name, 1).write()
    for answers, words in (
        ({"mysql": {"host": "db"}}, "mysql: unknown key"),
        ({"charts": {"serve": {"values": {}}}}, "did you mean server?"),
        ({"mode": "lout"}, "mode: "),
    ):
        program.site(**answers)
        done = program.install(bundle)
        assert (done.returncode, words in done.stderr) == (40, True), done.stderr
