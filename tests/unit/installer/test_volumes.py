"""Data in claims that Helm deletes: their volumes stay, unless their owner says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from installer.cluster.kube import VOLUME
from installer.cluster.volumes import at_stake, retain
from installer.cluster.workload import ReleaseName
from installer.errors import ClusterForbiddenError
from installer.workflows.uninstall import data_of
from tests.parts.removal import RECORD, World

if TYPE_CHECKING:
    from installer.chart.releases import Releases
    from installer.cluster.kube import Cluster


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


def test_a_change_keeps_what_it_drops_and_leaves_the_rest_alone() -> None:
    world = World()
    cluster, releases = cast("Cluster", world), lambda _: cast("Releases", world)
    assert at_stake(cluster, releases, [ReleaseName("app", "here")], {"here/data", "here/safe"}) == []
    found = at_stake(cluster, releases, [ReleaseName("app", "here")], {"here/safe"})
    assert [(item.name, item.claim, item.policy) for item in found] == [("pv-data", "here/data", "Delete")]
    retain(cluster, found)
    assert world.objects[VOLUME.name, "pv-data"]["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert world.objects[VOLUME.name, "pv-kept"]["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
