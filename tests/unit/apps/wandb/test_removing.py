"""What an uninstallation leaves to others, the W&B controller among them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from installer.cluster.controller import CUSTOM_RESOURCE, FINALIZER
from installer.objects.chart_configmap import CONFIG_MAP_NAME, ChartFile, config_map, is_ours

from installer.cluster.cluster import FIELD_MANAGER, ConflictError
from installer.cluster.kinds import CONFIG_MAP, DEPLOYMENT, POD, SECRET, Kind
from installer.diagnosis.wait import Patience
from installer.value import replace
from installer.workflows.record import InstalledChart
from installer.workflows.uninstall import GRACE_SECONDS
from tests.parts.counted import Notes
from tests.parts.removal import RECORD, World

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PLACE = (CONFIG_MAP.name, CONFIG_MAP_NAME)
FILE = ChartFile("app-1.0.0-abc.tgz", b"chart")


@dataclass
class Charts(World):
    """The ConfigMap of charts, in which others own the keys of `theirs`, applied to as the API server does it."""

    installed: bool = False
    theirs: dict[str, str] = field(default_factory=dict)

    def apply(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        times = [{"manager": FIELD_MANAGER, "operation": "Apply", "time": "2026-01-31T00:00:00Z"}]
        metadata = {**obj["metadata"], "managedFields": times}
        data = {**obj.get("binaryData", {}), **self.theirs}
        self.objects[PLACE] = {"kind": CONFIG_MAP.name, "metadata": metadata, "binaryData": data}
        return self.objects[PLACE]


def test_the_charts_go_with_the_installation() -> None:
    world = Charts()
    world.apply(config_map(FILE, "here", None))
    assert is_ours(world.objects[PLACE])
    done = world.removed()
    assert PLACE not in world.objects
    assert f"ConfigMap here/{CONFIG_MAP_NAME}" in done.removed


@pytest.mark.parametrize("ours", [False, True], ids=["made by others", "used by others later"])
def test_what_others_keep_beside_the_charts_stays(ours: bool) -> None:
    world = Charts(theirs={"other.tgz": "b3RoZXI="})
    current = {"metadata": {"name": CONFIG_MAP_NAME}, "binaryData": dict(world.theirs)}
    world.apply(config_map(FILE, "here", None if ours else current))
    assert is_ours(world.objects[PLACE]) is ours
    assert FILE.key in world.objects[PLACE]["binaryData"]
    done = world.removed()
    assert world.objects[PLACE]["binaryData"] == world.theirs
    assert f"ConfigMap here/{CONFIG_MAP_NAME} (made or used by others)" in done.kept
    assert f"our charts in ConfigMap here/{CONFIG_MAP_NAME}" in done.removed


def test_a_config_map_without_charts_of_ours_is_not_touched() -> None:
    world = Charts()
    theirs: dict[str, Any] = {"kind": CONFIG_MAP.name, "metadata": {"name": CONFIG_MAP_NAME}, "data": {}}
    world.objects[PLACE] = dict(theirs)
    done = world.removed()
    assert world.objects[PLACE] == theirs
    assert not [item for item in (*done.removed, *done.kept) if CONFIG_MAP_NAME in item]


OPERATOR = InstalledChart("operator", "1.0.0", "sha256:3", "operator", "here", ())
PLATFORM = InstalledChart("platform", "1.0.0", "sha256:4", "wandb", "here", ())
RESOURCE, RELEASE = (CUSTOM_RESOURCE.name, "wandb"), (SECRET.name, "sh.helm.release.v1.wandb.v2")
APPLYING = "Failed to apply config changes."
CLEANING = "Failed to cleanup deployment."


@dataclass
class Controlled(World):
    """A custom resource and its release, to which the controller does at each second what `plan` says.

    It `complains` in its log; without `alive` it does not run.
    """

    plan: dict[int, Callable[[Controlled], None]] = field(default_factory=dict)
    complains: str = ""
    alive: bool = True
    conflicts: int = 0
    now: float = 0.0
    notes: Notes = field(default_factory=Notes)

    def __post_init__(self) -> None:
        super().__post_init__()
        metadata = {"name": "wandb", "namespace": "here", "finalizers": [FINALIZER], "resourceVersion": "1"}
        self.objects[RESOURCE] = {"kind": CUSTOM_RESOURCE.name, "metadata": metadata}
        labels = {"owner": "helm", "name": "wandb", "version": "2", "status": "pending-upgrade"}
        self.objects[RELEASE] = {"metadata": {"name": RELEASE[1], "namespace": "here", "labels": labels}}
        made = {"meta.helm.sh/release-name": "operator"}
        place = {"name": "manager", "namespace": "here"}
        labels = {"app": "manager"}
        self.objects[DEPLOYMENT.name, "manager"] = {
            "metadata": {**place, "annotations": made},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}},
            "status": {"replicas": 1, "updatedReplicas": 1, "availableReplicas": int(self.alive)},
        }
        owner = {"kind": "ReplicaSet", "name": "manager-1"}
        pod = {"name": "manager-1-1", "labels": labels, "creationTimestamp": "", "ownerReferences": [owner]}
        self.objects[POD.name, "manager-1-1"] = {"metadata": pod}

    def delete(self, kind: Kind, name: str, namespace: str = "") -> bool:
        if (kind.name, name) == RESOURCE:
            return True
        return super().delete(kind, name, namespace)

    def merge(self, kind: Kind, name: str, namespace: str, change: Mapping[str, Any]) -> dict[str, Any]:
        if (kind.name, name) != RESOURCE:
            return super().merge(kind, name, namespace, change)
        self.conflicts -= 1
        if self.conflicts >= 0:
            raise ConflictError("the object has been modified")
        assert change["metadata"] == {"finalizers": [], "resourceVersion": "1"}
        return self.objects.pop(RESOURCE)

    def logs(self, _namespace: str, _pod: str, **_limits: Any) -> list[str]:
        return [json.dumps({"level": "error", "msg": self.complains, "error": "no luck", "WeightsAndBiases": "wandb"})]

    def uninstall(self, release: str, *, timeout: int) -> bool:
        if release == "wandb":
            return self.objects.pop(RELEASE, None) is not None
        return super().uninstall(release, timeout=timeout)

    def step(self, seconds: float) -> None:
        self.now += seconds
        if event := self.plan.pop(int(self.now), None):
            event(self)

    def told(self) -> str:
        """Uninstall; what was said of the custom resource and its release."""
        patience = Patience(600, self.notes, sleep=self.step, clock=lambda: self.now)
        done = self.removed(replace(RECORD, operator=OPERATOR, platform=PLATFORM), patience, data=True)
        assert done.removed[0] == "WeightsAndBiases here/wandb"
        return "\n".join(item for item in self.notes.notes if not item.startswith("removed "))


def released(world: Controlled) -> None:
    del world.objects[RELEASE]


def finished(world: Controlled) -> None:
    del world.objects[RESOURCE]


def test_a_controller_that_is_late_and_slow_is_left_to_its_work() -> None:
    # Its last complaint is about the change before; a hook of it kept the controller from the deletion.
    world = Controlled(plan={22: released, 30: finished}, complains=APPLYING)
    said = world.told()
    assert world.now == 30
    assert "pending-upgrade" in said
    assert "removing" not in said


def test_a_release_that_the_controller_cannot_remove() -> None:
    world = Controlled(complains=CLEANING)
    said = world.told()
    assert f"removing release here/wandb without the controller: {CLEANING} no luck" in said
    assert "no release exists; removing the finalizer" in said
    assert world.now == GRACE_SECONDS + 2


def test_a_controller_that_does_not_run() -> None:
    world = Controlled(alive=False)
    assert "without the controller: it does not run" in world.told()


def test_a_controller_that_ends_without_its_last_step() -> None:
    world = Controlled(plan={3: released})
    said = world.told()
    assert "no release exists; removing the finalizer" in said
    assert world.now == 3 + GRACE_SECONDS


def test_a_finalizer_that_somebody_else_is_at_too() -> None:
    world = Controlled(plan={1: released}, conflicts=3)
    assert world.told().count("removing the finalizer") == 4
    world = Controlled(plan={1: released, 17: finished}, conflicts=100)
    world.told()
    assert RESOURCE not in world.objects
