"""Images of hooks that are pulled beforehand: a help that never stands in the way of an installation by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from installer.cluster.kinds import DAEMON_SET, Kind
from installer.cluster.workload import ReleaseName
from installer.diagnosis.wait import Patience
from installer.errors import AirferryError, ClusterError, ClusterForbiddenError, NotReadyError
from installer.workflows.hook_images import MAX_SECONDS, SETTLED_SECONDS, pull
from tests.parts.counted import Notes

if TYPE_CHECKING:
    from collections.abc import Callable

    from installer.cluster.cluster import Cluster, Object

RELEASE = ReleaseName("wandb", "n")
IMAGE = "reg.example/a/hook:1"
PODS: list[Object] = [{"images": [IMAGE]}]
PULLED = {"waiting": {"reason": "RunContainerError"}}
PULLING = {"waiting": {"reason": "ContainerCreating"}}
OTHER_PLATFORM = {"waiting": {"reason": "ErrImagePull", "message": "no match for platform in manifest"}}


@dataclass
class Nodes:
    """A cluster whose nodes are each in a state of the one container, or none where the kubelet does not answer."""

    states: list[dict[str, Any] | None]
    said: list[str] = field(default_factory=list)
    wanted: int | None = None
    refusal: AirferryError | None = None
    applied: Object = field(default_factory=dict)
    deleted: int = 0

    def apply(self, obj: Object, **_: Any) -> Object:
        self.applied = obj
        if self.refusal:
            raise self.refusal
        return obj

    def delete(self, *_: Any) -> bool:
        self.deleted += 1
        return True

    def get(self, kind: Kind, _name: str, _namespace: str) -> Object:
        assert kind == DAEMON_SET
        wanted = len(self.states) if self.wanted is None else self.wanted
        return {"metadata": {"generation": 1}, "status": {"observedGeneration": 1, "desiredNumberScheduled": wanted}}

    def find(self, _kind: Kind, _namespace: str, **_: Any) -> list[Object]:
        return [
            {
                "metadata": {"name": f"pod-{number}"},
                "spec": {"nodeName": f"node-{number}"},
                "status": {"containerStatuses": [{"image": IMAGE, "state": state}]} if state else {},
            }
            for number, state in enumerate(self.states)
        ]

    def events(self, *_: Any) -> list[Object]:
        return [{"reason": "FailedCreate", "message": text} for text in self.said]


def pulled(nodes: Nodes, then: Callable[[float], None] = lambda _: None) -> tuple[float, str]:
    """The seconds that it takes, and the last note; `then` is called with the time as it passes."""
    now, reporter = [0.0], Notes()

    def sleep(pause: float) -> None:
        now[0] += pause
        then(now[0])

    pull(cast("Cluster", nodes), RELEASE, PODS, Patience(1800, reporter, sleep, lambda: now[0]))
    return now[0], reporter.notes[-1] if reporter.notes else ""


def test_nodes_that_have_the_images_are_not_waited_for() -> None:
    nodes = Nodes([PULLED, PULLED])
    assert pulled(nodes)[0] == 0
    assert nodes.deleted == 1


def test_a_node_that_pulls_is_waited_for_whatever_the_others_do() -> None:
    nodes = Nodes([PULLING, OTHER_PLATFORM, None])

    def then(now: float) -> None:
        if now >= 100:
            nodes.states[0] = PULLED

    seconds, note = pulled(nodes, then)
    assert seconds == 100
    assert "on 1 of 3 nodes; going on: reg.example/a/hook:1 on node node-1: no match for platform" in note


REFUSED = 'Error creating: pods "airferry-images-wandb-" is forbidden: minimum memory usage per Container is 64Mi'
# What the nodes do, what the cluster says → words of the note.
HINDERED: dict[str, tuple[Nodes, str]] = {
    "refused": (Nodes([], [REFUSED], wanted=3), "on 0 of 3 nodes; going on: Error creating"),
    "silent": (Nodes([PULLED, None]), "on 1 of 2 nodes; going on"),
    "another platform": (Nodes([PULLED, OTHER_PLATFORM]), "on 1 of 2 nodes; going on: reg.example/a/hook:1 on node"),
}


@pytest.mark.parametrize("case", HINDERED)
def test_what_hinders_it_is_noted_and_the_installation_goes_on(case: str) -> None:
    nodes, words = HINDERED[case]
    seconds, note = pulled(nodes)
    assert seconds == SETTLED_SECONDS
    assert words in note
    assert nodes.deleted == 1


@pytest.mark.parametrize("error", [ClusterForbiddenError("no"), ClusterError("admission webhook denied the request")])
def test_where_no_daemon_set_may_be_made_nothing_happens(error: AirferryError) -> None:
    nodes = Nodes([], refusal=error)
    assert pulled(nodes) == (0, f"images of hooks are not pulled beforehand: {error.message}")


def test_an_image_that_no_node_can_pull_ends_it() -> None:
    nodes = Nodes([OTHER_PLATFORM])
    with pytest.raises(NotReadyError, match=r"cannot be pulled:\n  reg.example/a/hook:1 on node node-0"):
        pulled(nodes)
    with pytest.raises(NotReadyError, match="in time"):
        pulled(Nodes([PULLING]), lambda now: None if now <= MAX_SECONDS else pytest.fail("it waits too long"))


def test_no_user_is_named_for_some_clusters_assign_one() -> None:
    nodes = Nodes([PULLED])
    pulled(nodes)
    (container,) = nodes.applied["spec"]["template"]["spec"]["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
