"""What a staging cluster asks for, and what of it the lock carries."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from builder.observe.comparison import Comparison, Verdict, compared, namespaces_of
from builder.observe.observation import WATCH_SECONDS, Observation, observe
from builder.recipe.lock import LockedBlob, LockedDocument, Origin
from installer.apps.profile import DOCUMENT
from installer.cluster.kinds import CRON_JOB, CUSTOM_RESOURCE_DEFINITION, DEPLOYMENT, JOB, POD, REPLICA_SET, Kind
from installer.errors import (
    ClusterError,
    ClusterForbiddenError,
    ClusterUnreachableError,
    InterruptedByUserError,
    UsageError,
)
from installer.strict_yaml import load_yaml
from installer.value import replace
from tests.parts.counted import Notes
from tests.parts.fake_cluster import FakeCluster
from tests.parts.locks import digest, example

if TYPE_CHECKING:
    from installer.cluster.cluster import Object

APP, FOREIGN = "docker.io/team/app:1.0", "ghcr.io/cloudnative-pg/postgresql:16"
CLUSTER = Kind("postgresql.cnpg.io", "v1", "Cluster", "clusters")


def of(kind: Kind, name: str, owner: tuple[str, str] | None = None, **content: Any) -> Object:
    owners = [{"kind": owner[0], "name": owner[1], "controller": True}] if owner else []
    metadata = {"name": name, "namespace": "n", "ownerReferences": owners}
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, **content}


def running(*images: str, **more: Any) -> dict[str, Any]:
    return {"containers": [{"name": f"c{number}", "image": image, **more} for number, image in enumerate(images)]}


def pod(name: str, image: str, owner: tuple[str, str] | None = None, runs: str = "", **more: Any) -> Object:
    status = {"containerStatuses": [{"name": "c0", "image": image, "imageID": runs}]}
    return of(POD, name, owner, spec=running(image, **more), status=status)


def maker(kind: Kind, name: str, image: str, owner: tuple[str, str] | None = None) -> Object:
    spec = {"template": {"spec": running(image)}}
    return of(kind, name, owner, spec={"jobTemplate": {"spec": spec}} if kind == CRON_JOB else spec)


def definition(kind: Kind, scope: str = "Namespaced") -> Object:
    names = {"kind": kind.name, "plural": kind.plural}
    versions = [{"name": "v1beta1", "served": True}, {"name": kind.version, "served": True}]
    return {
        "apiVersion": CUSTOM_RESOURCE_DEFINITION.api_version,
        "kind": CUSTOM_RESOURCE_DEFINITION.name,
        "metadata": {"name": str(kind)},
        "spec": {"group": kind.group, "names": names, "scope": scope, "versions": versions},
    }


def seen(cluster: FakeCluster, *namespaces: str, seconds: float = 0) -> Observation:
    return observe(cluster, namespaces or ["n"], seconds, Notes())


def found(*objects: Object, namespace: str = "n") -> Comparison:
    return compared(seen(FakeCluster(*objects, namespaces=["n"]), namespace), example())


def names(comparison: Comparison, verdict: Verdict) -> list[str]:
    return [item.name for item in comparison.of(verdict)]


def test_a_pod_of_an_operator_becomes_a_line_of_the_recipe() -> None:
    result = found(pod("web", "team/app:1.0"), pod("db-1", FOREIGN, ("Cluster", "db")))
    assert names(result, "carried") == [APP]
    [missing] = result.of("missing")
    assert missing.places == ("Pod n/db-1 of Cluster db, container c0",)
    assert load_yaml(result.text().encode(), "lines", UsageError) == {"images": [FOREIGN]}
    assert "  # Pod n/db-1 of Cluster db, container c0\n  - ghcr.io" in result.text()


@pytest.mark.parametrize(
    ("image", "runs", "verdict"),
    [
        ("team/app:1.0", "", "carried"),
        ("index.docker.io/team/app:1.0", "", "carried"),
        (f"team/app@{digest('app')}", "", "carried"),
        (f"team/app:9@{digest('app')}", "", "carried"),
        (f"team/app:1.0@{digest('other')}", "", "missing"),
        ("team/app:1.1", "", "missing"),
        ("team/app", "", "missing"),
        ("quay.io/team/app:1.0", "", "missing"),
        ("reg.example:5000/airferry/docker.io/team/app:1.0", "", "carried"),
        ("reg.example:5000/docker.io/team/app:1.0", "", "carried"),
        ("reg.example:5000/airferry/docker.io/team/app:1.1", "", "missing"),
        ("reg.example:5000/airferry/evildocker.io/team/app:1.0", "", "missing"),
        ("quay.io/team/app:1.0", f"quay.io/team/app@{digest('app')}", "renamed"),
        ("quay.io/team/app:1.0", f"docker-pullable://quay.io/team/app@{digest('app')}", "renamed"),
        ("quay.io/team/app:1.0", str(digest("app config")), "renamed"),
        ("quay.io/team/app:1.0", f"quay.io/team/app@{digest('other')}", "missing"),
        ("python:3.12", "", "excluded"),
        ("not an image", "", "possible"),
    ],
)
def test_images_are_compared_by_full_name_and_by_content(image: str, runs: str, verdict: Verdict) -> None:
    result = found(pod("p", image, runs=runs))
    assert [item.verdict for item in result.seen] == [verdict]
    assert ("images:" in result.text()) is (verdict == "missing")


def test_one_name_with_two_contents_is_missing_if_one_is_not_carried() -> None:
    here, there = (f"quay.io/team/app@{digest(name)}" for name in ("app", "other"))
    result = found(pod("a", "quay.io/team/app:1.0", runs=here), pod("b", "quay.io/team/app:1.0", runs=there))
    assert names(result, "missing") == ["quay.io/team/app:1.0"]


def test_what_only_switches_ask_for_is_told_with_them() -> None:
    [missing] = found(pod("p", "team/extra")).of("missing")
    assert missing.because == "the chart asks for it with a.on=true, b.on=true"


def test_all_kinds_of_containers_and_image_volumes_count() -> None:
    made = pod("p", APP)
    made["spec"] |= {
        "initContainers": [{"name": "first", "image": "one:1"}],
        "ephemeralContainers": [{"name": "look", "image": "two:1"}],
        "volumes": [{"name": "model", "image": {"reference": "three:1"}}],
    }
    made["status"]["initContainerStatuses"] = [{"name": "first", "imageID": str(digest("x"))}]
    result = found(made)
    library = [f"docker.io/library/{name}:1" for name in ("one", "three", "two")]
    assert names(result, "missing") == library
    assert result.of("missing")[0].runs == (str(digest("x")),)


def test_templates_count_where_there_is_no_pod() -> None:
    """Where there is one, it says what an admission webhook has made of the template."""
    result = found(
        maker(DEPLOYMENT, "busy", "auto"),
        maker(REPLICA_SET, "busy-1", "auto", ("Deployment", "busy")),
        maker(REPLICA_SET, "busy-0", "old:1", ("Deployment", "busy")),
        pod("busy-1-x", "injected:1", ("ReplicaSet", "busy-1")),
        maker(DEPLOYMENT, "idle", "idle:1"),
        maker(CRON_JOB, "nightly", "night:1"),
        maker(JOB, "night-1", "night:1", ("CronJob", "nightly")),
        maker(JOB, "backup", "backup:1", ("Cluster", "db")),
    )
    places = {item.name.removeprefix("docker.io/library/"): item.places for item in result.of("missing")}
    assert places == {
        "backup:1": ("Job n/backup (no pod just now), container c0",),
        "idle:1": ("Deployment n/idle (no pod just now), container c0",),
        "injected:1": ("Pod n/busy-1-x of Deployment busy, container c0",),
        "night:1": ("CronJob n/nightly (no pod just now), container c0",),
    }


def test_what_only_helm_test_runs_is_not_missing() -> None:
    test = pod("check", FOREIGN)
    test["metadata"]["annotations"] = {"helm.sh/hook": "test"}
    result = found(test)
    assert (names(result, "missing"), names(result, "possible")) == ([], [FOREIGN])


def test_what_may_be_asked_for_stands_in_comments() -> None:
    far = {**of(CLUSTER, "far", spec={"imageName": "far:1"}), "metadata": {"name": "far", "namespace": "elsewhere"}}
    result = found(
        definition(CLUSTER),
        of(CLUSTER, "db", spec={"imageName": FOREIGN, "monitoring": {"queryImage": "team/job:1.0"}}),
        pod("operator", APP, env=[{"name": "HELPER_IMAGE", "value": "quay.io/x/helper:1"}]),
        far,
    )
    assert names(result, "missing") == []
    assert "  # - quay.io/x/helper:1" in result.text()
    assert load_yaml(result.text().encode(), "lines", UsageError) is None
    assert "quay.io/x/helper:1" in names(result, "possible")


def test_custom_resources_are_searched_in_one_version_and_without_namespaces_too() -> None:
    # A group of others below k8s.io, too.
    policy = Kind("nvidia.k8s.io", "v1", "ClusterPolicy", "clusterpolicies")
    resource: Object = {"apiVersion": policy.api_version, "kind": policy.name, "metadata": {"name": "gpu"}}
    result = found(definition(policy, "Cluster"), {**resource, "spec": {"toolkit": {"image": "nvcr.io/nvidia/x:1"}}})
    [possible] = result.of("possible")
    assert (possible.name, possible.places) == ("nvcr.io/nvidia/x:1", ("ClusterPolicy gpu, spec.toolkit.image",))


class OneNamespace(FakeCluster):
    """Of which an identity with few rights sees the namespace `n` alone, and no custom resources."""

    def find(self, kind: Kind, namespace: str = "", **selectors: Any) -> list[Object]:
        if namespace != "n" or kind == CLUSTER:
            raise ClusterForbiddenError("is forbidden")
        return super().find(kind, namespace, **selectors)


def test_a_namespace_that_may_not_be_listed_is_told_and_the_others_are_seen() -> None:
    cluster = OneNamespace(pod("p", FOREIGN), definition(CLUSTER), namespaces=["closed"])
    result = seen(cluster, "closed", "n")
    assert [item.text for item in result.sightings] == [FOREIGN]
    assert result.blind == ("closed",)
    assert {"pods in closed", "cronjobs.batch in closed", "clusters.postgresql.cnpg.io in n"} <= set(result.unseen)
    result = seen(cluster, "n")
    assert (result.blind, result.unseen) == ((), ("clusters.postgresql.cnpg.io in n",))


def test_kinds_that_cannot_be_listed_are_told_and_a_server_that_fails_is_an_error() -> None:
    cluster = FakeCluster(pod("p", FOREIGN), definition(CLUSTER))

    def before(_verb: str, kind: Kind, _name: str) -> None:
        if kind.plural in broken:
            raise ClusterError("the server does not allow this method on the requested resource")

    cluster.before, broken = before, ["clusters"]
    assert seen(cluster).unseen == ("clusters.postgresql.cnpg.io in n",)
    broken = ["pods"]
    with pytest.raises(ClusterError, match="does not allow"):
        seen(cluster)


def test_watching_sees_the_pods_of_a_short_job_and_outlives_a_silent_server() -> None:
    cluster, notes, now = FakeCluster(pod("p", APP)), Notes(), itertools.count(0, WATCH_SECONDS)

    def sleep(_seconds: float) -> None:
        step = next(steps)
        if step == 0:
            cluster.given(pod("short", FOREIGN))
        elif step == 1:
            cluster.delete(POD, "short", "n")
            cluster.before = silent
        elif step == 2:
            cluster.before = lambda _verb, _kind, _name: None
            cluster.given(maker(DEPLOYMENT, "late", "late:1"))

    def silent(_verb: str, _kind: Kind, _name: str) -> None:
        raise ClusterUnreachableError("no answer")

    steps = itertools.count()
    result = observe(cluster, ["n"], 10, notes, clock=lambda: next(now), sleep=sleep)
    assert {item.text for item in result.sightings} == {APP, FOREIGN, "late:1"}
    assert notes.notes.count("note: no answer") == 1


def test_an_interruption_ends_watching_with_what_was_seen() -> None:
    cluster = FakeCluster(pod("p", APP))

    def sleep(_seconds: float) -> None:
        cluster.given(pod("new", FOREIGN))
        raise InterruptedByUserError("interrupted")

    result = observe(cluster, ["n"], 60, Notes(), sleep=sleep)
    assert [item.text for item in result.sightings] == [APP]


def test_the_namespaces_are_those_of_the_steps() -> None:
    lock = example()
    assert namespaces_of(lock) == []
    text = (
        '{"namespace":"home","steps":[{"chart":"a"},{"chart":"b","namespace":"far"},{"chart":"c","namespace":"far"}]}'
    )
    blob = LockedBlob.made(text.encode())
    documents = (LockedDocument(DOCUMENT, "profile", blob.digest, Origin("inline", "")), *lock.documents)
    blobs = tuple(sorted((*lock.blobs, blob), key=lambda item: item.digest))
    made = replace(lock, documents=tuple(sorted(documents, key=lambda item: item.name)), blobs=blobs)
    assert namespaces_of(made) == ["far", "home"]
