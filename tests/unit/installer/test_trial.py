"""What the API server is asked to try, and what is made of its answers; what it refuses is tested on a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import create_autospec

import pytest

from installer.chart.helm import Chart
from installer.cluster.cluster import AbsentError, WebhookError
from installer.cluster.kinds import CUSTOM_RESOURCE_DEFINITION, DEPLOYMENT, POD, Kind
from installer.cluster.workload import ReleaseName
from installer.errors import AirferryError, ClusterError, ClusterForbiddenError
from installer.objects.desired import ChartRelease, Desired, DesiredStep, Resource
from installer.preflight.prerequisites import definitions
from installer.preflight.trial import MOST, Trial, _change
from tests.parts.fake_cluster import FakeCluster
from tests.parts.fake_helm import FakeHelm

if TYPE_CHECKING:
    from installer.cluster.cluster import Object
    from installer.diagnosis.finding import Finding

PLACE = "here"


def deployment(name: str = "web", *, release: str = "", image: str = "a", **more: Any) -> Object:
    marks = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": PLACE}
    owned = {"labels": {"app.kubernetes.io/managed-by": "Helm"}, "annotations": marks} if release else {}
    pod = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "main", "image": image}]}}
    return {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.name,
        "metadata": {"name": name, **owned, **more},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": pod},
    }


def release(*objects: Object, crds: tuple[Object, ...] = ()) -> ChartRelease:
    chart = create_autospec(Chart)
    chart.name = "app"
    return ChartRelease(chart, ReleaseName("app", PLACE), {}, objects, (), frozenset(), crds=crds)


def of_steps(*steps: DesiredStep) -> Desired:
    return Desired(home=PLACE, namespaces={PLACE: {}}, secrets=(), steps=steps, images={})


class World:
    """A cluster with a namespace in which pods may be made, and what was asked of it."""

    def __init__(self) -> None:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        self.cluster = FakeCluster(namespaces=[PLACE])
        self.cluster.given(account, namespace=PLACE)
        self.helm = FakeHelm(self.cluster)
        self.asked: list[tuple[str, str]] = []
        self.refusing: dict[tuple[str, Kind], AirferryError] = {}
        self.cluster.before = self._before

    def _before(self, verb: str, kind: Kind, _name: str) -> None:
        if verb in ("create", "patch") and kind in (DEPLOYMENT, POD):
            self.asked.append((verb, kind.name))
            if error := self.refusing.get((verb, kind)):
                raise error

    def found(self, made: ChartRelease, *, by_controller: bool = False) -> list[Finding]:
        document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app", "namespace": PLACE}}
        step = Resource("it", document, made, None, None) if by_controller else made
        wanted = of_steps(step)
        before = self.cluster.find(DEPLOYMENT), self.cluster.find(POD)
        self.asked.clear()
        told = list(Trial(self.cluster, self.helm, wanted).of(made))
        assert (self.cluster.find(DEPLOYMENT), self.cluster.find(POD)) == before, "nothing is kept"
        return told


@pytest.fixture
def world() -> World:
    return World()


NEW, POD_TOO = ("create", "Deployment"), ("create", "Pod")


def test_what_is_new_is_tried_with_its_pod_and_what_stays_is_not(world: World) -> None:
    made = release(deployment(serviceAccountName="absent"))
    assert world.found(made) == []
    assert world.asked == [NEW, POD_TOO]
    # In service as it is.
    world.helm.given("app", PLACE, made.objects)
    world.cluster.given(deployment(release="app"), namespace=PLACE)
    assert world.found(made) == []
    assert world.asked == []
    for image, asked in (("b", [("patch", "Deployment"), POD_TOO]), ("a", [("patch", "Deployment")])):
        world.helm.given("app", PLACE, [deployment(image="other")])
        assert world.found(release(deployment(image=image))) == []
        assert world.asked == asked, "pods that are not made anew are not tried"


def test_of_what_is_refused_the_first_are_told(world: World) -> None:
    world.refusing["create", POD] = ClusterError('pods "web" is forbidden: exceeded quota: none')
    many = [deployment(f"web-{number}") for number in range(MOST + 2)]
    told = world.found(release(*many))
    assert [each.error for each in told] == [ClusterError] * (MOST + 1)
    assert told[0].what.startswith("Deployment here/web-0: its pods are refused: ")
    assert "have the quota raised" in told[0].step
    assert told[-1].what == "2 more objects of chart app are refused"
    # A chart with a quota of its own may lift it.
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}}
    assert {each.error for each in world.found(release(quota, *many))} == {None}


def test_a_webhook_that_is_down_is_asked_once(world: World) -> None:
    world.refusing["create", DEPLOYMENT] = WebhookError("failed calling webhook", hint="look at the pods.")
    (told,) = world.found(release(deployment("a"), deployment("b")))
    assert (told.error, told.step) == (WebhookError, "look at the pods.")
    assert world.asked == [NEW]


@pytest.mark.parametrize("error", [ClusterForbiddenError("no"), AbsentError("no namespace")])
def test_what_cannot_be_tried_is_no_finding(world: World, error: AirferryError) -> None:
    world.refusing["create", DEPLOYMENT] = error
    assert world.found(release(deployment())) == []


def test_a_change_that_is_refused_is_to_be_taken_back(world: World) -> None:
    world.refusing["patch", DEPLOYMENT] = ClusterError("patch deployments: field is immutable", hint="correct it.")
    for manager in ("controller", "helm"):
        held = deployment(release="app")
        world.cluster.delete(DEPLOYMENT, "web", PLACE)
        world.helm.given("app", PLACE, [held])
        if manager == "helm":
            world.refusing.clear()
            world.cluster.apply({**held, "metadata": {**held["metadata"], "namespace": PLACE}}, manager=manager)
            world.refusing["patch", DEPLOYMENT] = ClusterError("patch deployments: field is immutable")
        else:
            world.cluster.given(held, namespace=PLACE, manager=manager)
        (told,) = world.found(release(deployment(image="b")))
        assert (told.error, told.step.partition(":")[0]) == (ClusterError, "take it back in site.yaml")


def test_what_belongs_to_others_is_told(world: World) -> None:
    made = release(deployment())
    world.cluster.given(deployment(release="other"), namespace=PLACE)
    (told,) = world.found(made, by_controller=True)
    assert told.what == "Deployment here/web exists and belongs to the Helm release here/other"
    assert world.found(made) == [], "whether that may be taken over is asked elsewhere"


def test_a_definition_of_another_release_is_told() -> None:
    marks = {"meta.helm.sh/release-name": "other", "meta.helm.sh/release-namespace": "there"}
    spec: dict[str, Any] = {"group": "example.com", "names": {"kind": "Gadget", "plural": "gadgets"}}
    version = {"name": "v1", "served": True, "storage": True}
    crd: Object = {
        "apiVersion": CUSTOM_RESOURCE_DEFINITION.api_version,
        "kind": CUSTOM_RESOURCE_DEFINITION.name,
        "metadata": {"name": "gadgets.example.com"},
        "spec": {**spec, "scope": "Namespaced", "versions": [version]},
    }
    made = release(crd, crds=(crd,))
    wanted = of_steps(made)
    cluster = FakeCluster({**crd, "metadata": {**crd["metadata"], "annotations": marks}})
    (told,) = definitions(cluster, wanted)
    assert (told.error, "belongs to the Helm release there/other" in told.what) == (None, True)
    # One of the folder `crds/` is never Helm's own; one among the templates is.
    for item, found in ((made, 0), (release(crd), 1)):
        step = Resource("it", crd, item, None, None)
        assert len(list(Trial(cluster, FakeHelm(cluster), of_steps(step)).of(item))) == found


@pytest.mark.parametrize(
    ("live", "former", "new", "change"),
    [
        ({"a": 1, "b": 2}, {}, {"a": 3}, {"a": 3}),
        ({"a": 1, "b": 2}, {"b": 2}, {"a": 1}, {"a": 1, "b": None}),
        ({"s": {"a": 1, "b": 2}}, {"s": {"a": 1}}, {"s": {"b": 3}}, {"s": {"a": None, "b": 3}}),
        ({"l": [1, 2]}, {}, {"l": [3]}, {"l": [3]}),
        # What only one form of a part has goes with that form.
        ({"s": {"type": "A", "x": 1}}, {}, {"s": {"type": "B"}}, {"s": {"type": "B", "x": None}}),
        ({"s": {"type": "A", "x": 1}}, {}, {"s": {"type": "A"}}, {"s": {"type": "A"}}),
    ],
)
def test_a_change_keeps_what_others_have_added(
    live: dict[str, Any], former: dict[str, Any], new: dict[str, Any], change: dict[str, Any]
) -> None:
    assert _change(live, former, new) == change
