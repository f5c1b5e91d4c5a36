"""Data in claims that Helm deletes: their volumes stay, unless their owner says otherwise."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from installer.cluster.kinds import VOLUME, VOLUME_CLAIM
from installer.cluster.volumes import at_stake, let_go, retain, retained
from installer.cluster.workload import ReleaseName
from installer.diagnosis.wait import Patience
from installer.errors import ClusterForbiddenError
from installer.report import Silent
from installer.workflows.lease import Holder, Means
from installer.workflows.record import FORMAT, InstalledStep, Record
from installer.workflows.uninstall import Removal, data_of, uninstall
from tests.parts.fake_cluster import FakeCluster
from tests.parts.fake_helm import FakeHelm

if TYPE_CHECKING:
    from installer.cluster.cluster import Object
    from installer.cluster.kinds import Kind

RELEASE = ReleaseName("app", "here")
STEP = InstalledStep("chart", "app", "here", "app", "1.0.0", "sha256:1")
RECORD = Record(FORMAT, "app", "1", 1, "sha256:2", "2026-01-01T00:00:00Z", "here", "", (STEP,), ())


def claim(name: str, *, keep: bool = False, hook: bool = False, **spec: Any) -> Object:
    annotations = {**({"helm.sh/resource-policy": "keep"} if keep else {}), **({"helm.sh/hook": "x"} if hook else {})}
    metadata = {"name": name, "annotations": annotations, "labels": {"app.kubernetes.io/instance": "app"}}
    return {"apiVersion": "v1", "kind": VOLUME_CLAIM.name, "metadata": metadata, "spec": spec}


MANIFEST = (claim("data"), claim("kept", keep=True), claim("unbound"), claim("safe"), claim("hook", hook=True))


@pytest.fixture
def cluster() -> FakeCluster:
    """A cluster with the claims of MANIFEST and their volumes, which go with them unless they are retained."""
    found = FakeCluster(namespaces=["here"])
    for item in MANIFEST:
        name, policy = item["metadata"]["name"], "Retain" if item["metadata"]["name"] == "safe" else "Delete"
        bound = {"volumeName": f"pv-{name}"} if name != "unbound" else {}
        found.given({**item, "spec": bound}, namespace="here")
        if bound:
            spec = {"persistentVolumeReclaimPolicy": policy, "claimRef": {"namespace": "here", "name": name}}
            metadata = {"name": f"pv-{name}"}
            found.given({"apiVersion": "v1", "kind": VOLUME.name, "metadata": metadata, "spec": spec})

    def reclaim(verb: str, kind: Kind, obj: Object) -> None:
        volume = obj["spec"].get("volumeName") if (verb, kind) == ("delete", VOLUME_CLAIM) else None
        if volume and policies(found).get(volume) == "Delete":
            found.delete(VOLUME, volume)

    found.after = reclaim
    return found


@pytest.fixture
def releases(cluster: FakeCluster) -> FakeHelm:
    """The release of that manifest."""
    helm = FakeHelm(cluster)
    helm.given("app", "here", MANIFEST)
    return helm


def removed(cluster: FakeCluster, releases: FakeHelm, *, data: bool = False) -> Removal:
    patience = Patience(60, Silent(), sleep=lambda _seconds: None)
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return uninstall(Means(cluster, releases, patience, Holder("me", "m 1 1"), lambda: now), RECORD, data=data)


def policies(cluster: FakeCluster) -> dict[str, str]:
    return {item["metadata"]["name"]: item["spec"]["persistentVolumeReclaimPolicy"] for item in cluster.find(VOLUME)}


def test_volumes_of_claims_that_helm_deletes_stay_and_are_named(cluster: FakeCluster, releases: FakeHelm) -> None:
    kept = removed(cluster, releases).kept
    assert set(policies(cluster)) == {"pv-data", "pv-kept", "pv-safe", "pv-hook"}
    told = [item for item in kept if "PersistentVolume " in item]
    assert [item.partition(" (")[0] for item in told] == ["PersistentVolume pv-data", "PersistentVolume pv-safe"]
    assert "data of claim here/data; the chart deletes the claim" in told[0]
    assert "kubectl patch persistentvolume pv-data " in told[0]
    assert "PersistentVolumeClaim here/kept (holds data)" in kept


def test_a_second_run_still_names_them_and_deletes_them_when_told(cluster: FakeCluster, releases: FakeHelm) -> None:
    before = cluster.get(VOLUME, "pv-data") or {}
    removed(cluster, releases)
    again = [str(item) for item in data_of(cluster, RECORD)]
    assert any(item.startswith("PersistentVolume pv-data (") for item in again)
    assert "PersistentVolume pv-data" in removed(cluster, releases, data=True).removed
    # It is Kubernetes that deletes it: nothing but the policy is given back.
    after = cluster.get(VOLUME, "pv-data") or {}
    assert (
        after["spec"]
        == before["spec"]
        == {
            "persistentVolumeReclaimPolicy": "Delete",
            "claimRef": {"namespace": "here", "name": "data"},
        }
    )
    assert not after["metadata"]["labels"]
    assert not after["metadata"]["annotations"]


def test_with_all_data_nothing_is_kept(cluster: FakeCluster, releases: FakeHelm) -> None:
    present = set(policies(cluster))
    hidden = {("get", VOLUME), ("list", VOLUME), ("patch", VOLUME)}
    cluster.forbidden |= hidden
    removed(cluster, releases, data=True)
    assert not cluster.find(VOLUME_CLAIM)
    cluster.forbidden -= hidden
    assert present > set(policies(cluster)) == {"pv-safe"}


@pytest.mark.parametrize("verb", ["get", "patch"])
def test_nothing_is_removed_while_data_cannot_be_kept(cluster: FakeCluster, releases: FakeHelm, verb: str) -> None:
    cluster.forbidden.add((verb, VOLUME))
    with pytest.raises(ClusterForbiddenError, match="claim here/data: ") as caught:
        removed(cluster, releases)
    assert "may get and patch persistentvolumes" in caught.value.hint
    assert releases("here").status("app")
    assert "here/kept" not in caught.value.message


def test_a_change_keeps_what_it_drops_and_leaves_the_rest_alone(cluster: FakeCluster, releases: FakeHelm) -> None:
    before = policies(cluster)
    assert at_stake(cluster, releases, [RELEASE], {"here/data", "here/safe"}) == []
    found = at_stake(cluster, releases, [RELEASE], {"here/safe"})
    assert [(item.name, item.claim, item.policy) for item in found] == [("pv-data", "here/data", "Delete")]
    retain(cluster, found)
    assert policies(cluster) == {**before, "pv-data": "Retain"}


def test_what_was_kept_is_known_again_and_let_go(cluster: FakeCluster, releases: FakeHelm) -> None:
    before = cluster.get(VOLUME, "pv-data") or {}
    retain(cluster, at_stake(cluster, releases, [RELEASE]))
    assert [item.name for item in retained(cluster, RELEASE)] == ["pv-data"]
    assert retained(cluster, ReleaseName("app", "elsewhere")) == []
    assert let_go(cluster, "pv-data")
    assert retained(cluster, RELEASE) == []
    after = cluster.get(VOLUME, "pv-data") or {}
    assert after["spec"] == before["spec"]
    assert not after["metadata"]["labels"]
    assert not after["metadata"]["annotations"]
    assert let_go(cluster, "pv-gone") is False


@pytest.mark.parametrize("verb", ["get", "patch"])
def test_claims_whose_data_cannot_be_kept_are_named(cluster: FakeCluster, releases: FakeHelm, verb: str) -> None:
    cluster.forbidden.add((verb, VOLUME))
    with pytest.raises(ClusterForbiddenError, match="claim here/data: ") as caught:
        at_stake(cluster, releases, [RELEASE])
    assert "here/kept" not in caught.value.message
    cluster.forbidden.add(("list", VOLUME))
    assert retained(cluster, RELEASE) == []
