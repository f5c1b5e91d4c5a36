"""Broken situations on the real cluster: the program names the cause and ends soon after it can be seen.

Most of them are provoked side by side, each in a namespace of its own, since each takes its time to show.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import secrets
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.application import Application, packed
from tests.parts.enclave_program import SOON, EnclaveProgram, told_by
from tests.parts.process import wait_until
from tests.parts.registry import Registry
from tests.parts.runnable import job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.parts.enclave import Enclave

pytestmark = pytest.mark.cluster

TEMPLATE = """
{{- with .Values.hook }}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ $.Release.Name }}-hook
  annotations: {helm.sh/hook: pre-install}
spec: {backoffLimit: 0, template: {spec: {{ toJson . }}}}
---
{{- end }}
{{- with .Values.rule }}
{{ toJson . }}
---
{{- end }}
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}"}
spec:
  progressDeadlineSeconds: {{ .Values.deadline }}
  minReadySeconds: {{ .Values.steady }}
  selector: {matchLabels: {app: "{{ .Release.Name }}"}}
  template:
    metadata: {labels: {app: "{{ .Release.Name }}"}}
    spec: {{ toJson .Values.pod }}
"""
TOOLS = "docker.io/demo/tools:1.0"
# Who asks for more than this and sets no limit gets one that is below the request.
LIMITS = {
    "apiVersion": "v1",
    "kind": "LimitRange",
    "metadata": {"name": "small"},
    "spec": {"limits": [{"type": "Container", "default": {"cpu": "200m"}}]},
}
QUOTA = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
CLAIM = {
    "accessModes": ["ReadWriteOnce"],
    "resources": {"requests": {"storage": "1Gi"}},
    "storageClassName": "absent-class",
}


def pod(script: str = "sleep 600", spec: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A pod of one container; `more` is of the container."""
    return {
        "terminationGracePeriodSeconds": 1,
        **(spec or {}),
        "containers": [{"name": "main", "image": TOOLS, "args": [script], **more}],
    }


def hook(script: str, **spec: Any) -> dict[str, Any]:
    return {"restartPolicy": "Never", **pod(script, spec)}


def bundle(folder: Path, name: str, image: str = TOOLS, labels: Mapping[str, str] | None = None, **values: Any) -> Path:
    """A bundle with one image, whose chart makes a Deployment, and a hook and a rule where `values` have one.

    `labels` are those of its namespace.
    """
    application = Application(folder, name, images={image: job()})
    application.profile["namespaces"] = {name: {"labels": dict(labels or {})}}
    application.document("values.yaml", {"deadline": 600, "steady": 0, "pod": pod(), **values}, "values")
    chart = folder / "app"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: app\nversion: 1.0.0\n")
    (chart / "templates" / "app.yaml").write_text(TEMPLATE)
    application.chart(packed(chart), release=name, values="values.yaml")
    return application.write()


Objects = list[dict[str, Any]]


def containers(objects: Objects) -> Iterator[dict[str, Any]]:
    for item in objects:
        if item["kind"] == "Pod":
            yield from item["status"].get("containerStatuses") or []


def waits(*reasons: str) -> Callable[[Objects], bool]:
    """A container waits for one of these reasons."""
    return lambda objects: any(
        (each["state"].get("waiting") or {}).get("reason") in reasons for each in containers(objects)
    )


def failed(objects: Objects) -> bool:
    """A container has ended with a failure."""
    states = [each.get(key) or {} for each in containers(objects) for key in ("state", "lastState")]
    return any((state.get("terminated") or {}).get("exitCode") for state in states)


def condition(kind: str, name: str, reason: str) -> Callable[[Objects], bool]:
    """An object of `kind` has the condition `name` for `reason`."""
    return lambda objects: any(
        each["type"] == name and each.get("reason") == reason
        for item in objects
        if item["kind"] == kind
        for each in item["status"].get("conditions") or []
    )


@dataclass(frozen=True)
class Case:
    """A broken situation: the chart's values, when the API shows it, and what must be said of it."""

    values: dict[str, Any]
    visible: Callable[[Objects], bool]
    cause: str
    object: str
    said: str
    step: str
    """{place} is `namespace/name-of-the-release` in `object`."""
    labels: dict[str, str] = field(default_factory=dict)
    """Of the namespace, from the profile. Rules that are there beforehand let nobody begin; those of the application
    come with it."""


CASES = {
    "pull secret": Case(
        {"pod": pod(spec={"imagePullSecrets": [{"name": "wrong"}]}, imagePullPolicy="Always")},
        waits("ErrImagePull", "ImagePullBackOff"),
        "pull-refused",
        "pod {place}-",
        "401 Unauthorized",
        "registry.credentials in site.yaml",
    ),
    "cpu": Case(
        {"pod": pod(resources={"requests": {"cpu": "500"}})},
        condition("Pod", "PodScheduled", "Unschedulable"),
        "node-too-small",
        "pod {place}-",
        "it asks for 500 CPUs",
        "lower its requests",
    ),
    "storage class": Case(
        # Not a claim of the chart: that would be refused before anything is applied.
        {"pod": pod(spec={"volumes": [{"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": CLAIM}}}]})},
        condition("Pod", "PodScheduled", "Unschedulable"),
        "storage-class-missing",
        "volume claim {place}-",
        "storage class absent-class does not exist",
        "name one that exists in site.yaml",
    ),
    "crash": Case(
        # Without a probe it is ready until it ends, which a busy node may not notice for a while.
        {"pod": pod("echo cannot find my database; exit 3"), "steady": 10},
        failed,
        "crash",
        "pod {place}-",
        "cannot find my database",
        "kubectl logs -n {namespace}",
    ),
    "probe": Case(
        {
            "deadline": 15,
            "pod": pod(
                "echo still warming up; sleep 600",
                readinessProbe={"exec": {"command": ["/bin/false"]}, "periodSeconds": 1},
            ),
        },
        condition("Deployment", "Progressing", "ProgressDeadlineExceeded"),
        "probe-failing",
        "pod {place}-",
        "still warming up",
        "read its log",
    ),
    "secret": Case(
        {"pod": pod(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "a"}}}])},
        waits("CreateContainerConfigError"),
        "secret-missing",
        "pod {place}-",
        'secret "absent" not found',
        "create the Secret absent",
    ),
    "volume": Case(
        {
            "pod": pod(
                spec={"volumes": [{"name": "data", "configMap": {"name": "absent"}}]},
                volumeMounts=[{"name": "data", "mountPath": "/data"}],
            )
        },
        waits("ContainerCreating"),
        "config-map-missing",
        "pod {place}-",
        'configmap "absent" not found',
        "create the ConfigMap absent",
    ),
    "account": Case(
        {"pod": pod(spec={"serviceAccountName": "absent"})},
        condition("Deployment", "ReplicaFailure", "FailedCreate"),
        "service-account-missing",
        "Deployment {place}",
        'serviceaccount "absent" not found',
        "it restores what is missing",
    ),
    "quota": Case(
        {"pod": pod(), "rule": QUOTA},
        condition("Deployment", "ReplicaFailure", "FailedCreate"),
        "quota",
        "Deployment {place}",
        "exceeded quota: none",
        "have the quota raised",
    ),
    "limit range": Case(
        {"pod": pod(resources={"requests": {"cpu": "300m"}}), "rule": LIMITS},
        condition("Deployment", "ReplicaFailure", "FailedCreate"),
        "limit-range",
        "Deployment {place}",
        "must be less than or equal to cpu limit of 200m",
        "within the namespace's LimitRange",
    ),
    "pod security": Case(
        {"pod": pod()},
        condition("Deployment", "ReplicaFailure", "FailedCreate"),
        "pod-security",
        "Deployment {place}",
        'violates PodSecurity "restricted:latest"',
        "pod-security.kubernetes.io/enforce",
        labels=RESTRICTED,
    ),
    "hook fails": Case(
        {"hook": hook("echo the schema is newer than I am; exit 4")},
        condition("Job", "Failed", "BackoffLimitExceeded"),
        "crash",
        "pod {place}-hook-",
        "the schema is newer than I am",
        "read its whole log",
    ),
    "hook hangs": Case(
        {"hook": hook("true", nodeSelector={"disk": "golden"})},
        condition("Pod", "PodScheduled", "Unschedulable"),
        "no-matching-node",
        "pod {place}-hook-",
        "it wants nodes with disk=golden",
        "label a node",
    ),
}


@dataclass
class Attempt:
    """An installation that cannot succeed. Times are monotonic seconds."""

    namespace: str
    name: str
    program: EnclaveProgram
    bundle: Path
    seen: float = 0.0
    ended: float = 0.0
    done: subprocess.CompletedProcess[str] | None = None
    status: subprocess.CompletedProcess[str] | None = None

    def run(self) -> None:
        self.done = self.program.install(self.bundle, timeout=280)
        self.ended = time.monotonic()
        self.status = self.program.run("status", "--name", self.name, "--output", "json", seconds=SOON)


@dataclass
class Watch:
    """Notes when the API shows what is wrong with each attempt."""

    enclave: Enclave
    attempts: dict[str, Attempt]
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.stop.wait(2):
            found = self.enclave.kubectl("get", "pods,deployments,jobs", "--all-namespaces", "--output=json")
            items = json.loads(found)["items"]
            for case, attempt in self.attempts.items():
                own = [item for item in items if item["metadata"]["namespace"] == attempt.namespace]
                if not attempt.seen and CASES[case].visible(own):
                    attempt.seen = time.monotonic()


@pytest.fixture(scope="module")
def private_registry(enclave: Enclave, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A second registry, which asks for a password; the node knows that it speaks plain HTTP."""
    folder, confinement = tmp_path_factory.mktemp("registry"), enclave.confinement
    registry = Registry(
        folder,
        host="10.99.0.1",
        users={"puller": "the-right-one"},
        prefix=confinement.full_prefix(),
        env=confinement.environment("private-registry"),
    )
    with registry:
        hosts = enclave.folder / "config" / "certs.d" / registry.address
        hosts.mkdir()
        (hosts / "hosts.toml").write_text(f'[host."{registry.url}"]\ncapabilities = ["pull", "resolve"]\n')
        yield registry
        shutil.rmtree(hosts)


@pytest.fixture(scope="module")
def attempts(
    enclave: Enclave, private_registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Attempt]]:
    """All cases, tried side by side and ended."""
    found: dict[str, Attempt] = {}
    for case, wanted in CASES.items():
        name = f"app-{secrets.token_hex(3)}"
        folder = tmp_path_factory.mktemp(name)
        program = EnclaveProgram(enclave, folder)
        enclave.kubectl("create", "namespace", name)
        answers: dict[str, Any] = {"namespace": name}
        if case == "pull secret":
            answers["registry"] = _with_password(enclave, private_registry, folder, name)
        program.site(**answers)
        path = bundle(folder / "bundle", name, labels=wanted.labels, **wanted.values)
        found[case] = Attempt(name, name, program, path)
    watch = Watch(enclave, found)
    with ThreadPoolExecutor(len(found) + 1) as threads:
        watching = threads.submit(watch.run)
        running = [threads.submit(attempt.run) for attempt in found.values()]
        for each in running:
            each.result()
        watch.stop.set()
        watching.result()
    yield found
    enclave.abandon(*(attempt.namespace for attempt in found.values()))


def _with_password(enclave: Enclave, registry: Registry, folder: Path, namespace: str) -> dict[str, Any]:
    """Answers with the right password for loading; the Secret for pulling has another one."""
    (folder / "password").write_text("the-right-one")
    enclave.kubectl(
        *("create", "secret", "docker-registry", "wrong", f"--docker-server={registry.address}"),
        *("--docker-username=puller", "--docker-password=the-wrong-one", f"--namespace={namespace}"),
    )
    login = {"username": "puller", "password": {"file": "password"}}
    return {"host": registry.address, "plain_http": True, "credentials": login}


@pytest.mark.parametrize("case", CASES)
def test_an_installation_ends_soon_with_the_cause(attempts: dict[str, Attempt], case: str) -> None:
    attempt, wanted = attempts[case], CASES[case]
    place = {"place": f"{attempt.namespace}/{attempt.name}", "namespace": attempt.namespace}
    assert attempt.done is not None
    assert attempt.status is not None
    said = attempt.done.stderr
    assert attempt.done.returncode == 32, said
    assert attempt.seen, f"never visible; {said}"
    assert attempt.ended - attempt.seen < SOON
    # One line holds all of it.
    words = (wanted.object, wanted.said, wanted.step)
    lines = [line for line in said.splitlines() if all(word.format(**place) in line for word in words)]
    assert lines, said

    # `status` comes to the same result at once.
    assert attempt.status.returncode == 32, attempt.status.stderr
    causes = told_by(json.loads(attempt.status.stdout))
    assert wanted.cause in [each["cause"] for each in causes], causes
    (found, *_) = (each for each in causes if each["cause"] == wanted.cause)
    assert wanted.object.format(**place) in found["object"]
    assert wanted.said in found["detail"]
    assert wanted.step.format(**place) in found["next"]


def pods(enclave: Enclave, namespace: str) -> Objects:
    found: Objects = json.loads(enclave.kubectl("get", "pods", f"--namespace={namespace}", "--output=json"))["items"]
    return found


def seen_when(condition: Callable[[], bool], seconds: float = 90) -> float:
    """The moment at which the API shows it. Raises AssertionError if it does not."""
    assert wait_until(condition, seconds)
    return time.monotonic()


def test_an_image_that_the_registry_has_lost(enclave: Enclave, namespace: str, tmp_path: Path) -> None:
    program, name = EnclaveProgram(enclave, tmp_path), f"app-{secrets.token_hex(3)}"
    image = f"docker.io/demo/{name}:1.0"  # of its own: other tests must not lose theirs
    spec = pod(imagePullPolicy="Always")
    spec["containers"][0]["image"] = image
    path = bundle(tmp_path / "bundle", name, image, pod=spec)
    program.site(namespace=namespace)
    program.result(program.install(path))
    (repository,) = (enclave.folder / "registry").rglob(f"repositories/airferry/docker.io/demo/{name}")
    shutil.rmtree(repository)
    enclave.kubectl("delete", "pods", "--all", f"--namespace={namespace}")

    seen = seen_when(lambda: waits("ErrImagePull", "ImagePullBackOff")(pods(enclave, namespace)))
    found = program.cause(name, "image-missing", seen + SOON)
    assert found["object"].startswith(f"pod {namespace}/{name}-")
    assert f"image {enclave.registry}/airferry/docker.io/demo/{name}:1.0 cannot be pulled" in found["detail"]
    assert "the registry says the same" in found["detail"]
    assert "run `load`" in found["next"]
    start = time.monotonic()
    done = program.run("wait", "--name", name, "--timeout", "280")
    assert time.monotonic() - start < SOON
    assert done.returncode == 32
    assert found["detail"] in done.stderr
    # `install` loads it anew, and the node tries again by itself.
    program.result(program.install(path))
    assert program.result(program.run("wait", "--name", name, "--output", "json"))["ready"]


@contextlib.contextmanager
def without_api_server(enclave: Enclave) -> Iterator[None]:
    """The API server is away meanwhile; afterwards the cluster is as it was before."""
    command: Sequence[str] = enclave.stop("kube-apiserver")
    try:
        yield
    finally:
        enclave.start_again("kube-apiserver", command)
        assert wait_until(lambda: reported(enclave) != "", 90)
        back = dt.datetime.now(dt.UTC).isoformat()
        for part in CLIENTS:
            enclave.start_again(part, enclave.stop(part))
        # Until it has reported again, a node may count as ready that is soon taken for one that is away.
        assert wait_until(lambda: reported(enclave) > back, 90)
        enclave.kubectl("wait", "node", "--all", "--for=condition=Ready", "--timeout=90s")


CLIENTS = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
"""The longer the API server is away, the more seldom these look for it, until the pauses are a minute long (client-go,
tools/cache/reflector.go), and the kubelet reports nothing of a node that it still takes for ready. Started anew they do
not pause.
"""


def reported(enclave: Enclave) -> str:
    """When the node last reported, in ISO 8601; empty while nobody answers."""
    query = ("get", "leases", "--namespace=kube-node-lease", "--output=jsonpath={.items[0].spec.renewTime}")
    try:
        return enclave.kubectl(*query)
    except subprocess.CalledProcessError:
        return ""


def test_an_api_server_that_is_restarted_or_gone_for_good(enclave: Enclave, tmp_path: Path) -> None:
    """One absence for two installations: the one has the time to wait until it is over, the other has not."""
    patient, hasty = (f"app-{secrets.token_hex(3)}" for _ in range(2))
    late = {"exec": {"command": ["/bin/true"]}, "initialDelaySeconds": 30, "periodSeconds": 1}

    def install(name: str, seconds: int) -> subprocess.CompletedProcess[str]:
        folder = tmp_path / name
        folder.mkdir()
        program = EnclaveProgram(enclave, folder)
        program.site(namespace=name)
        return program.install(bundle(folder / "bundle", name, pod=pod(readinessProbe=late)), timeout=seconds)

    def started(name: str) -> bool:
        return any(containers([{**item, "kind": "Pod"} for item in pods(enclave, name)]))

    with ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(install, patient, 280)
        assert wait_until(lambda: started(patient), 60)
        ending = threads.submit(install, hasty, 30)
        assert wait_until(lambda: started(hasty), 60)
        with without_api_server(enclave):
            ended = ending.result()
        done = waiting.result()
    enclave.abandon(patient, hasty)
    assert done.returncode == 0, done.stderr
    assert "the API server does not answer; waiting for it" in done.stderr
    assert ended.returncode == 30, ended.stderr
    assert "run the same command again" in ended.stderr
