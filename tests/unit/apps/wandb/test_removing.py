"""What a removal of the platform leaves to others, the W&B controller among them."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

import pytest

from installer.apps.wandb.chart_source.configmap import CONFIG_MAP_NAME, ChartFile, config_map, is_ours
from installer.apps.wandb.controller import CUSTOM_RESOURCE, FINALIZER
from installer.apps.wandb.removing import GRACE_SECONDS
from installer.cluster.cluster import ConflictError
from installer.cluster.kinds import CONFIG_MAP
from installer.diagnosis.wait import Patience
from installer.workflows.lease import Holder, Means
from installer.workflows.record import FORMAT, InstalledObject, InstalledStep, Record
from installer.workflows.uninstall import Removal, uninstall
from tests.parts.counted import Notes
from tests.parts.fake_cluster import FakeCluster
from tests.parts.fake_helm import FakeHelm
from tests.parts.wandb_cluster import DEFINITION, resource

if TYPE_CHECKING:
    from collections.abc import Callable

    from installer.cluster.cluster import Object
    from installer.cluster.kinds import Kind

OBJECT = InstalledObject(CUSTOM_RESOURCE.api_version, CUSTOM_RESOURCE.name, "here", "wandb")
STEPS = (
    InstalledStep("chart", "operator", "here", "operator", "1.0.0", "sha256:3"),
    InstalledStep(
        "resource",
        "wandb",
        "here",
        "platform",
        "1.0.0",
        "sha256:4",
        objects=(OBJECT,),
        controller="here/operator",
        values_at="spec.values",
    ),
)
RECORD = Record(FORMAT, "app", "1", 1, "sha256:2", "2026-01-01T00:00:00Z", "here", "wandb", STEPS, ())
FILE = ChartFile("app-1.0.0-abc.tgz", b"chart")
THEIRS = {"other.tgz": "b3RoZXI="}


def removed(helm: FakeHelm, patience: Patience | None = None, *, data: bool = False) -> Removal:
    patience = patience or Patience(60, Notes(), sleep=lambda _seconds: None)
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return uninstall(Means(helm.cluster, helm, patience, Holder("me", "m 1 1"), lambda: now), RECORD, data=data)


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(DEFINITION, namespaces=["here"])


def charts(cluster: FakeCluster) -> Object:
    """The ConfigMap of charts."""
    return cluster.get(CONFIG_MAP, CONFIG_MAP_NAME, "here") or {}


def of_others(**data: str) -> Object:
    metadata = {"name": CONFIG_MAP_NAME, "namespace": "here"}
    return {"apiVersion": "v1", "kind": CONFIG_MAP.name, "metadata": metadata, "binaryData": data}


def test_the_charts_go_with_the_installation(cluster: FakeCluster) -> None:
    cluster.apply(config_map(FILE, "here", None))
    assert is_ours(charts(cluster))
    done = removed(FakeHelm(cluster))
    assert not charts(cluster)
    assert f"ConfigMap here/{CONFIG_MAP_NAME}" in done.removed


@pytest.mark.parametrize("ours", [False, True], ids=["made by others", "used by others later"])
def test_what_others_keep_beside_the_charts_stays(cluster: FakeCluster, ours: bool) -> None:
    if ours:
        cluster.apply(config_map(FILE, "here", None))
        cluster.apply(of_others(**THEIRS), manager="others")
    else:
        cluster.given(of_others(**THEIRS))
        cluster.apply(config_map(FILE, "here", charts(cluster)))
    assert is_ours(charts(cluster)) is ours
    assert FILE.key in charts(cluster)["binaryData"]
    done = removed(FakeHelm(cluster))
    assert charts(cluster)["binaryData"] == THEIRS
    assert f"ConfigMap here/{CONFIG_MAP_NAME} (made or used by others)" in done.kept
    assert f"our charts in ConfigMap here/{CONFIG_MAP_NAME}" in done.removed


def test_a_config_map_without_charts_of_ours_is_not_touched(cluster: FakeCluster) -> None:
    before = cluster.given(of_others())
    done = removed(FakeHelm(cluster))
    assert charts(cluster) == before
    assert not [item for item in (*done.removed, *done.kept) if CONFIG_MAP_NAME in item]


APPLYING = "Failed to apply config changes."
CLEANING = "Failed to cleanup deployment."


class Controlled:
    """A custom resource and its release, to which the controller does at each second what `plan` says.

    It `complains` in its log; without `alive` it does not run. The first `conflicts` changes of the resource meet one
    of somebody else.
    """

    def __init__(
        self,
        cluster: FakeCluster,
        *,
        plan: dict[int, Callable[[Controlled], None]] | None = None,
        complains: str = "",
        alive: bool = True,
        conflicts: int = 0,
    ) -> None:
        self.cluster, self.helm, self.plan, self.conflicts = cluster, FakeHelm(cluster), plan or {}, conflicts
        self.now, self.notes = 0.0, Notes()
        cluster.given(resource("wandb", "here", {}, finalizers=[FINALIZER]))
        self.helm.given("wandb", "here", status="pending-upgrade")
        cluster.given(manager_deployment(alive=alive))
        cluster.given(MANAGER_SET)
        cluster.given(MANAGER_POD)
        line = {"level": "error", "msg": complains, "error": "no luck", "WeightsAndBiases": "wandb"}
        cluster.said("here", "manager-1-1", json.dumps(line))
        cluster.before = self.meanwhile

    def meanwhile(self, verb: str, kind: Kind, _name: str) -> None:
        if (verb, kind) == ("patch", CUSTOM_RESOURCE):
            self.conflicts -= 1
            if self.conflicts >= 0:
                raise ConflictError("the object has been modified")

    def step(self, seconds: float) -> None:
        self.now += seconds
        if event := self.plan.pop(int(self.now), None):
            event(self)

    def told(self) -> str:
        """Uninstall; what was said of the custom resource and its release."""
        patience = Patience(600, self.notes, sleep=self.step, clock=lambda: self.now)
        done = removed(self.helm, patience, data=True)
        assert done.removed[0] == "WeightsAndBiases here/wandb"
        assert self.cluster.get(CUSTOM_RESOURCE, "wandb", "here") is None
        return "\n".join(item for item in self.notes.notes if not item.startswith("removed "))


LABELS = {"app": "manager"}
MANAGER_POD: Object = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "manager-1-1",
        "namespace": "here",
        "labels": LABELS,
        "ownerReferences": [{"kind": "ReplicaSet", "name": "manager-1", "uid": "of-the-set"}],
    },
}
MANAGER_SET: Object = {
    "apiVersion": "apps/v1",
    "kind": "ReplicaSet",
    "metadata": {"name": "manager-1", "namespace": "here", "uid": "of-the-set"},
}


def manager_deployment(*, alive: bool) -> Object:
    made = {"meta.helm.sh/release-name": "operator"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "manager", "namespace": "here", "annotations": made},
        "spec": {"replicas": 1, "selector": {"matchLabels": LABELS}},
        "status": {"replicas": 1, "updatedReplicas": 1, "availableReplicas": int(alive)},
    }


def released(world: Controlled) -> None:
    world.helm("here").uninstall("wandb")


def finished(world: Controlled) -> None:
    world.conflicts = 0
    world.cluster.merge(CUSTOM_RESOURCE, "wandb", "here", {"metadata": {"finalizers": []}}, manager="controller")


def test_a_controller_that_is_late_and_slow_is_left_to_its_work(cluster: FakeCluster) -> None:
    # Its last complaint is about the change before; a hook of it kept the controller from the deletion.
    world = Controlled(cluster, plan={22: released, 30: finished}, complains=APPLYING)
    said = world.told()
    assert world.now == 30
    assert "pending-upgrade" in said
    assert "removing" not in said


def test_a_release_that_the_controller_cannot_remove(cluster: FakeCluster) -> None:
    world = Controlled(cluster, complains=CLEANING)
    said = world.told()
    assert f"removing release here/wandb without the controller: {CLEANING} no luck" in said
    assert "no release exists; removing the finalizer" in said
    assert world.now == GRACE_SECONDS + 2


def test_a_controller_that_does_not_run(cluster: FakeCluster) -> None:
    world = Controlled(cluster, alive=False)
    assert "without the controller: it does not run" in world.told()


def test_a_controller_that_ends_without_its_last_step(cluster: FakeCluster) -> None:
    world = Controlled(cluster, plan={3: released})
    said = world.told()
    assert "no release exists; removing the finalizer" in said
    assert world.now == 3 + GRACE_SECONDS


def test_a_finalizer_that_somebody_else_is_at_too(cluster: FakeCluster) -> None:
    world = Controlled(cluster, plan={1: released}, conflicts=3)
    assert world.told().count("removing the finalizer") == 4
    Controlled(cluster, plan={1: released, 17: finished}, conflicts=100).told()
