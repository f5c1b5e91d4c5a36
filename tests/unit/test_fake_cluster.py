"""The cluster in memory: it does what a real one does (see tests/live/test_api_server.py), and what tests say."""

from __future__ import annotations

import pytest

from installer.cluster.cluster import Cluster, ConflictError
from installer.cluster.kinds import CONFIG_MAP, POD, POD_LOG
from installer.errors import ClusterForbiddenError, ClusterUnreachableError
from installer.value import replace
from tests.parts.cluster_checks import CHECKS, config_map
from tests.parts.fake_cluster import FakeCluster


@pytest.mark.parametrize("name", CHECKS)
def test_it_does_what_a_real_one_does(name: str) -> None:
    CHECKS[name](FakeCluster(namespaces=["here"]), "here")


def test_others_are_told_apart() -> None:
    cluster = FakeCluster(config_map("here", "a", {"x": "1"}))
    with pytest.raises(ConflictError, match=r"conflict with others: \.data\.x"):
        cluster.apply(config_map("here", "a", {"x": "2"}))
    cluster.apply(config_map("here", "a", {"x": "2"}), manager="helm", force=True)
    with pytest.raises(ConflictError, match=r"conflict with helm: \.data\.x"):
        cluster.apply(config_map("here", "a", {"x": "3"}))


def test_controllers_and_faults_are_the_test_s() -> None:
    cluster, done = FakeCluster(namespaces=["here"]), list[str]()

    def after(verb: str, _kind: object, obj: dict[str, dict[str, str]]) -> None:
        done.append(f"{verb} {obj['metadata']['name']}")
        if verb != "delete":
            cluster.set_status(CONFIG_MAP, obj["metadata"]["name"], "here", {"ready": True})
            cluster.delete(CONFIG_MAP, "made before", "here")

    cluster.after = after
    cluster.apply(config_map("here", "a"))
    assert (cluster.get(CONFIG_MAP, "a", "here") or {})["status"] == {"ready": True}
    cluster.delete(CONFIG_MAP, "a", "here")
    assert done == ["patch a", "delete a"]

    def before(verb: str, _kind: object, name: str) -> None:
        if (verb, name) == ("get", "b"):
            raise ClusterUnreachableError("gone")

    cluster.before = before
    assert cluster.get(CONFIG_MAP, "a", "here") is None
    with pytest.raises(ClusterUnreachableError):
        cluster.get(CONFIG_MAP, "b", "here")


def test_what_is_forbidden_is_refused_and_said() -> None:
    cluster: Cluster = (fake := FakeCluster(namespaces=["here"]))
    fake.forbidden |= {("list", POD), ("get", POD_LOG)}
    assert not cluster.can_i("list", POD)
    assert not cluster.can_i("list", replace(POD, version="*"))
    assert cluster.can_i("get", POD)
    with pytest.raises(ClusterForbiddenError, match="pods is forbidden"):
        cluster.find(POD)
    with pytest.raises(ClusterForbiddenError, match="pods/log is forbidden"):
        cluster.logs("here", "a")


def test_logs_and_events_are_as_given() -> None:
    cluster = FakeCluster()
    cluster.said("here", "a", "1", "2", "3")
    cluster.said("here", "a", "old", container="main", previous=True)
    cluster.happened("here", "Pod", "a", "Failed", "no image")
    cluster.happened("here", "Pod", "b", "Failed", "no room")
    assert cluster.logs("here", "a", "main", tail=2) == ["2", "3"]
    assert cluster.logs("here", "a", "main", previous=True) == ["old"]
    assert [event["message"] for event in cluster.events("here", "Pod", "a")] == ["no image"]
