"""The pods of the W&B operator, on nodes whose clocks are not the API server's."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from installer.apps.wandb import operator
from installer.cluster.kinds import POD, Kind
from installer.cluster.workload import ReleaseName
from installer.diagnosis.wait import Patience
from installer.report import Silent
from tests.parts.fake_cluster import FakeCluster
from tests.parts.fake_helm import FakeHelm
from tests.parts.wandb_cluster import DEFINITION, resource

if TYPE_CHECKING:
    from installer.cluster.cluster import Object

OPERATOR, PLATFORM = ReleaseName("operator", "o"), ReleaseName("wandb", "w")
START = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


class World:
    """A Deployment that keeps one pod, on a node whose clock is off by `skew` seconds."""

    def __init__(self, skew: float) -> None:
        self.skew, self.seconds, self.made = skew, 0.0, 0
        self.cluster = FakeCluster(DEFINITION, namespaces=["o", "w"], now=self.now)
        notes = {"meta.helm.sh/release-name": "operator", "meta.helm.sh/release-namespace": "o"}
        place = {"name": "controller", "namespace": "o", "generation": 1, "annotations": notes}
        status = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
        head = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": place}
        self.cluster.given({**head, "spec": {"replicas": 1}, "status": status})
        self.set = self.cluster.given(
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "controller-1", "namespace": "o"}}
        )
        self.cluster.given(resource("wandb", "w", phase="Loading"))
        self.cluster.after = self.after
        self._make()
        self.seconds += 60

    def now(self, skew: float = 0.0) -> dt.datetime:
        return START + dt.timedelta(seconds=self.seconds + skew)

    def stamp(self, skew: float = 0.0) -> str:
        return self.now(skew).strftime("%Y-%m-%dT%H:%M:%SZ")

    def after(self, verb: str, kind: Kind, _obj: Object) -> None:
        if (verb, kind) == ("delete", POD):
            self._make()

    def _make(self) -> None:
        self.made += 1
        assert self.made < 10, "pods are replaced again and again"
        uid = self.set["metadata"]["uid"]
        owner = {"kind": "ReplicaSet", "name": "controller-1", "controller": True, "uid": uid}
        metadata = {"name": f"pod-{self.made}", "namespace": "o", "ownerReferences": [owner]}
        ready = [{"type": "Ready", "status": "True"}]
        status = {"startTime": self.stamp(self.skew), "conditions": ready}
        self.cluster.given({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}, "status": status})

    def patience(self) -> Patience:
        def sleep(seconds: float) -> None:
            self.seconds += seconds
            assert self.seconds < 3600, "waiting without an end"

        return Patience(600, Silent(), sleep, lambda: self.seconds)


@pytest.fixture(params=[-600.0, 0.0, 600.0], ids=["behind", "right", "ahead"])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def test_one_pod_is_replaced_once_and_a_younger_one_is_not(world: World) -> None:
    change = {"metadata": {"managedFields": [{"time": world.stamp()}]}}
    operator.until_seen(world.cluster, OPERATOR, [change], world.patience())
    assert world.made == 2
    world.seconds += 60
    operator.until_seen(world.cluster, OPERATOR, [change], world.patience())
    assert world.made == 2


def test_what_a_new_start_brings_is_told_from_what_was_before(world: World) -> None:
    before = world.stamp()
    world.seconds += 5
    since = operator.wake(world.cluster, OPERATOR, world.patience())
    assert world.made == 2
    assert before < since <= world.stamp()


def test_a_change_that_is_under_way_is_waited_for(world: World) -> None:
    FakeHelm(world.cluster).given("wandb", "w", status="pending-upgrade")
    start = world.seconds
    assert operator.settle(world.cluster, OPERATOR, PLATFORM, world.patience())
    assert world.seconds - start >= operator.BUSY_SECONDS
    assert world.made == 2, "then the controller is started anew, which ends the change"
