"""Images of hooks that are pulled beforehand: a help that never stands in the way of an installation by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from installer.cluster.kinds import DAEMON_SET, POD, Kind
from installer.cluster.workload import ReleaseName
from installer.diagnosis.wait import Patience
from installer.errors import AirferryError, ClusterError, ClusterForbiddenError, NotReadyError
from installer.workflows.hook_images import MAX_SECONDS, SETTLED_SECONDS, pull
from tests.parts.counted import Notes
from tests.parts.fake_cluster import FakeCluster

if TYPE_CHECKING:
    from collections.abc import Callable

    from installer.cluster.cluster import Object

RELEASE = ReleaseName("wandb", "n")
IMAGE = "reg.example/a/hook:1"
PODS: list[Object] = [{"images": [IMAGE]}]
State = dict[str, Any]
PULLED: State = {"waiting": {"reason": "RunContainerError"}}
PULLING: State = {"waiting": {"reason": "ContainerCreating"}}
OTHER_PLATFORM: State = {"waiting": {"reason": "ErrImagePull", "message": "no match for platform in manifest"}}
NAME = "airferry-images-wandb"


class Nodes:
    """A cluster whose nodes are each in a state of the one container, or none where the kubelet does not answer."""

    def __init__(self, states: list[State | None], said: str = "", *, wanted: int | None = None) -> None:
        self.states, self.said, self.wanted = states, said, len(states) if wanted is None else wanted
        self.cluster = FakeCluster(namespaces=["n"])
        self.cluster.after = self.after
        self.applied: list[Object] = []
        self.deleted = 0

    def after(self, verb: str, kind: Kind, obj: Object) -> None:
        assert (kind, obj["metadata"]["name"]) == (DAEMON_SET, NAME)
        if verb == "delete":
            self.deleted += 1
            return
        self.applied.append(obj)
        generation = obj["metadata"]["generation"]
        status = {"observedGeneration": generation, "desiredNumberScheduled": self.wanted}
        self.cluster.set_status(DAEMON_SET, NAME, "n", status)
        for number, state in enumerate(self.states):
            metadata = {
                "name": f"pod-{number}",
                "namespace": "n",
                "labels": obj["spec"]["template"]["metadata"]["labels"],
                "ownerReferences": [{"kind": "DaemonSet", "name": NAME, "uid": obj["metadata"]["uid"]}],
            }
            spec = {"nodeName": f"node-{number}"}
            self.cluster.given({"apiVersion": "v1", "kind": POD.name, "metadata": metadata, "spec": spec})
            self.becomes(number, state)
        if self.said:
            self.cluster.happened("n", DAEMON_SET.name, NAME, "FailedCreate", self.said)

    def becomes(self, number: int, state: State | None) -> None:
        """The kubelet's report on the pod of a node."""
        status = {"containerStatuses": [{"image": IMAGE, "state": state}]} if state else {}
        self.cluster.set_status(POD, f"pod-{number}", "n", status)


def pulled(nodes: Nodes, then: Callable[[float], None] = lambda _: None) -> tuple[float, str]:
    """The seconds that it takes, and the last note; `then` is called with the time as it passes."""
    now, reporter = [0.0], Notes()

    def sleep(pause: float) -> None:
        now[0] += pause
        then(now[0])

    pull(nodes.cluster, RELEASE, PODS, Patience(1800, reporter, sleep, lambda: now[0]))
    return now[0], reporter.notes[-1] if reporter.notes else ""


def test_nodes_that_have_the_images_are_not_waited_for() -> None:
    nodes = Nodes([PULLED, PULLED])
    assert pulled(nodes)[0] == 0
    assert nodes.deleted == 1


def test_a_node_that_pulls_is_waited_for_whatever_the_others_do() -> None:
    nodes = Nodes([PULLING, OTHER_PLATFORM, None])

    def then(now: float) -> None:
        if now >= 100:
            nodes.becomes(0, PULLED)

    seconds, note = pulled(nodes, then)
    assert seconds == 100
    assert "on 1 of 3 nodes; going on: reg.example/a/hook:1 on node node-1: no match for platform" in note


REFUSED = 'Error creating: pods "airferry-images-wandb-" is forbidden: minimum memory usage per Container is 64Mi'
# What the nodes do, what the cluster says → words of the note.
HINDERED: dict[str, tuple[list[State | None], str, str]] = {
    "refused": ([], REFUSED, "on 0 of 3 nodes; going on: Error creating"),
    "no controller": ([], "", "on no node: none takes their pods so far; going on"),
    "silent": ([PULLED, None, None], "", "on 1 of 3 nodes; going on"),
    "another platform": (
        [PULLED, OTHER_PLATFORM, PULLED],
        "",
        "on 2 of 3 nodes; going on: reg.example/a/hook:1 on node",
    ),
}


@pytest.mark.parametrize("case", HINDERED)
def test_what_hinders_it_is_noted_and_the_installation_goes_on(case: str) -> None:
    states, said, words = HINDERED[case]
    nodes = Nodes(states, said, wanted=0 if case == "no controller" else 3)
    if case == "no controller":
        nodes.cluster.after = lambda *_: None
    seconds, note = pulled(nodes)
    assert seconds == SETTLED_SECONDS
    assert words in note
    assert nodes.cluster.get(DAEMON_SET, NAME, "n") is None


@pytest.mark.parametrize("error", [ClusterForbiddenError("no"), ClusterError("admission webhook denied the request")])
def test_where_no_daemon_set_may_be_made_nothing_happens(error: AirferryError) -> None:
    nodes = Nodes([])

    def refuse(verb: str, kind: Kind, _name: str) -> None:
        if (verb, kind) == ("patch", DAEMON_SET):
            raise error

    nodes.cluster.before = refuse
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
    (applied,) = nodes.applied
    (container,) = applied["spec"]["template"]["spec"]["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
