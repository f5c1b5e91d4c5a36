"""What the checks before an installation compute by themselves; what they find in a cluster is tested on a real one."""

from __future__ import annotations

from unittest.mock import create_autospec

import pytest

from installer.chart.helm import Chart
from installer.chart.releases import Release, Releases
from installer.cluster.cluster import Cluster
from installer.cluster.endpoint import Endpoint
from installer.cluster.kinds import VOLUME
from installer.cluster.workload import ReleaseName
from installer.diagnosis.scheduling import quantity, requested
from installer.errors import ClusterError, ClusterForbiddenError, SiteError
from installer.objects.desired import ChartRelease, Desired
from installer.oci.digest import Digest
from installer.preflight.foreign_releases import foreign_releases
from installer.preflight.permissions import missing_permissions
from installer.preflight.preflight import Preflight, _permissions
from installer.preflight.prerequisites import Finding, ingress_hosts
from installer.preflight.room import images_on_nodes
from installer.report import Silent
from tests.parts.bundles import packed_chart


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
    cluster = create_autospec(Cluster)
    node = {"metadata": {"name": "n"}, "status": {"images": [{"names": names} for names in images]}}
    cluster.find.return_value = [node]
    wanted = create_autospec(Desired, images=dict.fromkeys(NAMES, Digest.of(b"")))
    assert [item.what for item in images_on_nodes(cluster, wanted)] == ([told] if told else [])


@pytest.mark.parametrize(("policy", "told"), [({}, 1), ({"helm.sh/resource-policy": "keep"}, 0)])
def test_who_could_not_keep_data_from_being_deleted_is_told(policy: dict[str, str], told: int) -> None:
    cluster = create_autospec(Cluster, endpoint=Endpoint("https://k:6443", "ours"))
    cluster.can_i.side_effect = lambda verb, kind, *_: (verb, kind) != ("patch", VOLUME)
    claim = {"kind": "PersistentVolumeClaim", "metadata": {"name": "data", "annotations": policy}}
    release = ChartRelease(create_autospec(Chart), ReleaseName("app", "here"), {}, (claim,), (), frozenset())
    wanted = create_autospec(Desired, installed=(), platform=release)
    found = list(_permissions(cluster, wanted))
    assert [item.error for item in found] == [None] * told
    assert all(
        "may not patch persistentvolumes; Helm deletes the volume claim here/data" in str(item) for item in found
    )


def history(chart: str, *labels: str) -> list[Release]:
    numbered = enumerate(labels, 1)
    return [Release("app", "here", number, "deployed", chart, "0.9.0", label) for number, label in numbered]


@pytest.mark.parametrize(
    ("held", "take_over", "error", "words"),
    [
        ([], False, None, ""),
        (history("app", "", "ours"), False, None, ""),
        (history("app", "ours", ""), False, None, "(chart app 0.9.0); it is taken over and becomes chart app 1.0.0"),
        (history("other", ""), False, ClusterError, "(chart other 0.9.0), and would be replaced by chart app"),
        (history("other", ""), True, None, "(chart other 0.9.0); it is taken over and becomes chart app 1.0.0"),
    ],
)
def test_a_release_of_others_is_not_replaced_without_a_word(
    held: list[Release], take_over: bool, error: type[ClusterError] | None, words: str
) -> None:
    chart = Chart.load(packed_chart("app", "1.0.0"))
    release = ChartRelease(chart, ReleaseName("app", "here"), {}, (), (), frozenset())
    helm = create_autospec(Releases, instance=True)
    helm.history.return_value = held
    cluster = create_autospec(Cluster, instance=True)
    for platform in (False, True):
        wanted = create_autospec(
            Desired, installed=() if platform else (release,), platform=release if platform else None
        )
        cluster.get.return_value = None
        found = list(foreign_releases(cluster, lambda _: helm, wanted, take_over=take_over))
        assert [item.error for item in found] == ([error] if words else [])
        assert all(words in item.what for item in found)
        # What its operator has made of a custom resource bears no label of ours.
        cluster.get.return_value = {}
        found = list(foreign_releases(cluster, lambda _: helm, wanted, take_over=take_over))
        assert len(found) == (0 if platform or not words else 1)


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


def test_all_that_a_platform_takes_is_asked_for() -> None:
    """Beyond what is needed for charts: `steps.resource` calls these in the platform's namespace."""
    cluster = create_autospec(Cluster)
    cluster.can_i.return_value = False
    cluster.get.return_value = None
    chart = Chart.load(packed_chart("platform", "1.0.0"))
    operator, platform = (
        ChartRelease(chart, ReleaseName(name, f"{name}-space"), {}, (), (), frozenset())
        for name in ("operator", "wandb")
    )
    resource = {"metadata": {"name": "wandb", "namespace": "wandb-space"}}
    wanted = Desired((), (), (), operator, platform, source=None, resource=resource, images={})
    found = missing_permissions(cluster, wanted)
    for text in (
        "get, list, delete daemonsets.apps in namespace wandb-space",
        "list horizontalpodautoscalers.autoscaling in namespace wandb-space",
        "get, create, patch, delete weightsandbiases.apps.wandb.com in namespace wandb-space",
        "get, list, delete secrets in namespace wandb-space",
        "get, list, delete pods in namespace operator-space",
        "get, list, watch, create, patch, delete configmaps in namespace operator-space",
    ):
        assert text in found
    assert "get, list daemonsets.apps in namespace operator-space" in found


@pytest.mark.parametrize(
    ("host", "refused"),
    [
        ("wandb.enclave.example", False),
        ("*.enclave.example", False),
        ("", False),
        ("localhost:8080", True),
        ("10.0.0.1", True),
        ("WandB.example", True),
        ("a..b", True),
    ],
)
def test_an_ingress_for_a_host_that_the_api_server_refuses(host: str, *, refused: bool) -> None:
    chart = Chart.load(packed_chart("platform", "1.0.0"))
    ingress = {"kind": "Ingress", "metadata": {"name": "web"}, "spec": {"rules": [{"host": host}]}}
    release = ChartRelease(chart, ReleaseName("wandb", "space"), {}, (ingress,), (), frozenset())
    for parts, step in (((release, None), "set `host` in site.yaml"), ((None, (release,)), "correct the values")):
        wanted = Desired((), (), parts[1] or (), None, parts[0], source=None, resource=None, images={})
        found = list(ingress_hosts(wanted))
        assert [item.error for item in found] == ([SiteError] if refused else [])
        assert all(f"Ingress space/web is for the host {host!r}" in item.what for item in found)
        assert all(item.step.startswith(step) for item in found)
