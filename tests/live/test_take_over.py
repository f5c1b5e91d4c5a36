"""Installations that others have made by hand, taken over: from then on they live as if they had always been ours."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from installer.chart.helm import Chart
from tests.parts.application import CHARTS, KEY, Application, app_images, demo_platform, packed
from tests.parts.enclave_program import ROOT, EnclaveProgram
from tests.parts.go_programs import go_program
from tests.parts.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.enclave import Enclave
    from tests.parts.operators import Operator

pytestmark = [pytest.mark.cluster, pytest.mark.controller]

NAMESPACE, OPERATOR_NAMESPACE = "taken", "taken-operator"
RESOURCE = ("wandb", "taken", f"--namespace={NAMESPACE}")
SECRETS = {
    "license": "aaaa.licence-in-clear.cccc",
    "mysql": "database-word-in-clear",
    "access": "access-key-in-clear",
    "secret": "secret-key-in-clear",
}
# An object of the platform's chart whose data nobody wants to lose.
DATA = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: taken-data}
spec: {accessModes: [ReadWriteOnce], storageClassName: "", resources: {requests: {storage: 1Mi}}}
"""
SLOW_HOOK = """
apiVersion: batch/v1
kind: Job
metadata: {name: slow, annotations: {helm.sh/hook: post-install}}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 2
      containers: [{name: slow, image: "{{ .Values.toolsImage }}", args: ["sleep 10"]}]
"""
ADDED = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: taken-added}\n"


@contextlib.contextmanager
def started(enclave: Enclave, folder: Path, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """The program at work; what it says is to be read."""
    env = {"HOME": str(folder), "PATH": "/usr/bin:/bin", "KUBECONFIG": str(enclave.kubeconfig)}
    command = [sys.executable, "-m", "installer", *map(str, arguments)]
    with subprocess.Popen(
        enclave.command(command), cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process


class Site:
    """Two bundles of one platform, answers for it, and what people have done by hand before."""

    def __init__(self, enclave: Enclave, folder: Path, operator: Operator) -> None:
        self.enclave, self.folder, self.operator = enclave, folder, operator
        self.program = EnclaveProgram(enclave, folder)
        changes = {"templates/data.yaml": DATA}
        small = {"web": {"replicas": 1}}
        first = demo_platform(folder / "first", "taken", operator, values=small, changes=changes)
        changes["templates/added.yaml"] = ADDED
        second = demo_platform(folder / "second", "taken", operator, values=small, changes=changes)
        second.version, second.sequence = "2.0", 2
        self.first, self.second = first.write(), second.write()
        for name, text in SECRETS.items():
            (folder / name).touch(mode=0o600)
            (folder / name).write_text(text)
        self.answer()

    def answer(self, *left_out: str) -> None:
        """Write site.yaml, without the answers `left_out`."""
        answers = {
            "license": {"file": "license"},
            "mysql": {"host": "10.99.0.1", "password": {"file": "mysql"}},
            "bucket": {
                "name": "10.99.0.1:9000",
                "path": "taken",
                "access_key": {"file": "access"},
                "secret_key": {"file": "secret"},
            },
        }
        rest = {key: value for key, value in answers.items() if key not in left_out}
        place = {"namespace": NAMESPACE, "operator_namespace": OPERATOR_NAMESPACE}
        self.program.site(**place, host="http://taken.enclave", **rest)

    def options(self) -> list[str | Path]:
        return ["--bundle", self.first, "--key", KEY, "--site", self.folder / "site.yaml", "--output", "json"]

    def load(self) -> None:
        self.program.result(self.program.run("load", *self.options()))

    def preflight(self, *more: str) -> Any:
        return json.loads(self.program.run("preflight", *self.options(), *more).stdout)

    def helm(self, name: str, *arguments: str | Path) -> str:
        """What Helm's own program prints."""
        env = {"HOME": str(self.folder), "PATH": "/usr/bin:/bin", "KUBECONFIG": str(self.enclave.kubeconfig)}
        return self.enclave.run([go_program(name), *arguments, f"--namespace={OPERATOR_NAMESPACE}"], env=env).stdout

    def operator_by_hand(self, helm: str) -> None:
        """The operator's chart, installed with Helm's own program."""
        (self.folder / "operator.tgz").write_bytes(self.operator.chart)
        image = {"repository": f"{self.enclave.registry}/airferry/docker.io/wandb/controller", "tag": "1.22.0"}
        small = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}
        values = {"airgapped": True, "image": {**image, "pullPolicy": "IfNotPresent"}, "resources": small}
        (self.folder / "operator.yaml").write_text(json.dumps(values))
        options: list[str | Path] = [
            "--install",
            "--create-namespace",
            "--values",
            self.folder / "operator.yaml",
            "--wait",
        ]
        self.helm(helm, "upgrade", *options, "operator", self.folder / "operator.tgz")

    def resource_by_hand(self, charts: str, *how: str, **metadata: Any) -> None:
        """The resource as the guide has it, with all secrets in it, and applied with kubectl."""
        place = f"{self.enclave.registry}/airferry/docker.io/demo"
        values = {
            "global": {
                "host": "http://by-hand.enclave",
                "license": SECRETS["license"],
                "mysql": {"host": "10.99.0.1", "user": "wandb", "password": SECRETS["mysql"]},
                "bucket": {
                    "provider": "s3",
                    "name": "10.99.0.1:9000",
                    "accessKey": SECRETS["access"],
                    "secretKey": SECRETS["secret"],
                },
                "motto": "nobody answers this",
            },
            "web": {"replicas": 2, "image": {"repository": f"{place}/httpd", "tag": "1.0"}},
            "worker": {"image": {"repository": f"{place}/worker", "tag": "1.0"}},
            "cache": {"image": {"registry": self.enclave.registry, "repository": "airferry/docker.io/demo/cache"}},
            "migrate": {"image": f"{place}/tools:1.0"},
            "renew": {"image": {"repository": f"{place}/renew", "tag": "1.0"}},
            "backup": {"image": {"name": f"{place}/tools", "tag": "1.0"}},
        }
        obj = {
            "apiVersion": "apps.wandb.com/v1",
            "kind": "WeightsAndBiases",
            "metadata": {"name": "taken", "namespace": NAMESPACE, **metadata},
            "spec": {"chart": {"url": charts, "name": "demo-platform", "version": "1.0.0"}, "values": values},
        }
        self.enclave.kubectl("create", "namespace", NAMESPACE)
        self.enclave.kubectl("apply", *how, "--filename=-", input=json.dumps(obj))
        self.runs()

    def runs(self) -> None:
        """Wait until the controller has made what the resource says, and all of it runs."""
        assert wait_until(lambda: self.resource().get("status", {}).get("phase") == "Completed", 120), self.resource()
        for workload in ("deployment/taken-web", "deployment/taken-worker", "statefulset/taken-cache"):
            self.enclave.kubectl("rollout", "status", workload, f"--namespace={NAMESPACE}", "--timeout=90s")

    def resource(self) -> Any:
        return json.loads(self.enclave.kubectl("get", *RESOURCE, "--output=json", "--show-managed-fields"))

    def uid(self, kind: str, name: str) -> str:
        """What an object keeps as long as it is not made anew."""
        query = (kind, name, f"--namespace={NAMESPACE}", "--output=jsonpath={.metadata.uid}")
        return self.enclave.kubectl("get", *query)

    def operator_uid(self) -> str:
        """The same of the operator's Deployment."""
        query = ("deployment", "wandb-controller-manager", f"--namespace={OPERATOR_NAMESPACE}")
        return self.enclave.kubectl("get", *query, "--output=jsonpath={.metadata.uid}")

    def state(self) -> dict[str, str]:
        """The version of everything that an installation touches; of workloads that of what they shall be."""
        kinds = "deployments,statefulsets,services,configmaps,secrets,serviceaccounts,roles,weightsandbiases"
        query = ("get", kinds, "--all-namespaces", "--output=json")
        items = json.loads(self.enclave.kubectl(*query))["items"]
        return {
            f"{item['kind']} {item['metadata']['name']}": str(
                item["metadata"]["generation"]
                if "template" in item.get("spec", {})
                else item["metadata"]["resourceVersion"]
            )
            for item in items
            if item["metadata"]["namespace"] in (NAMESPACE, OPERATOR_NAMESPACE)
        }

    @contextlib.contextmanager
    def served(self) -> Iterator[str]:
        """The charts as a repository at this URL."""
        address = f"{self.enclave.registry.partition(':')[0]}:8883"
        command = [sys.executable, "-m", "installer", "serve", "--bundle", str(self.first), "--key", str(KEY)]
        with subprocess.Popen(
            self.enclave.command([*command, "--listen", address]),
            cwd=ROOT,
            env={"HOME": str(self.folder), "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as server:
            try:
                assert server.stdout
                assert address in server.stdout.readline()
                yield f"http://{address}/charts"
            finally:
                server.terminate()

    def killed_at(self, word: str) -> None:
        """Take over, and be killed as soon as `word` is said."""
        with started(self.enclave, self.folder, "install", *self.options(), "--take-over") as process:
            assert process.stderr
            heard = []
            for line in process.stderr:
                heard.append(line)
                if word in line:
                    break
            process.send_signal(signal.SIGKILL)
        assert word in heard[-1], "".join(heard)

    def lives(self, helm: str) -> None:
        """Whatever it was before, it is as wanted, and can be upgraded, taken back, and removed, meanwhile also with
        Helm's own program `helm`."""
        program, enclave = self.program, self.enclave
        assert program.result(program.install(self.first))["changed"] == []
        assert program.result(program.run("status", "--name", "taken", "--output", "json"))["ready"]
        assert self.preflight()["ready"]
        spec = self.resource()["spec"]
        assert list(spec["chart"]) == ["path"]
        assert spec["values"]["global"]["host"] == "http://taken.enclave"
        assert spec["values"]["web"]["replicas"] == 1
        self.no_secret_in_clear()
        claim = self.uid("pvc", "taken-data")

        program.result(program.upgrade(self.second))
        assert self.uid("configmap", "taken-added")
        back = program.result(program.run("rollback", "--name", "taken", "--yes", "--output", "json"))
        assert back["installation"]["version"] == "1.0"
        assert "taken-added" not in enclave.kubectl("get", "configmaps", f"--namespace={NAMESPACE}", "--output=name")
        assert self.uid("pvc", "taken-data") == claim
        # Nobody else's fields are in its way.
        (self.folder / "operator.tgz").write_bytes(self.operator.chart)
        self.helm(helm, "upgrade", "operator", self.folder / "operator.tgz", "--reuse-values", "--set=replicaCount=0")
        self.helm(helm, "rollback", "operator", "1")
        self.helm(helm, "rollback", "operator", "2")

        removed = program.result(program.run("uninstall", "--name", "taken", "--yes", "--output", "json"))["removed"]
        assert {"WeightsAndBiases taken/taken", f"release {OPERATOR_NAMESPACE}/operator"} <= set(removed)
        left = enclave.kubectl("get", "all,configmaps", f"--namespace={OPERATOR_NAMESPACE}", "--output=name").split()
        assert [item for item in left if not item.startswith("pod/")] == ["configmap/kube-root-ca.crt"]

    def no_secret_in_clear(self) -> None:
        """Nowhere but in Secrets, and in those only what is secret by its nature: no text of an earlier apply."""
        kinds = self.enclave.kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").split()
        for namespace in (NAMESPACE, OPERATOR_NAMESPACE):
            listed = ",".join(kind for kind in kinds if kind != "secrets")
            text = self.enclave.kubectl("get", listed, f"--namespace={namespace}", "--output=json")
            assert [secret for secret in SECRETS.values() if secret in text] == []


@pytest.fixture
def site(enclave: Enclave, tmp_path: Path, operator: Operator) -> Iterator[Site]:
    """The site; what a test leaves is removed, for operators are rivals."""
    found = Site(enclave, tmp_path, operator)
    yield found
    done = found.program.run("uninstall", "--name", "taken", "--yes", "--timeout", "120")
    assert done.returncode in (0, 42), done.stderr
    with contextlib.suppress(subprocess.CalledProcessError):
        enclave.kubectl("patch", *RESOURCE, "--type=merge", '--patch={"metadata": {"finalizers": null}}')
    namespaces = ("namespace", NAMESPACE, OPERATOR_NAMESPACE)
    enclave.kubectl("delete", *namespaces, "--ignore-not-found", "--timeout=90s")
    enclave.kubectl("delete", "crd", "weightsandbiases.apps.wandb.com", "--ignore-not-found", "--timeout=60s")


def test_a_take_over_that_was_killed_while_helm_was_at_work_makes_nothing_anew(
    enclave: Enclave, namespace: str, tmp_path: Path
) -> None:
    application = Application(tmp_path / "bundle", namespace, images=app_images())
    application.chart(packed(CHARTS / "demo-app", {"templates/slow.yaml": SLOW_HOOK}), release=namespace)
    bundle, program = application.write(), EnclaveProgram(enclave, tmp_path)
    site = program.site(namespace=namespace)
    place = (f"--namespace={namespace}",)
    enclave.kubectl("create", "configmap", namespace, "--from-literal=greeting=theirs", *place)
    metadata = ("get", "configmap", namespace, "--output=jsonpath={.metadata.uid}", *place)
    theirs = enclave.kubectl(*metadata)
    options: list[str | Path] = ["install", "--bundle", bundle, "--key", KEY, "--site", site, "--take-over"]
    with started(enclave, tmp_path, *options) as process:
        active = ("get", "job", "slow", "--ignore-not-found", "--output=jsonpath={.status.active}", *place)
        assert wait_until(lambda: enclave.kubectl(*active) == "1", 90)
        process.send_signal(signal.SIGKILL)
    status = ("get", "secrets", "--selector=owner=helm", "--output=jsonpath={.items[*].metadata.labels.status}", *place)
    assert enclave.kubectl(*status) == "pending-install"
    program.result(program.install(bundle, "--take-over"))
    assert enclave.kubectl(*status) == "deployed"
    assert enclave.kubectl(*metadata) == theirs


def test_helm_and_kubectl_by_the_guide(site: Site) -> None:
    site.load()
    with site.served() as charts:
        site.operator_by_hand("helm")
        site.resource_by_hand(charts)
    claim, before = site.uid("pvc", "taken-data"), site.state()

    site.answer("mysql")
    refused = site.program.install(site.first)
    assert refused.returncode == 33, refused.stderr
    chart = Chart.load(site.operator.chart)
    made = f"Helm release {OPERATOR_NAMESPACE}/operator was made by others (chart operator {chart.version})"
    assert made in refused.stderr
    assert "WeightsAndBiases taken/taken was set by others" in refused.stderr
    lacking = site.preflight("--take-over")
    assert ["mysql.password" in item["next"] for item in lacking["refusals"]] == [True], lacking
    site.answer()
    found = site.preflight("--take-over")
    assert found["ready"], found
    lines = found["taken_over"]
    resource = "WeightsAndBiases taken/taken: "
    by = "kubectl-client-side-apply"
    assert f"{resource}overwriting .spec.values.web.replicas of {by}: 2 -> 1" in lines
    assert f"{resource}removing .spec.values.global.license of {by}: (not shown)" in lines
    assert f'{resource}removing .spec.values.global.motto of {by}: "nobody answers this"' in lines
    assert any(line.startswith(f"{resource}removing .spec.chart.url of {by}") for line in lines)
    assert any("Helm release taken-operator/operator: ~ value: resources.limits.memory" in line for line in lines)
    planned = site.program.run("install", *site.options(), "--take-over", "--dry-run")
    assert set(lines) <= set(site.program.result(planned)["changes"]["overwritten"])
    for text in (refused.stderr, json.dumps(found), planned.stdout, planned.stderr):
        assert [secret for secret in SECRETS.values() if secret in text] == []
    assert site.state() == before

    site.killed_at("release taken-operator/operator")
    site.killed_at("applied WeightsAndBiases")
    done = site.program.install(site.first, "--take-over")
    assert all(item["ready"] for item in site.program.result(done)["workloads"])
    assert site.uid("pvc", "taken-data") == claim
    site.lives("helm")


def test_helm_3_and_a_tool_that_applies_from_a_repository(site: Site) -> None:
    site.load()
    site.operator_by_hand("helm-3")
    with site.served() as charts:
        tracked = {"argocd.argoproj.io/tracking-id": "platform:apps.wandb.com/WeightsAndBiases:taken/taken"}
        by_tool = ("--server-side", "--field-manager=argocd-controller")
        site.resource_by_hand(charts, *by_tool, annotations=tracked)
    refused = site.program.install(site.first)
    assert refused.returncode == 33, refused.stderr
    assert "removing .spec.values.global.motto of argocd-controller" in refused.stderr
    assert (
        "warning: Argo CD keeps WeightsAndBiases taken/taken in step with its repository (platform)" in refused.stderr
    )
    done = site.program.install(site.first, "--take-over")
    assert all(item["ready"] for item in site.program.result(done)["workloads"])
    assert "argocd" not in json.dumps(site.resource())
    site.lives("helm-3")


def test_what_was_rendered_and_applied(site: Site) -> None:
    """By kubectl in its two ways: what it notes of itself in annotations holds whole Secrets."""
    site.load()
    rendered = site.folder / "rendered"
    site.program.result(site.program.run("render", *site.options(), "--output-dir", rendered))
    apply = ("apply", "-k")
    site.enclave.kubectl(*apply, str(rendered / "namespaces"))
    for path in (rendered / "secrets").glob("*.yaml"):
        text = path.read_text()
        for name, secret in (("license", "license"), ("MYSQL_PASSWORD", "mysql"), ("SECRET_KEY", "secret")):
            text = text.replace(f"{name}: VALUE-FROM-SITE", f"{name}: {SECRETS[secret]}")
        site.enclave.kubectl("apply", "--filename=-", input=text.replace("VALUE-FROM-SITE", SECRETS["access"]))
    for folder in ("1-beforehand", "2-operator"):
        site.enclave.kubectl(*apply, str(rendered / folder), "--server-side")
    site.enclave.kubectl("wait", "--for=condition=Established", "crd/weightsandbiases.apps.wandb.com", "--timeout=60s")
    site.enclave.kubectl(*apply, str(rendered / "3-taken"))
    site.runs()
    operator, before = site.operator_uid(), site.state()

    refused = site.program.install(site.first)
    assert refused.returncode == 33, refused.stderr
    assert "of release taken-operator/operator there are already: " in refused.stderr
    assert "is a W&B operator as well" not in refused.stderr
    assert site.preflight("--take-over")["ready"]
    assert site.state() == before

    site.killed_at("release taken-operator/operator")
    done = site.program.install(site.first, "--take-over")
    assert all(item["ready"] for item in site.program.result(done)["workloads"])
    assert site.operator_uid() == operator, "nothing was made anew"
    assert "last-applied" not in site.enclave.kubectl("get", "secrets", f"--namespace={NAMESPACE}", "--output=yaml")
    site.lives("helm")
