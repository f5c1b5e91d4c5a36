"""The pods of the W&B operator, on nodes whose clocks are not the API server's."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest
from installer.cluster.controller import CUSTOM_RESOURCE

from installer.cluster.kinds import DEPLOYMENT, POD, REPLICA_SET, SECRET, Kind
from installer.cluster.workload import ReleaseName
from installer.diagnosis.wait import Patience
from installer.report import Silent
from installer.workflows import operator

if TYPE_CHECKING:
    from installer.cluster.cluster import Cluster

OPERATOR, PLATFORM = ReleaseName("operator", "o"), ReleaseName("wandb", "w")
START = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


@dataclass
class World:
    """A Deployment that keeps one pod, on a node whose clock is off by `skew` seconds."""

    skew: float
    seconds: float = 0.0
    made: int = 0
    pod: dict[str, Any] = field(default_factory=dict)
    release: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._make()
        self.seconds += 60

    def stamp(self, skew: float = 0.0) -> str:
        return (START + dt.timedelta(seconds=self.seconds + skew)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _make(self) -> None:
        self.made += 1
        assert self.made < 10, "pods are replaced again and again"
        owner = {"kind": "ReplicaSet", "name": "controller-1", "controller": True}
        metadata = {"name": f"pod-{self.made}", "creationTimestamp": self.stamp(), "ownerReferences": [owner]}
        ready = [{"type": "Ready", "status": "True"}]
        self.pod = {"metadata": metadata, "status": {"startTime": self.stamp(self.skew), "conditions": ready}}

    def find(self, kind: Kind, _namespace: str = "", **_: Any) -> list[dict[str, Any]]:
        notes = {"meta.helm.sh/release-name": "operator", "meta.helm.sh/release-namespace": "o"}
        status = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
        metadata = {"name": "controller", "namespace": "o", "generation": 1, "annotations": notes}
        found = {
            DEPLOYMENT: [{"metadata": metadata, "spec": {"replicas": 1}, "status": status}],
            POD: [self.pod],
            SECRET: [self.release] if self.release else [],
            REPLICA_SET: [],
        }
        return found.get(kind, [])

    def get(self, kind: Kind, _name: str, _namespace: str = "") -> dict[str, Any]:
        assert kind == CUSTOM_RESOURCE
        return {"status": {"phase": "Loading"}}

    def delete(self, kind: Kind, name: str, _namespace: str) -> bool:
        if kind == POD:
            assert name == self.pod["metadata"]["name"]
            self._make()
        elif kind == SECRET:
            self.release = {}
        return True

    def patience(self) -> Patience:
        def sleep(seconds: float) -> None:
            self.seconds += seconds
            assert self.seconds < 3600, "waiting without an end"

        return Patience(600, Silent(), sleep, lambda: self.seconds)


@pytest.fixture(params=[-600.0, 0.0, 600.0], ids=["behind", "right", "ahead"])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def test_one_pod_is_replaced_once_and_a_younger_one_is_not(world: World) -> None:
    cluster = cast("Cluster", world)
    change = {"metadata": {"managedFields": [{"time": world.stamp()}]}}
    operator.until_seen(cluster, OPERATOR, [change], world.patience())
    assert world.made == 2
    world.seconds += 60
    operator.until_seen(cluster, OPERATOR, [change], world.patience())
    assert world.made == 2


def test_what_a_new_start_brings_is_told_from_what_was_before(world: World) -> None:
    before = world.stamp()
    world.seconds += 5
    since = operator.wake(cast("Cluster", world), OPERATOR, world.patience())
    assert world.made == 2
    assert before < since <= world.stamp()


def test_a_change_that_is_under_way_is_waited_for(world: World) -> None:
    metadata = {
        "name": "r.v2",
        "creationTimestamp": world.stamp(),
        "labels": {"version": "2", "status": "pending-upgrade"},
    }
    world.release = {"metadata": metadata}
    start = world.seconds
    assert operator.settle(cast("Cluster", world), OPERATOR, PLATFORM, world.patience())
    assert world.seconds - start >= operator.BUSY_SECONDS
    assert world.made == 2, "then the controller is started anew, which ends the change"
