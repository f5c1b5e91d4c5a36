"""Data in claims that Helm deletes: their volumes stay, unless their owner says otherwise."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import create_autospec

import pytest

from installer.chart.releases import Release, Releases
from installer.cluster.cluster import Cluster, ConflictError
from installer.cluster.kinds import LEASE, VOLUME, VOLUME_CLAIM, Kind
from installer.cluster.volumes import at_stake, let_go, retain, retained
from installer.cluster.workload import ReleaseName
from installer.diagnosis.wait import Patience
from installer.errors import ClusterForbiddenError
from installer.report import Silent
from installer.workflows.lease import Means
from installer.workflows.lock_owner import Holder
from installer.workflows.record import FORMAT, InstalledChart, Record
from installer.workflows.uninstall import Removal, data_of, uninstall
from tests.parts.fake_cluster import FakeCluster

if TYPE_CHECKING:
    from collections.abc import Mapping

CHART = InstalledChart("app", "1.0.0", "sha256:1", "app", "here", ())
RECORD = Record(FORMAT, "app", "1", 1, "sha256:2", "2026-01-01T00:00:00Z", "here", (CHART,), CHART, None, "", ())


def claim(name: str, *, keep: bool = False, hook: bool = False) -> dict[str, Any]:
    annotations = {**({"helm.sh/resource-policy": "keep"} if keep else {}), **({"helm.sh/hook": "x"} if hook else {})}
    return {"kind": "PersistentVolumeClaim", "metadata": {"name": name, "annotations": annotations}}


MANIFEST = (claim("data"), claim("kept", keep=True), claim("unbound"), claim("safe"), claim("hook", hook=True))


@dataclass
class World:
    """A cluster with claims and volumes of one release, which is removed as Helm and Kubernetes do it."""

    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    forbidden: frozenset[str] = frozenset()
    installed: bool = True

    def __post_init__(self) -> None:
        for name, policy in (("data", "Delete"), ("kept", "Delete"), ("safe", "Retain"), ("hook", "Delete")):
            self.objects[VOLUME_CLAIM.name, name] = {
                "metadata": {"name": name, "namespace": "here", "labels": {"app.kubernetes.io/instance": "app"}},
                "spec": {"volumeName": f"pv-{name}"},
            }
            spec = {"persistentVolumeReclaimPolicy": policy, "claimRef": {"namespace": "here", "name": name}}
            self.objects[VOLUME.name, f"pv-{name}"] = {"metadata": {"name": f"pv-{name}"}, "spec": spec}
        metadata = {"name": "unbound", "namespace": "here"}
        self.objects[VOLUME_CLAIM.name, "unbound"] = {"metadata": metadata, "spec": {}}

    def get(self, kind: Kind, name: str, _namespace: str = "") -> dict[str, Any] | None:
        if kind == VOLUME and "get" in self.forbidden:
            raise ClusterForbiddenError("persistentvolumes is forbidden")
        return self.objects.get((kind.name, name))

    def find(self, kind: Kind, _namespace: str = "", **selection: Any) -> list[dict[str, Any]]:
        if kind == VOLUME and "get" in self.forbidden:
            raise ClusterForbiddenError("persistentvolumes is forbidden")
        labels = (selection.get("labels") or {}).items()
        found = [item for (name, _), item in self.objects.items() if name == kind.name]
        return [item for item in found if labels <= (item["metadata"].get("labels") or {}).items()]

    def can_i(self, verb: str, _kind: Kind, _namespace: str = "", name: str = "") -> bool:
        assert name
        return verb not in self.forbidden

    def merge(self, kind: Kind, name: str, _namespace: str, change: Mapping[str, Any]) -> dict[str, Any]:
        held = self.objects[kind.name, name]
        for part, content in change.items():
            for key, value in content.items():
                if isinstance(value, dict):
                    merged = {**(held[part].get(key) or {}), **value}
                    held[part][key] = {word: text for word, text in merged.items() if text is not None}
                else:
                    held[part][key] = value
        return held

    def create(self, obj: dict[str, Any]) -> dict[str, Any]:
        if (LEASE.name, obj["metadata"]["name"]) in self.objects:
            raise ConflictError("it exists")
        self.objects[LEASE.name, obj["metadata"]["name"]] = {
            **obj,
            "metadata": {**obj["metadata"], "resourceVersion": "1"},
        }
        return self.objects[LEASE.name, obj["metadata"]["name"]]

    def delete(self, kind: Kind, name: str, _namespace: str = "") -> bool:
        gone = self.objects.pop((kind.name, name), None)
        if gone is not None and kind == VOLUME_CLAIM and (volume := gone["spec"].get("volumeName")):
            self._reclaim(volume)
        return gone is not None

    def _reclaim(self, volume: str) -> None:
        if self.objects[VOLUME.name, volume]["spec"]["persistentVolumeReclaimPolicy"] == "Delete":
            del self.objects[VOLUME.name, volume]

    def status(self, release: str) -> Release | None:
        return Release(release, "here", 1, "deployed", "app", "1.0.0", "", objects=MANIFEST) if self.installed else None

    def uninstall(self, _release: str, *, timeout: int) -> bool:
        assert timeout
        there, self.installed = self.installed, False
        for item in MANIFEST if there else ():
            annotations = item["metadata"]["annotations"]
            if not annotations:
                self.delete(VOLUME_CLAIM, item["metadata"]["name"])
        return there

    def volumes(self) -> set[str]:
        return {name for kind, name in self.objects if kind == VOLUME.name}

    def removed(self, record: Record = RECORD, patience: Patience | None = None, *, data: bool = False) -> Removal:
        patience = patience or Patience(60, Silent(), sleep=lambda _seconds: None)
        now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        means = Means(
            cast("Cluster", self), lambda _: cast("Releases", self), patience, Holder("me", "m 1 1"), lambda: now
        )
        return uninstall(means, record, data=data)


def test_volumes_of_claims_that_helm_deletes_stay_and_are_named() -> None:
    world = World()
    kept = world.removed().kept
    assert world.volumes() == {"pv-data", "pv-kept", "pv-safe", "pv-hook"}
    told = [item for item in kept if "PersistentVolume " in item]
    assert [item.partition(" (")[0] for item in told] == ["PersistentVolume pv-data", "PersistentVolume pv-safe"]
    assert "data of claim here/data; the chart deletes the claim" in told[0]
    assert "kubectl patch persistentvolume pv-data " in told[0]
    assert "PersistentVolumeClaim here/kept (holds data)" in kept


def test_a_second_run_still_names_them_and_deletes_them_when_told() -> None:
    world = World()
    world.removed()
    again = [str(item) for item in data_of(cast("Cluster", world), RECORD)]
    assert any(item.startswith("PersistentVolume pv-data (") for item in again)
    removed = world.removed(data=True).removed
    assert "PersistentVolume pv-data" in removed
    # It is Kubernetes that deletes it: nothing but the policy is given back.
    assert world.objects[VOLUME.name, "pv-data"] == {
        "metadata": {"name": "pv-data", "labels": {}, "annotations": {}},
        "spec": {"persistentVolumeReclaimPolicy": "Delete", "claimRef": {"namespace": "here", "name": "data"}},
    }


def test_with_all_data_nothing_is_kept() -> None:
    world = World(forbidden=frozenset({"get", "patch"}))
    world.removed(data=True)
    assert world.volumes() == {"pv-safe"}


@pytest.mark.parametrize("verb", ["get", "patch"])
def test_nothing_is_removed_while_data_cannot_be_kept(verb: str) -> None:
    world = World(forbidden=frozenset({verb}))
    with pytest.raises(ClusterForbiddenError, match="claim here/data: ") as caught:
        world.removed()
    assert "may get and patch persistentvolumes" in caught.value.hint
    assert world.installed
    assert "here/kept" not in caught.value.message


@pytest.fixture
def cluster() -> FakeCluster:
    """A cluster with the claims of MANIFEST and their volumes."""
    found = FakeCluster(namespaces=["here"])
    for name, policy in (("data", "Delete"), ("kept", "Delete"), ("safe", "Retain"), ("hook", "Delete")):
        spec = {"persistentVolumeReclaimPolicy": policy, "claimRef": {"namespace": "here", "name": name}}
        found.given(
            {"apiVersion": "v1", "kind": VOLUME.name, "metadata": {"name": f"pv-{name}"}, "spec": spec},
        )
        found.given({**claim(name), "apiVersion": "v1", "spec": {"volumeName": f"pv-{name}"}}, namespace="here")
    found.given({**claim("unbound"), "apiVersion": "v1", "spec": {}}, namespace="here")
    return found


RELEASE = ReleaseName("app", "here")


def releases(_namespace: str) -> Releases:
    release = Release("app", "here", 1, "deployed", "app", "1.0.0", "", objects=MANIFEST)
    found = create_autospec(Releases, instance=True)
    found.status.return_value = release
    return cast("Releases", found)


def policies(cluster: FakeCluster) -> dict[str, str]:
    return {item["metadata"]["name"]: item["spec"]["persistentVolumeReclaimPolicy"] for item in cluster.find(VOLUME)}


def test_a_change_keeps_what_it_drops_and_leaves_the_rest_alone(cluster: FakeCluster) -> None:
    before = policies(cluster)
    assert at_stake(cluster, releases, [RELEASE], {"here/data", "here/safe"}) == []
    found = at_stake(cluster, releases, [RELEASE], {"here/safe"})
    assert [(item.name, item.claim, item.policy) for item in found] == [("pv-data", "here/data", "Delete")]
    retain(cluster, found)
    assert policies(cluster) == {**before, "pv-data": "Retain"}


def test_what_was_kept_is_known_again_and_let_go(cluster: FakeCluster) -> None:
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
def test_claims_whose_data_cannot_be_kept_are_named(cluster: FakeCluster, verb: str) -> None:
    cluster.forbidden.add((verb, VOLUME))
    with pytest.raises(ClusterForbiddenError, match="claim here/data: ") as caught:
        at_stake(cluster, releases, [RELEASE])
    assert "here/kept" not in caught.value.message
    cluster.forbidden.add(("list", VOLUME))
    assert retained(cluster, RELEASE) == []
