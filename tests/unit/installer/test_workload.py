"""When a workload counts as rolled out, by the objects as API servers send them."""

from __future__ import annotations

from typing import Any

import pytest

from installer.cluster.kinds import DAEMON_SET, DEPLOYMENT, JOB, STATEFUL_SET, Kind
from installer.cluster.workload import ReleaseName, of_release, workload


def obj(spec: dict[str, Any], status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "w", "namespace": "n", "generation": 3, **metadata}, "spec": spec, "status": status}


SEEN = {"observedGeneration": 3}
FULL = {**SEEN, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "readyReplicas": 2}
NODES = {**SEEN, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2}
PARTITION = {"replicas": 2, "updateStrategy": {"rollingUpdate": {"partition": 1}}}

# kind, spec, status → ready, words of its state
CASES: list[tuple[Kind, dict[str, Any], dict[str, Any], bool, str]] = [
    (DEPLOYMENT, {"replicas": 2}, FULL, True, "2 of 2"),
    (DEPLOYMENT, {"replicas": 2}, {**FULL, "observedGeneration": 2}, False, "waits for its controller"),
    (DEPLOYMENT, {"replicas": 2}, {}, False, "waits for its controller"),
    (DEPLOYMENT, {"replicas": 2}, {**FULL, "updatedReplicas": 1}, False, "1 of 2 replicas are of this generation"),
    (DEPLOYMENT, {"replicas": 2}, {**FULL, "replicas": 3}, False, "1 replicas of an earlier generation"),
    (DEPLOYMENT, {"replicas": 2}, {**FULL, "availableReplicas": 1}, False, "1 of 2 replicas are available"),
    (DEPLOYMENT, {"replicas": 0}, SEEN, True, "0 of 0"),
    (DEPLOYMENT, {}, {**SEEN, "replicas": 1, "updatedReplicas": 1}, False, "0 of 1"),
    (STATEFUL_SET, {"replicas": 2}, FULL, True, "2 of 2"),
    (STATEFUL_SET, {"replicas": 2}, {**FULL, "updatedReplicas": 1}, False, "1 of 2 replicas are of this generation"),
    (STATEFUL_SET, PARTITION, {**FULL, "updatedReplicas": 1}, True, "2 of 2"),
    (
        STATEFUL_SET,
        {"replicas": 2, "updateStrategy": {"type": "OnDelete"}},
        {**FULL, "updatedReplicas": 0},
        True,
        "2 of 2",
    ),
    (STATEFUL_SET, {"replicas": 2}, {**FULL, "readyReplicas": 1}, False, "1 of 2 replicas are ready"),
    (DAEMON_SET, {}, NODES, True, "available on 2 of 2"),
    (DAEMON_SET, {}, {**NODES, "updatedNumberScheduled": 1}, False, "1 of 2 nodes"),
    (DAEMON_SET, {}, {**NODES, "numberAvailable": 0}, False, "available on 0 of 2"),
    (DAEMON_SET, {}, {**NODES, "observedGeneration": 1}, False, "waits"),
    (JOB, {}, {"conditions": [{"type": "Complete", "status": "True"}]}, True, "is complete"),
    (JOB, {}, {"conditions": [{"type": "Complete", "status": "False"}]}, False, "runs"),
    (JOB, {}, {"failed": 2}, False, "runs, 2 attempts failed"),
    (JOB, {"suspend": True}, {}, True, "is suspended"),
    (JOB, {}, {"conditions": [{"type": "Failed", "status": "True", "message": "too often"}]}, False, "too often"),
]


@pytest.mark.parametrize(("kind", "spec", "status", "ready", "words"), CASES)
def test_rolled_out(kind: Kind, spec: dict[str, Any], status: dict[str, Any], ready: bool, words: str) -> None:
    found = workload(obj(spec, status), kind)
    assert found.ready is ready
    assert words in found.state
    assert found.failed is ("too often" in words)


HELM = {"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/instance": "r"}
NOTED = {"meta.helm.sh/release-name": "r", "meta.helm.sh/release-namespace": "n"}
OWNERS: list[tuple[dict[str, Any], bool]] = [
    ({"annotations": NOTED}, True),
    ({"labels": HELM}, True),
    ({"labels": {**HELM, "app.kubernetes.io/instance": "other"}}, False),
    ({"labels": {"app.kubernetes.io/instance": "r"}}, False),
    # What Helm has noted counts more than labels that a chart sets.
    ({"labels": HELM, "annotations": {**NOTED, "meta.helm.sh/release-name": "other"}}, False),
    ({"labels": HELM, "annotations": {**NOTED, "meta.helm.sh/release-namespace": "m"}}, False),
    ({}, False),
]


@pytest.mark.parametrize(("metadata", "ours"), OWNERS)
def test_whose_release_it_is(metadata: dict[str, Any], ours: bool) -> None:
    assert of_release({"metadata": metadata}, ReleaseName("r", "n")) is ours
