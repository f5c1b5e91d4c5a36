"""What the checks before an installation compute by themselves; what they find in a cluster is tested on a real one."""

from __future__ import annotations

from typing import Any
from unittest.mock import create_autospec

import pytest

from installer.chart.helm import Chart
from installer.chart.releases import Release, Releases
from installer.cluster.kinds import CONFIG_MAP, NAMESPACE, NODE, VOLUME, Kind
from installer.cluster.workload import ReleaseName
from installer.diagnosis.finding import Finding
from installer.diagnosis.scheduling import quantity, requested
from installer.errors import ClusterError, ClusterForbiddenError, SiteError
from installer.objects.desired import ChartRelease, Desired, DesiredStep, Manifests, Resource
from installer.oci.digest import Digest
from installer.oci.model import Platform
from installer.preflight.foreign_releases import foreign_releases
from installer.preflight.namespaces import leaving, unmade
from installer.preflight.permissions import missing_permissions
from installer.preflight.preflight import Preflight, _permissions
from installer.preflight.prerequisites import ingress_hosts
from installer.preflight.room import images_on_nodes, nodes
from installer.report import Silent
from tests.parts.bundles import packed_chart
from tests.parts.fake_cluster import BUILT_IN, FakeCluster


def of_steps(*steps: DesiredStep, **more: Any) -> Desired:
    home = steps[0].name.namespace if steps else "home"
    given = {"home": home, "namespaces": {}, "secrets": (), "steps": steps, "images": {}}
    return Desired(**{**given, **more})


def made(release: ChartRelease, **more: Any) -> Resource:
    """A resource of which a controller makes `release`."""
    metadata = {"name": release.name.name, "namespace": release.name.namespace}
    document = {"apiVersion": "v1", "kind": CONFIG_MAP.name, "metadata": metadata}
    return Resource(
        **{"label": "it", "document": document, "installs": release, "ready": None, "controller": None, **more}
    )


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("500m", 0.5), ("1.5", 1.5), ("2Ki", 2048), ("1Gi", 2**30), ("3M", 3e6), (None, 0), ("x", 0), (2, 2)],
)
def test_quantities(text: object, number: float) -> None:
    assert quantity(text) == number


def test_what_a_pod_asks_for() -> None:
    def container(**resources: dict[str, str]) -> dict[str, object]:
        return {"resources": resources}

    both = [container(requests={"cpu": "1"}, limits={"cpu": "4"}), container(limits={"cpu": "500m"}), {}]
    assert requested({"containers": both}, "cpu") == 1.5
    assert requested({"containers": both, "initContainers": [container(requests={"cpu": "2"})]}, "cpu") == 2
    assert requested({"containers": both}, "memory") == 0


@pytest.mark.parametrize(
    ("wanted", "version", "accepted"),
    [
        ("", "v1.35.4", True),
        (">=1.28.0-0", "v1.35.4-eks-1", True),
        (">=1.28.0", "v1.35.4-eks-1", True),
        (">=1.28.0", "v1.35.4+k3s1", True),
        (">=1.36.0", "v1.35.4-gke.100", False),
        (">=1.28.0-0 <1.33.0-0", "v1.35.4", False),
        ("^1.36", "v1.35.4", False),
        ("no constraint", "v1.35.4", True),
    ],
)
def test_a_chart_says_which_kubernetes_it_is_for(wanted: str, version: str, *, accepted: bool) -> None:
    metadata = f"apiVersion: v2\nname: x\nversion: 1.0.0\nkubeVersion: '{wanted}'\n"
    assert Chart.load(packed_chart("x", "1.0.0", {"Chart.yaml": metadata})).accepts(version) is accepted


NAMES = ("images.enclave/p/docker.io/a:1", f"images.enclave/p/docker.io/b:2@sha256:{'0' * 64}")
HELD = [[NAMES[0]], [NAMES[1].replace(":2@", "@")]]


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (HELD, ""),
        (HELD[:1], f"node n does not report 1 of 2 images, {HELD[1][0]} for one"),
        ([], f"node n does not report 2 of 2 images, {NAMES[0]} for one"),
        # What a kubelet may have cut says nothing.
        ([["x"]] * 50, ""),
        ([[f"x:{number}" for number in range(5)]], ""),
    ],
)
def test_nodes_that_do_not_report_images(images: list[list[str]], told: str) -> None:
    node = {"metadata": {"name": "n"}, "status": {"images": [{"names": names} for names in images]}}
    cluster = FakeCluster({**node, "apiVersion": NODE.api_version, "kind": NODE.name})
    wanted = of_steps(images=dict.fromkeys(NAMES, Digest.of(b"")))
    assert [item.what for item in images_on_nodes(cluster, wanted)] == ([told] if told else [])


@pytest.mark.parametrize(("policy", "told"), [({}, 1), ({"helm.sh/resource-policy": "keep"}, 0)])
def test_who_could_not_keep_data_from_being_deleted_is_told(policy: dict[str, str], told: int) -> None:
    cluster = FakeCluster(namespaces=["here"])
    cluster.forbidden.add(("patch", VOLUME))
    claim = {"kind": "PersistentVolumeClaim", "metadata": {"name": "data", "annotations": policy}, "apiVersion": "v1"}
    release = ChartRelease(create_autospec(Chart), ReleaseName("app", "here"), {}, (claim,), (), frozenset())
    for step in (release, made(release)):
        found = list(_permissions(cluster, of_steps(step)))
        assert [item.error for item in found] == [None] * told
        assert all(
            "may not patch persistentvolumes; Helm deletes the volume claim here/data" in str(item) for item in found
        )


def history(chart: str, *labels: str, version: str = "0.9.0") -> list[Release]:
    numbered = enumerate(labels, 1)
    return [Release("app", "here", number, "deployed", chart, version, label) for number, label in numbered]


@pytest.mark.parametrize(
    ("held", "take_over", "error", "words"),
    [
        ([], False, None, ""),
        (history("app", "", "ours"), False, None, ""),
        (history("app", "ours", ""), False, ClusterError, "(chart app 0.9.0), and would be replaced by chart app"),
        (history("other", ""), False, ClusterError, "(chart other 0.9.0), and would be replaced by chart app"),
        (history("other", ""), True, None, "(chart other 0.9.0); it is taken over and becomes chart app 1.0.0"),
        (history("app", "", version="1.0.10-rc.1"), True, None, "becomes chart app 1.0.0, which is older"),
    ],
)
def test_a_release_of_others_is_not_replaced_without_a_word(
    held: list[Release], take_over: bool, error: type[ClusterError] | None, words: str
) -> None:
    chart = Chart.load(packed_chart("app", "1.0.0"))
    release = ChartRelease(chart, ReleaseName("app", "here"), {}, (), (), frozenset())
    helm = create_autospec(Releases, instance=True)
    helm.history.return_value = held
    for step in (release, made(release)):
        cluster = FakeCluster(namespaces=["here"])
        found = list(foreign_releases(cluster, lambda _: helm, of_steps(step), take_over=take_over))
        assert [item.error for item in found] == ([error] if words else [])
        assert all(words in item.what for item in found)
        # What a controller has made of a resource bears no label of ours; whose it is, the resource says.
        cluster.given(made(release).document)
        found = list(foreign_releases(cluster, lambda _: helm, of_steps(step), take_over=take_over))
        assert len(found) == (1 if words else 0)
        cluster.apply({**made(release).document, "spec": {"ours": True}})
        found = list(foreign_releases(cluster, lambda _: helm, of_steps(step), take_over=take_over))
        assert len(found) == (1 if step is release and words else 0)


def test_of_several_refusals_the_lowest_exit_code_counts_and_all_are_told() -> None:
    found = Preflight(
        None,
        (
            Finding("a", "do a.", SiteError),
            Finding("b", "do b.", None),
            Finding("c", "do c.", ClusterForbiddenError),
            Finding("d", "do d.", ClusterError),
        ),
    )
    with pytest.raises(ClusterForbiddenError) as caught:
        found.require(Silent())
    assert caught.value.message.splitlines()[1:] == ["  c; next: do c.", "  d; next: do d.", "  a; next: do a."]
    assert [item["what"] for item in found.document()["warnings"]] == ["b"]
    assert found.text().splitlines()[-1] == "not possible yet"


def test_all_that_a_release_of_a_controller_takes_is_asked_for() -> None:
    """Beyond what is needed for charts: drivers call these in the namespaces of resource and controller."""
    cluster = FakeCluster()
    verbs = ("get", "list", "watch", "create", "update", "patch", "delete")
    cluster.forbidden |= {(verb, kind) for verb in verbs for kind in BUILT_IN}
    cluster.forbidden.add(("*", Kind("*", "*", "*", "*")))
    chart = Chart.load(packed_chart("platform", "1.0.0"))
    operator, platform = (
        ChartRelease(chart, ReleaseName(name, f"{name}-space"), {}, (), (), frozenset())
        for name in ("operator", "platform")
    )
    found = missing_permissions(cluster, of_steps(operator, made(platform, controller=operator.name)))
    for text in (
        "get, list, delete daemonsets.apps in namespace platform-space",
        "list horizontalpodautoscalers.autoscaling in namespace platform-space",
        "get, create, patch, delete configmaps in namespace platform-space",
        "get, list, delete secrets in namespace platform-space",
        "get, list, delete pods in namespace operator-space",
        "get, list, watch, create, patch, delete configmaps in namespace operator-space",
    ):
        assert text in found
    assert "get, list daemonsets.apps in namespace operator-space" in found
    # Of manifests only the objects are, and of a resource without a release the resource.
    config = {"apiVersion": "v1", "kind": CONFIG_MAP.name, "metadata": {"name": "a", "namespace": "far"}}
    found = missing_permissions(cluster, of_steps(Manifests(ReleaseName("more", "here"), (config,))))
    assert "get, create, patch, delete configmaps in namespace far" in found
    assert not [line for line in found if "horizontalpodautoscalers" in line]


@pytest.mark.parametrize(
    ("host", "refused"),
    [
        ("app.enclave.example", False),
        ("*.enclave.example", False),
        ("", False),
        ("localhost:8080", True),
        ("10.0.0.1", True),
        ("App.example", True),
        ("a..b", True),
    ],
)
def test_an_ingress_for_a_host_that_the_api_server_refuses(host: str, *, refused: bool) -> None:
    chart = Chart.load(packed_chart("platform", "1.0.0"))
    ingress = {"kind": "Ingress", "metadata": {"name": "web"}, "spec": {"rules": [{"host": host}]}}
    release = ChartRelease(chart, ReleaseName("app", "space"), {}, (ingress,), (), frozenset())
    for step in (release, made(release)):
        for keys, way in (({"host": "host"}, "(host)"), ({}, "(the values of the chart)")):
            found = list(ingress_hosts(of_steps(step, keys=keys)))
            assert [item.error for item in found] == ([SiteError] if refused else [])
            assert all(f"Ingress space/web is for the host {host!r}" in item.what for item in found)
            assert all(item.step.startswith(f"correct it in site.yaml {way}, or reach") for item in found)


def test_a_namespace_on_its_way_out_is_told_with_what_it_waits_for() -> None:
    cluster = FakeCluster(config("held", "old", finalizers=["example.com/hold"]), namespaces=["new"])
    wanted = of_steps(namespaces={"old": {}, "new": {}, "absent": {}})
    assert list(leaving(cluster, wanted)) == []
    cluster.delete(NAMESPACE, "old")
    remaining = {"type": "NamespaceFinalizersRemaining", "status": "True", "message": "Some content has finalizers"}
    done = {"type": "NamespaceDeletionContentFailure", "status": "False", "message": "All content deleted"}
    cluster.set_status(NAMESPACE, "old", "", {"phase": "Terminating", "conditions": [done, remaining]})
    (found,) = leaving(cluster, wanted)
    assert found.error is ClusterError
    assert found.what == "namespace old is being deleted since 2026-01-01T00:00:00Z; Some content has finalizers"


def config(name: str, namespace: str = "", *, hook: str = "", **metadata: Any) -> dict[str, Any]:
    place = {"namespace": namespace} if namespace else {}
    annotations = {"annotations": {"helm.sh/hook": hook}} if hook else {}
    metadata = {"name": name, **place, **annotations, **metadata}
    return {"apiVersion": "v1", "kind": CONFIG_MAP.name, "metadata": metadata, "data": {"namespace": "said"}}


def test_namespaces_that_objects_name_and_nobody_makes_are_told() -> None:
    def other(kind: str, name: str, **fields: Any) -> dict[str, Any]:
        return {"apiVersion": "example.com/v1", "kind": kind, "metadata": {"name": name}, **fields}

    chosen = {"selector": {"namespace": "label"}, "template": {"metadata": {"labels": {"namespace": "label"}}}}
    objects = (
        other("RoleBinding", "a", subjects=[{"name": "x", "namespace": "absent"}, {"name": "x", "namespace": "made"}]),
        other("RoleBinding", "b", subjects=[{"name": "x", "namespace": "absent"}, {"name": "x", "namespace": "there"}]),
        other("Gadget", "c", spec={"targetNamespace": "far", "size": 3, "namespace": "{{ not a name }}", **chosen}),
        config("d", "made"),
        config("e", "last", hook="pre-delete"),
        config("f", "tested", hook="test"),
    )
    release = ChartRelease(create_autospec(Chart), ReleaseName("app", "here"), {}, objects, (), frozenset())
    # Values of a resource are its chart's own matter.
    values = {"spec": {"values": {"namespace": "value"}}}
    step = made(release, document={**made(release).document, **values})
    found = list(unmade(FakeCluster(namespaces=["there"]), of_steps(step, namespaces={"here": {}, "made": {}})))
    assert [item.error for item in found] == [None] * 3
    said = "namespace {} does not exist, and nobody makes it; it is named by {}"
    assert [item.what.replace(f" ({release.origin})", "") for item in found] == [
        said.format("absent", "RoleBinding here/a and 1 more"),
        said.format("far", "Gadget here/c"),
        said.format("last", "ConfigMap last/e"),
    ]


def node(name: str, ready: str = "", *, short: str = "", **spec: Any) -> dict[str, Any]:
    info = {"operatingSystem": "linux", "architecture": "amd64"}
    conditions = [{"type": "Ready", "status": ready, "reason": "KubeletNotReady"}] if ready else []
    conditions += [{"type": short, "status": "True", "message": "said so"}] if short else []
    status = {"nodeInfo": info, "conditions": conditions, "allocatable": {"cpu": "1", "memory": "1Gi"}}
    return {"apiVersion": "v1", "kind": NODE.name, "metadata": {"name": name}, "spec": spec, "status": status}


def tainted(key: str, effect: str = "NoSchedule", value: str = "") -> dict[str, Any]:
    return {"taints": [{"key": key, "effect": effect, **({"value": value} if value else {})}]}


FULL = tainted("node.kubernetes.io/disk-pressure")


@pytest.mark.parametrize(
    ("there", "error", "told"),
    [
        ([], None, ["this cluster has no node"]),
        ([node("a", "True"), node("b")], None, []),
        ([node("a", "True"), node("b", "Unknown")], None, ["node b is not ready: KubeletNotReady"]),
        ([node("a", "True"), node("b", "True", unschedulable=True)], None, []),
        (
            [node("a", "False"), node("b", "True", unschedulable=True)],
            ClusterError,
            ["no node takes pods: node a is not ready: KubeletNotReady; node b is cordoned"],
        ),
        (
            [node("a", "True", short="DiskPressure", **FULL), node("b", "True", **tainted("role/control-plane"))],
            ClusterError,
            ["no node takes pods: node a reports DiskPressure (said so); node b has the taint role/control-plane"],
        ),
        (
            [node("a", "True"), node("b", "True", short="DiskPressure", **FULL)],
            None,
            ["node b reports DiskPressure (said so)"],
        ),
        # One of the pods tolerates it.
        ([node("a", "True", **tainted("for", value="us"))], None, []),
        (
            [node("a", "True", **tainted("for", value="them"))],
            ClusterError,
            ["no node takes pods: node a has the taint for"],
        ),
        ([node("a", "True", **tainted("for", "PreferNoSchedule"))], None, []),
    ],
)
def test_nodes_that_take_no_pods_are_told(
    there: list[dict[str, Any]], error: type[ClusterError] | None, told: list[str]
) -> None:
    tolerations = [{"key": "for", "operator": "Equal", "value": "us"}]
    specs: list[dict[str, Any]] = [{"containers": []}, {"containers": [], "tolerations": tolerations}]
    pods = tuple({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec} for spec in specs)
    wanted = of_steps(Manifests(ReleaseName("more", "here"), pods))
    found = list(nodes(FakeCluster(*there), wanted, [Platform("linux", "amd64")]))
    assert [item.what for item in found] == told
    assert all(item.error is error for item in found)
