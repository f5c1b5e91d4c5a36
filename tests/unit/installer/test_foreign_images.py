"""Images of pods that a bundle does not bring, whoever has made these pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from installer.cluster.kinds import CRON_JOB, DEPLOYMENT, JOB, POD, REPLICA_SET, Kind
from installer.cluster.workload import STEP_LABEL, ReleaseName
from installer.diagnosis.foreign_images import strays
from tests.parts.fake_cluster import FakeCluster

if TYPE_CHECKING:
    from installer.cluster.cluster import Object

REGISTRY = "reg.example:5000"
OWN = f"{REGISTRY}/airferry/docker.io/demo/web:1"
DIGEST = f"sha256:{'a' * 64}"
FOREIGN = "ghcr.io/cloudnative-pg/postgresql:16"
RELEASES = [ReleaseName("app", "n")]
HELM = {"meta.helm.sh/release-name": "app", "meta.helm.sh/release-namespace": "n"}
OTHER = {"meta.helm.sh/release-name": "other", "meta.helm.sh/release-namespace": "n"}


def of(kind: Kind, name: str, *, owner: tuple[str, str] | None = None, namespace: str = "n", **metadata: Any) -> Object:
    if owner:
        metadata["ownerReferences"] = [{"kind": owner[0], "name": owner[1], "controller": True}]
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": {"name": name, "namespace": namespace, **metadata},
    }


def pod(image: str, owner: tuple[str, str] | None = None, waiting: str = "", runs: str = "", **more: Any) -> Object:
    state = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    status = {"containerStatuses": [{"name": "main", "imageID": runs, "state": state}]}
    spec = {"containers": [{"name": "main", "image": image}]}
    return {**of(POD, "p", owner=owner, **more), "spec": spec, "status": status}


def found(*objects: Object, namespace: str = "n", forbidden: Kind | None = None) -> list[tuple[str, str, str]]:
    cluster = FakeCluster(*objects, namespaces=["n", "kube-system"])
    if forbidden:
        cluster.forbidden.add(("list", forbidden))
    releases = [*RELEASES, ReleaseName("seen", namespace), ReleaseName("everywhere", "")]
    return [(item.object, item.detail, item.next) for item in strays(cluster, releases, REGISTRY, {OWN: DIGEST})]


def test_a_pod_that_an_operator_makes_is_named_with_its_owner() -> None:
    [(where, what, step)] = found(pod(FOREIGN, ("Cluster", "db")))
    assert (where, what) == ("Pod n/p of Cluster db, container main", f"{FOREIGN} is not from {REGISTRY}")
    assert "`images` of the recipe" in step


def test_the_outermost_owner_counts() -> None:
    job = of(JOB, "backup-1", owner=("CronJob", "backup"))
    [(where, _, step)] = found(of(CRON_JOB, "backup", annotations=HELM), job, pod(FOREIGN, ("Job", "backup-1")))
    assert where.startswith("Pod n/p of CronJob backup,")
    assert "undo the change" in step, "the release makes this pod: somebody has set its image"


@pytest.mark.parametrize("mark", [{"annotations": OTHER}, {"labels": {STEP_LABEL: "other"}}])
def test_what_other_releases_make_is_theirs(mark: dict[str, Any]) -> None:
    chain = [of(DEPLOYMENT, "d", **mark), of(REPLICA_SET, "d-1", owner=("Deployment", "d"))]
    assert found(*chain, pod(FOREIGN, ("ReplicaSet", "d-1"))) == []
    assert found(of(DEPLOYMENT, "d"), chain[1], pod(FOREIGN, ("ReplicaSet", "d-1"))), "nobody claims it"


def test_pods_of_the_cluster_itself_are_left_out_and_those_of_operators_there_are_not() -> None:
    system: dict[str, Any] = {"namespace": "kube-system"}
    for owner in (None, ("Node", "one"), ("DaemonSet", "proxy")):
        assert found(pod(FOREIGN, owner, **system), **system) == []
    assert found(pod(FOREIGN, ("ClusterPolicy", "gpu"), **system), **system)


def test_other_namespaces_are_not_looked_at() -> None:
    assert found(pod(FOREIGN, namespace="elsewhere")) == []


def test_init_containers_and_image_volumes_count() -> None:
    made = pod(OWN)
    made["spec"] |= {
        "initContainers": [{"name": "first", "image": FOREIGN}],
        "volumes": [{"name": "model", "image": {"reference": "quay.io/models/one:1"}}],
    }
    places = [where.partition(", ")[2] for where, _, _ in found(made)]
    assert places == ["container first", "volume model"]


@pytest.mark.parametrize(
    ("image", "said", "step"),
    [(OWN, "cannot be pulled", "run `load`"), (f"{REGISTRY}/airferry/x:1", "nothing that was installed", "`images`")],
)
def test_what_an_operator_asks_of_the_registry_and_does_not_get(image: str, said: str, step: str) -> None:
    [(_, what, next_step)] = found(pod(image, ("Cluster", "db"), waiting="ImagePullBackOff"))
    assert said in what
    assert step in next_step
    assert found(pod(image, ("Cluster", "db"))) == []


def test_other_content_under_an_installed_name() -> None:
    other, same = f"docker.io/x/y@sha256:{'b' * 64}", f"docker.io/x/y@{DIGEST}"
    [(_, what, _)] = found(pod(OWN, ("Cluster", "db"), runs=other))
    assert what == f"{OWN} runs as {other}, which is not what was installed"
    assert found(pod(OWN, runs=same)) == []
    assert found(pod(f"{REGISTRY}/airferry/x:1", ("Cluster", "db"), runs=other)) == [], "its digest is not known"


def test_a_kind_that_may_not_be_listed_does_not_end_the_search() -> None:
    job = of(JOB, "backup-1", owner=("CronJob", "backup"))
    [(where, _, _)] = found(job, pod(FOREIGN, ("Job", "backup-1")), forbidden=CRON_JOB)
    assert where.startswith("Pod n/p of CronJob backup,")
