"""What stands in the way of an installation is told before anything is written: on a real API server, all at once."""

from __future__ import annotations

import json
import re
import secrets
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.application import KEY, Application, demo_platform, packed
from tests.parts.bundles import packed_chart
from tests.parts.cluster_files import NODE
from tests.parts.enclave_program import SOON, EnclaveProgram
from tests.parts.images import Image, Platform
from tests.parts.process import wait_until
from tests.parts.registry import Registry, read_accesses
from tests.parts.runnable import busybox, job

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.enclave import Enclave
    from tests.parts.operators import Operator

pytestmark = pytest.mark.cluster

NAME = "needy"
IMAGE = "docker.io/demo/tools:1.0"
# Each part is switched on by a value.
TEMPLATES = {
    "pods.yaml": """
{{- range $name, $part := .Values.parts }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ $name }}}
spec:
  selector: {matchLabels: {app: {{ $name }}}}
  template:
    metadata: {labels: {app: {{ $name }}}}
    spec:
      {{- with $.Values.priority }}
      priorityClassName: {{ . }}
      {{- end }}
      containers:
        - name: main
          image: {{ $part.image }}
          args: [sleep 600]
          resources: {requests: {cpu: {{ $.Values.cpu | quote }}}}
          {{- with $.Values.secret }}
          env: [{name: A, valueFrom: {secretKeyRef: {{ toJson . }}}}]
          {{- end }}
{{- end }}
""",
    "ingress.yaml": """
{{- with .Values.ingress }}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  ingressClassName: {{ .class }}
  tls: [{secretName: {{ .tls }}}]
  rules: [{host: a.b, http: {paths: [{path: /, pathType: Prefix,
    backend: {service: {name: web, port: {number: 80}}}}]}}]
{{- end }}
""",
    "claim.yaml": """
{{- with .Values.claim }}
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {{ toJson . }}
{{- end }}
""",
    "gadget.yaml": """
{{- if .Values.gadget }}
apiVersion: gadgets.example.com/v7
kind: Gadget
metadata: {name: mine}
{{- end }}
""",
    "role.yaml": """
{{- if .Values.role }}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [secrets], verbs: [get, deletecollection]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: default, namespace: {{ .Release.Namespace }}}]
{{- end }}
""",
}
CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
ROLES = "roles.rbac.authorization.k8s.io reader"
CLUSTER_WIDE = "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings"
LOCAL = (
    "deployments,statefulsets,jobs,services,configmaps,secrets,serviceaccounts,ingresses,persistentvolumeclaims,roles,"
    "rolebindings"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with one image and a chart that asks for as much as it is told to."""
    folder = tmp_path_factory.mktemp("bundle")
    application = Application(folder, NAME, images={IMAGE: job()})
    chart = folder / "needy"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: needy\nversion: 1.0.0\n")
    (chart / "values.yaml").write_text(json.dumps({"parts": {"main": {"image": IMAGE}}, "cpu": "1m"}))
    for name, text in TEMPLATES.items():
        (chart / "templates" / name).write_text(text)
    application.chart(packed(chart), release=NAME)
    return application.write()


@pytest.fixture
def program(enclave: Enclave, tmp_path: Path) -> EnclaveProgram:
    return EnclaveProgram(enclave, tmp_path)


def state(enclave: Enclave, namespace: str) -> dict[str, Any]:
    """All that an installation could have written: objects with their versions, what was sent to the registry."""
    found: dict[str, Any] = {}
    for where in (["get", CLUSTER_WIDE], ["get", LOCAL, f"--namespace={namespace}"]):
        items = json.loads(enclave.kubectl(*where, "--output=json"))["items"]
        found |= {
            f"{item['kind']} {item['metadata']['name']}": item["metadata"]["resourceVersion"]
            for item in items
            if "deletionTimestamp" not in item["metadata"]  # what an earlier test left
        }
    accesses = read_accesses(enclave.registry_log)
    found["sent"] = [each for each in accesses if each.method not in ("GET", "HEAD") and each.status < 300]
    found["files"] = sorted(str(path) for path in (enclave.folder / "registry").rglob("*") if path.is_file())
    return found


REFUSALS: dict[str, tuple[dict[str, Any], int, list[str]]] = {
    "public image": (
        {"parts": {"main": {"image": "quay.io/other/tools:2"}}},
        40,
        ["quay.io/other/tools:2: points outside", f"container main); named by charts.{NAME}.values.parts.main.image"],
    ),
    "image that the bundle lacks": (
        {"parts": {"more": {"image": "docker.io/demo/more:1.0"}}},
        40,
        ["docker.io/demo/more:1.0: points outside"],
    ),
    "ingress class": (
        {"ingress": {"class": "absent", "tls": ""}},
        40,
        ["wants the ingress class 'absent'", "has none"],
    ),
    "storage class": ({"claim": {**CLAIM, "storageClassName": "absent"}}, 40, ["wants the storage class 'absent'"]),
    "default storage class": ({"claim": CLAIM}, 40, ["names no storage class, and this cluster has no default one"]),
    "priority class": (
        {"priority": "absent"},
        40,
        ["wants the priority class 'absent'", "has system-cluster-critical"],
    ),
    "secret": ({"secret": {"name": "absent", "key": "a"}}, 40, ["Secret NAMESPACE/absent does not exist"]),
    "key of a secret": ({"secret": {"name": "there", "key": "a"}}, 40, ["there has no key 'a'", "it has b"]),
    "tls secret": ({"ingress": {"class": "x", "tls": "there"}}, 40, ["there has no key 'tls.key'", "no key 'tls.crt'"]),
    "kind": (
        {"gadget": True},
        33,
        ["no Gadget in gadgets.example.com/v7, which Gadget NAMESPACE/mine (chart needy) is"],
    ),
    "several": (
        {"gadget": True, "claim": CLAIM, "secret": {"name": "absent", "key": "a"}},
        33,
        ["no Gadget in", "names no storage class", "Secret NAMESPACE/absent does not exist"],
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_the_cluster_lacks_is_told_before_anything_is_written(
    enclave: Enclave, namespace: str, program: EnclaveProgram, bundle: Path, case: str
) -> None:
    values, code, words = REFUSALS[case]
    enclave.kubectl("create", "secret", "generic", "there", "--from-literal=b=1", f"--namespace={namespace}")
    program.site(namespace=namespace, charts={NAME: {"values": values}})
    before = state(enclave, namespace)
    done = program.install(bundle)
    assert done.returncode == code, done.stderr
    for text in words:
        assert text.replace("NAMESPACE", namespace) in done.stderr
    assert state(enclave, namespace) == before


def test_preflight_prints_all_of_it_and_goes_on_with_warnings(
    enclave: Enclave, namespace: str, program: EnclaveProgram, bundle: Path
) -> None:
    program.site(namespace=namespace, charts={NAME: {"values": {"cpu": "500", "gadget": True, "claim": CLAIM}}})
    options = ("--bundle", bundle, "--key", KEY, "--site", program.folder / "site.yaml", "--output", "json")
    before = state(enclave, namespace)
    done = program.run("preflight", *options)
    assert done.returncode == 33, done.stderr
    told = json.loads(done.stdout)
    assert [item["exit_code"] for item in told["refusals"]] == [33, 40]
    assert any("CPUs" in item["what"] for item in told["warnings"])
    assert all(item["next"] for item in (*told["refusals"], *told["warnings"]))

    program.site(namespace=namespace)
    assert json.loads(program.run("preflight", *options).stdout)["ready"]
    assert state(enclave, namespace) == before


def test_images_for_another_architecture_are_told(enclave: Enclave, namespace: str, program: EnclaveProgram) -> None:
    image = Image((busybox(),), platform=Platform("arm64", variant="v8"))
    application = Application(program.folder / "arm", "arm", images={IMAGE: image})
    application.chart(packed_chart("greeter", "1.0.0"), release="greeter")
    bundle = application.write()
    program.site(namespace=namespace)
    before = state(enclave, namespace)
    done = program.install(bundle)
    assert done.returncode == 33, done.stderr
    assert "no node can run these images: they are for linux/arm64, the nodes are linux/amd64" in done.stderr
    assert state(enclave, namespace) == before


def test_a_namespace_on_its_way_out_is_told_with_what_it_waits_for(
    enclave: Enclave, program: EnclaveProgram, bundle: Path
) -> None:
    name = f"test-{secrets.token_hex(4)}"
    held = {"name": "held", "namespace": name, "finalizers": ["example.com/hold"]}
    enclave.kubectl("create", "namespace", name)
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": held}
    enclave.kubectl("apply", "--filename=-", input=json.dumps(config))
    try:
        enclave.kubectl("delete", "namespace", name, "--wait=false")
        waits = "--for=condition=NamespaceFinalizersRemaining"
        enclave.kubectl("wait", f"namespace/{name}", waits, "--timeout=60s")
        program.site(namespace=name)
        done = program.install(bundle)
    finally:
        free = '--patch={"metadata": {"finalizers": null}}'
        enclave.kubectl("patch", "configmap", "held", f"--namespace={name}", "--type=merge", free)
    assert done.returncode == 33, done.stderr
    assert f"namespace {name} is being deleted since 20" in done.stderr
    assert "finalizers remaining: example.com/hold in 1 resource instances" in done.stderr


def test_a_node_that_is_away_is_told_before_an_installation_and_after(
    enclave: Enclave, namespace: str, program: EnclaveProgram, bundle: Path
) -> None:
    program.site(namespace=namespace)
    program.result(program.install(bundle))
    command = enclave.stop("kubelet")
    try:
        # What the kubelet reports of a full disk, and what Kubernetes makes of it.
        full = {"status": {"conditions": [{"type": "DiskPressure", "status": "True", "message": "no space left"}]}}
        enclave.kubectl("patch", "node", NODE, "--subresource=status", f"--patch={json.dumps(full)}")
        query = ("get", "node", NODE, "--output=jsonpath={.spec.taints[*].key}")
        assert wait_until(lambda: "node.kubernetes.io/disk-pressure" in enclave.kubectl(*query), 30)
        short = program.install(bundle)
        # Kubernetes waits for 50 s (kube-controller-manager, --node-monitor-grace-period).
        enclave.kubectl("wait", "node", "--all", "--for=condition=Ready=Unknown", "--timeout=90s")
        done = program.install(bundle)
        cause = program.cause(NAME, "node-not-ready", time.monotonic() + SOON)
    finally:
        enclave.start_again("kubelet", command)
        enclave.kubectl("wait", "node", "--all", "--for=condition=Ready", "--timeout=90s")
    assert short.returncode == 33, short.stderr
    assert f"no node takes pods: node {NODE} reports DiskPressure (no space left)" in short.stderr
    assert done.returncode == 33, done.stderr
    assert re.search("no node takes pods: node .* is not ready: Kubelet stopped posting node status", done.stderr)
    assert cause["object"].startswith(f"pod {namespace}/main-")
    assert "Kubelet stopped posting node status" in cause["detail"]


def restricted(enclave: Enclave, program: EnclaveProgram, namespace: str, rules: list[dict[str, Any]]) -> Path:
    """A kubeconfig of somebody who may do what `rules` say in `namespace`, and nothing else."""
    here = f"--namespace={namespace}"
    enclave.kubectl("create", "serviceaccount", "somebody", here)
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "somebody"},
        "rules": rules,
    }
    enclave.kubectl("apply", here, "--filename=-", input=json.dumps(role))
    who = f"--serviceaccount={namespace}:somebody"
    enclave.kubectl("create", "rolebinding", "somebody", "--role=somebody", who, here)
    config = json.loads(enclave.kubectl("config", "view", "--raw", "--flatten", "--output=json"))
    config["users"][0]["user"] = {"token": enclave.kubectl("create", "token", "somebody", here).strip()}
    path = program.folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


def test_every_missing_verb_is_named(enclave: Enclave, namespace: str, program: EnclaveProgram, bundle: Path) -> None:
    every = ["get", "list", "watch", "create", "patch", "delete", "update"]
    rules = [
        {"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": every},
        {"apiGroups": [""], "resources": ["pods", "events"], "verbs": ["get", "list"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list", "create"]},
        {"apiGroups": ["apps"], "resources": ["statefulsets", "daemonsets"], "verbs": ["get", "list"]},
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": every},
    ]
    config = restricted(enclave, program, namespace, rules)
    program.site(namespace=namespace, charts={NAME: {"values": {"role": True}}})
    before = state(enclave, namespace)
    done = program.install(bundle, "--kubeconfig", str(config))
    assert done.returncode == 31, done.stderr
    for text in (
        f"watch, patch, delete deployments.apps in namespace {namespace}",
        f"delete pods in namespace {namespace}",
        f"get pods/log in namespace {namespace}",
        f"get, list, delete jobs.batch in namespace {namespace}",
        f"escalate {ROLES} in namespace {namespace}, or else itself hold what it grants: deletecollection secrets",
        f"bind {ROLES} in namespace {namespace}, or else itself hold what it grants: see above",
    ):
        assert any(line.strip().startswith(text) for line in done.stderr.splitlines())
    assert "configmaps" not in done.stderr
    assert "statefulsets" not in done.stderr
    assert json.loads(config.read_text())["users"][0]["user"]["token"] not in done.stderr
    assert state(enclave, namespace) == before


def test_who_holds_exactly_what_is_asked_for_can_install(
    enclave: Enclave, namespace: str, program: EnclaveProgram, bundle: Path
) -> None:
    """The list of permissions is no longer and no shorter than what is needed: also for the roles of a chart."""
    manage = ["get", "list", "watch", "create", "patch", "delete"]
    rules = [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": [*manage, "update", "deletecollection"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": manage},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "delete"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": manage},
        {"apiGroups": ["apps"], "resources": ["statefulsets", "daemonsets"], "verbs": ["get", "list"]},
        {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["list"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "delete"]},
        {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["get", "list"]},
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "verbs": ["get", "create", "patch", "delete"],
        },
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": manage},
    ]
    config = restricted(enclave, program, namespace, rules)
    program.site(namespace=namespace, charts={NAME: {"values": {"role": True}}})
    done = program.install(bundle, "--kubeconfig", str(config))
    assert program.result(done)["workloads"][0]["ready"]
    assert "warning: not checked" in done.stderr  # nodes, for one


def test_a_release_of_others_is_replaced_only_on_demand(
    enclave: Enclave, namespace: str, program: EnclaveProgram, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def as_if_by_others(revision: int) -> None:
        place = (f"sh.helm.release.v1.{NAME}.v{revision}", f"--namespace={namespace}")
        enclave.kubectl("label", "secret", *place, "airferry.chart-")

    program.site(namespace=namespace)
    program.result(program.install(bundle))
    as_if_by_others(1)
    assert program.install(bundle).returncode == 33
    done = program.install(bundle, "--take-over")
    assert f"release {namespace}/{NAME}" in program.result(done)["changed"]
    assert f"warning: Helm release {namespace}/{NAME} was made by others (chart needy 1.0.0)" in done.stderr

    as_if_by_others(2)
    application = Application(tmp_path_factory.mktemp("rival"), "rival", images={IMAGE: job()})
    application.chart(packed_chart("greeter", "1.0.0"), release=NAME)
    rival = application.write()
    before = state(enclave, namespace)
    done = program.install(rival)
    assert done.returncode == 33, done.stderr
    assert "would be replaced by chart greeter" in done.stderr
    assert state(enclave, namespace) == before
    program.result(program.install(rival, "--take-over"))


def rule(line: str) -> tuple[bool, dict[str, Any]]:
    """What a line of the refusal asks for as a rule of a role, and whether that is one of the whole cluster."""
    text, _, place = line.strip().partition(", or else ")[0].partition(" in namespace ")
    verbs, resource, name = re.fullmatch(r"((?:\w+, )*\w+) (\S+)(?: (\S+))?", text).groups()  # type: ignore[union-attr]
    plural, _, group = resource.partition(".")
    found = {"apiGroups": [group], "resources": [plural], "verbs": verbs.split(", ")}
    return not place or plural == "clusterroles", {**found, **({"resourceNames": [name]} if name else {})}


def grant(enclave: Enclave, namespace: str, rules: list[dict[str, Any]], *, everywhere: bool) -> None:
    """Let the service account of `restricted` do more."""
    scope, name = "Cluster" if everywhere else "", f"more-{namespace}"
    head: dict[str, Any] = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
    if not everywhere:
        head["metadata"]["namespace"] = namespace
    binding = {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": f"{scope}Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "somebody", "namespace": namespace}],
    }
    items = [{**head, "kind": f"{scope}Role", "rules": rules}, {**head, "kind": f"{scope}RoleBinding", **binding}]
    enclave.kubectl("apply", "--filename=-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


@pytest.mark.controller
def test_who_is_given_what_preflight_asks_for_can_install_a_platform(
    enclave: Enclave,
    namespace: str,
    program: EnclaveProgram,
    tmp_path_factory: pytest.TempPathFactory,
    operator: Operator,
) -> None:
    bundle = demo_platform(tmp_path_factory.mktemp("platform"), "modest", operator).write()
    program.site(namespace=namespace, operator_namespace=namespace, host="http://modest.enclave")
    config = restricted(enclave, program, namespace, [])
    where = ("--bundle", bundle, "--key", KEY, "--site", program.folder / "site.yaml", "--kubeconfig", config)
    given: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    try:
        # Who may look at more sees more that is asked for.
        for _ in range(4):
            told = json.loads(program.run("preflight", *where, "--output", "json").stdout)
            lacking = [item["what"] for item in told["refusals"] if item["exit_code"] == 31]
            if not lacking:
                break
            for line in (line for what in lacking for line in what.splitlines()[1:]):
                everywhere, wanted = rule(line)
                given[everywhere].append(wanted)
            for everywhere, rules in given.items():
                grant(enclave, namespace, rules, everywhere=everywhere)
        done = program.install(bundle, "--kubeconfig", str(config))
        assert all(item["ready"] for item in program.result(done)["workloads"])
    finally:
        program.run("uninstall", "--yes", "--name", "modest", "--timeout", "120")
        enclave.kubectl("delete", "clusterrole,clusterrolebinding", f"more-{namespace}", "--ignore-not-found")


def test_a_registry_that_will_not_take_the_images_is_told_before_they_are_read(
    enclave: Enclave, namespace: str, program: EnclaveProgram, tmp_path_factory: pytest.TempPathFactory
) -> None:
    image = f"docker.io/demo/{secrets.token_hex(4)}:1.0"
    application = Application(tmp_path_factory.mktemp("other"), "other", images={image: job()})
    application.chart(packed_chart("greeter", "1.0.0"), release="greeter")
    bundle = application.write()
    program.site(namespace=namespace)
    answers = json.loads((program.folder / "site.yaml").read_text())
    before = state(enclave, namespace)
    with enclave_registry(enclave, program.folder / "locked", read_only=True) as locked:
        for host, code in ((locked.address, 23), ("10.99.0.1:9", 20)):
            answers["registry"]["host"] = host
            (program.folder / "site.yaml").write_text(json.dumps(answers))
            done = program.install(bundle)
            assert done.returncode == code, done.stderr
            assert host in done.stderr
    assert state(enclave, namespace) == before


def enclave_registry(enclave: Enclave, folder: Path, **settings: Any) -> Registry:
    """Another registry inside the enclave."""
    return Registry(folder, host="10.99.0.1", prefix=enclave.command([]), **settings)


def test_an_image_from_elsewhere_that_somebody_set_later_is_told(
    enclave: Enclave, namespace: str, program: EnclaveProgram, bundle: Path
) -> None:
    program.site(namespace=namespace)
    program.result(program.install(bundle))
    status = ("status", "--name", NAME, "--namespace", namespace, "--output", "json")
    assert program.result(program.run(*status))["strays"] == []
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "mesh", "image": "quay.io/mesh/proxy:1"}]}}}}
    enclave.kubectl("patch", "deployment", "main", f"--namespace={namespace}", f"--patch={json.dumps(patch)}")
    query = ("get", "pods", f"--namespace={namespace}", "--output=jsonpath={.items[*].spec.containers[*].name}")
    assert wait_until(lambda: "mesh" in enclave.kubectl(*query), 60)
    done = program.run(*status)
    (stray,) = json.loads(done.stdout)["strays"]
    assert stray["object"].endswith(", container mesh")
    assert stray["detail"] == f"quay.io/mesh/proxy:1 is not from {enclave.registry}"
    assert "admission webhook" in stray["next"]


OTHER_OPERATOR = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "wandb-controller-manager"},
    "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "manager", "image": "10.99.0.1:5000/absent/wandb/controller:1"}]},
        },
    },
}
NEWER_DEFINITION: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "weightsandbiases.apps.wandb.com"},
    "spec": {
        "group": "apps.wandb.com",
        "names": {"kind": "WeightsAndBiases", "plural": "weightsandbiases"},
        "scope": "Namespaced",
        "versions": [
            {"name": "v2", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
        ],
    },
}


def moved(definition: dict[str, Any]) -> dict[str, Any]:
    """`definition` with version v1 alone, whose objects a webhook converts."""
    (version,) = definition["spec"]["versions"]
    webhook = {"conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://10.99.0.1:9/convert"}}
    conversion = {"strategy": "Webhook", "webhook": webhook}
    return {
        **definition,
        "spec": {**definition["spec"], "versions": [{**version, "name": "v1"}], "conversion": conversion},
    }


@pytest.mark.controller
def test_a_cluster_of_another_operator_is_left_alone(
    enclave: Enclave,
    namespace: str,
    program: EnclaveProgram,
    tmp_path_factory: pytest.TempPathFactory,
    operator: Operator,
) -> None:
    bundle = demo_platform(tmp_path_factory.mktemp("platform"), "rival", operator).write()
    program.site(namespace=namespace, license={"secret": "absent", "key": "license"})
    apply = ("apply", f"--namespace={namespace}", "--filename=-")
    enclave.kubectl(*apply, input=json.dumps(OTHER_OPERATOR))
    name = NEWER_DEFINITION["metadata"]["name"]
    enclave.kubectl("delete", "crd", name, "--ignore-not-found", "--timeout=60s")
    enclave.kubectl(*apply, input=json.dumps(NEWER_DEFINITION))
    try:
        enclave.kubectl("wait", f"crd/{name}", "--for=condition=Established", "--timeout=30s")
        before = state(enclave, namespace)
        done = program.install(bundle)
        assert done.returncode == 33, done.stderr
        for text in (
            f"CustomResourceDefinition {name}: is of another version: it serves v2",
            "use a bundle whose operator is as new",
            f"of release {namespace}/operator there are already: Deployment",
            f"Secret {namespace}/absent does not exist",
        ):
            assert text in done.stderr
        after = state(enclave, namespace)
        del (
            before["Deployment wandb-controller-manager"],
            after["Deployment wandb-controller-manager"],
        )  # it counts pods
        assert after == before

        # A cluster that was moved to the newer one serves the old version too, by way of that operator.
        enclave.kubectl("delete", "crd", name, "--timeout=60s")
        enclave.kubectl(*apply, input=json.dumps(moved(NEWER_DEFINITION)))
        done = program.install(bundle)
        assert done.returncode == 33, done.stderr
        assert f"CustomResourceDefinition {name} converts objects by a webhook of another operator" in done.stderr
    finally:
        enclave.kubectl("delete", "crd", name, "--timeout=60s")
        # Not with the namespace, in the background: to whatever comes next it would be a rival.
        enclave.kubectl("delete", "deployment", "wandb-controller-manager", f"--namespace={namespace}")
