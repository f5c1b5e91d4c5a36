"""What others have made: found, told with whose it is, and taken over whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from unittest.mock import create_autospec

import pytest

from installer.chart.helm import Chart
from installer.chart.releases import Releases
from installer.cluster.cluster import ConflictError
from installer.cluster.kinds import CONFIG_MAP, CUSTOM_RESOURCE_DEFINITION, SERVICE_ACCOUNT
from installer.cluster.managed_fields import ABSENT, at, shared, text
from installer.cluster.workload import ReleaseName, marked
from installer.errors import SiteError
from installer.objects.desired import ChartRelease, Desired, DesiredStep, Manifests, Resource
from installer.preflight.taking_over import TakenOver
from installer.site.secret import SecretSource
from installer.workflows.driver import PlainDriver
from tests.parts.bundles import packed_chart
from tests.parts.fake_cluster import FakeCluster
from tests.parts.fake_helm import FakeHelm

if TYPE_CHECKING:
    from installer.cluster.cluster import Object

PLACE = ReleaseName("base", "there")
GADGETS: Object = {
    "apiVersion": CUSTOM_RESOURCE_DEFINITION.api_version,
    "kind": CUSTOM_RESOURCE_DEFINITION.name,
    "metadata": {"name": "gadgets.example.com"},
    "spec": {
        "group": "example.com",
        "names": {"kind": "Gadget", "plural": "gadgets"},
        "scope": "Namespaced",
        "versions": [{"name": "v1", "served": True, "storage": True}],
    },
}


def settings(said: str, namespace: str = "there", **metadata: Any) -> Object:
    place = {"name": "settings", "namespace": namespace, **metadata}
    return {"apiVersion": "v1", "kind": CONFIG_MAP.name, "metadata": place, "data": {"said": said}}


def gadget(**spec: Any) -> Object:
    metadata = {"name": "g", "namespace": "there"}
    return {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": metadata, "spec": spec}


class Found:
    """What a look finds."""

    def __init__(self, cluster: FakeCluster, *steps: DesiredStep, take_over: bool, **more: Any) -> None:
        answers, releases = more.pop("answers", {}), more.pop("releases", FakeHelm(cluster))
        wanted = Desired(**{"home": "there", "namespaces": {}, "secrets": (), "images": {}, **more}, steps=steps)
        taken = TakenOver(cluster, wanted, PlainDriver().in_clear, answers, take_over=take_over)
        self.findings = [finding for look in taken.looks(releases) for finding in look()]
        self.lines = taken.lines


def release(*objects: Object) -> ChartRelease:
    chart = Chart.load(packed_chart("app", "1.0.0"))
    return ChartRelease(chart, PLACE, {}, objects, (), frozenset())


@pytest.mark.parametrize(("namespace", "conflict"), [("there", True), ("default", False)])
def test_what_others_have_set_is_looked_for_in_the_namespace_of_the_step(namespace: str, *, conflict: bool) -> None:
    cluster = FakeCluster(namespaces=["there"])
    cluster.given({**settings("theirs", namespace), "data": {"said": "theirs", "more": "1"}}, manager="somebody")
    item = settings("ours")
    del item["metadata"]["namespace"]
    step = Manifests(PLACE, (item,))
    refused = Found(cluster, step, take_over=False).findings
    assert [each.error for each in refused] == [ConflictError] * conflict
    told = Found(cluster, step, take_over=True)
    assert not told.findings
    assert (
        told.lines
        == [
            'ConfigMap there/settings: overwriting .data.said of somebody: "theirs" -> "ours"',
            'ConfigMap there/settings: removing .data.more of somebody: "1"',
        ]
        * conflict
    )


def test_kinds_that_others_have_made_are_looked_at() -> None:
    cluster = FakeCluster(namespaces=["there"])
    cluster.given({**GADGETS, "spec": {**GADGETS["spec"], "group": "others.example.com"}}, manager="kubectl")
    step = Manifests(PLACE, (GADGETS,))
    (refused,) = Found(cluster, step, take_over=False).findings
    assert "CustomResourceDefinition gadgets.example.com was set by others" in refused.what
    (line,) = Found(cluster, step, take_over=True).lines
    assert "overwriting .spec.group of kubectl" in line


def test_a_resource_of_others_is_theirs_even_where_nothing_clashes() -> None:
    cluster = FakeCluster(GADGETS, namespaces=["there"])
    theirs = gadget(size=1, password="in-the-clear", store={"url": "s3://key:word@host/x"})
    cluster.given(theirs, manager="kubectl")
    step = Resource("g", gadget(size=1), None, None, None)
    refused = Found(cluster, step, take_over=False).findings
    assert [each.error for each in refused] == [ConflictError, SiteError, SiteError]
    taken = Found(cluster, step, take_over=True)
    assert [each.error for each in taken.findings] == [SiteError, SiteError], "nobody answers these secrets"
    assert taken.lines == [
        "Gadget there/g: removing .spec.password of kubectl: (not shown)",
        "Gadget there/g: removing .spec.store.url of kubectl: (not shown)",
    ]
    told = f"{refused}{taken.findings}{taken.lines}"
    assert not [word for word in ("in-the-clear", "word@") if word in told]
    # What is answered becomes a Secret, and whether that is the same one is looked at.
    source = {"": SecretSource(file="x")}
    for value, same in (("aW4tdGhlLWNsZWFy", True), ("b3RoZXI=", False)):
        made = ({**settings(""), "kind": "Secret", "data": {"password": value}},)
        taken = Found(cluster, step, take_over=True, answers=source, secrets=made)
        kept = [each.what.partition(", ")[0].rpartition(" ")[2] for each in taken.findings]
        assert kept == [*([] if same else ["spec.password"]), "spec.store.url"]
        assert not [each.error for each in taken.findings if each.error]


def test_what_a_tool_keeps_in_step_is_told() -> None:
    cluster = FakeCluster(namespaces=["there"])
    labels = {"kustomize.toolkit.fluxcd.io/name": "platform"}
    cluster.given(settings("theirs", labels=labels), manager="kustomize-controller")
    (told,) = Found(cluster, Manifests(PLACE, (settings("ours"),)), take_over=True).findings
    assert told.error is None
    assert "Flux keeps ConfigMap there/settings in step with its repository (platform)" in told.what


def test_accounts_that_others_use_keep_what_these_have_set() -> None:
    cluster = FakeCluster(namespaces=["there"])
    account: Object = {"apiVersion": "v1", "kind": SERVICE_ACCOUNT.name}
    account["metadata"] = {"name": "default", "namespace": "there", "labels": {"a": "1", "b": "1"}}
    cluster.given(account, manager="somebody")
    ours = {**account, "metadata": {**account["metadata"], "labels": {"a": "2"}}}
    lines = Found(cluster, take_over=True, accounts=(ours,)).lines
    assert [line.partition(" of ")[0] for line in lines] == [
        "ServiceAccount there/default: overwriting .metadata.labels.a"
    ]


def test_objects_that_no_release_has_are_not_overrun_by_one() -> None:
    cluster = FakeCluster(namespaces=["there"])
    step = release(settings("ours"))
    assert not Found(cluster, step, take_over=False).findings
    cluster.given(settings("theirs"), manager="kubectl")
    (refused,) = Found(cluster, step, take_over=False).findings
    assert refused.what == "of release there/base there are already: ConfigMap there/settings of no Helm release"
    assert any("overwriting .data.said of kubectl" in line for line in Found(cluster, step, take_over=True).lines)


def test_an_object_of_a_release_that_somebody_has_edited_is_told_before_the_next_change() -> None:
    cluster = FakeCluster(namespaces=["there"])
    step = release(settings("ours"))
    cluster.apply(marked(settings("former"), PLACE), manager="helm")
    helm = create_autospec(Releases, instance=True)
    helm.history.return_value = [create_autospec(object, label="ours")]
    helm.as_wanted.return_value = False

    def refusals() -> list[str]:
        return [each.what for each in Found(cluster, step, take_over=False, releases=lambda _: helm).findings]

    assert refusals() == []
    cluster.merge(CONFIG_MAP, "settings", "there", {"data": {"said": "edited"}}, manager="kubectl-edit")
    (told,) = refusals()
    assert 'overwriting .data.said of kubectl-edit: "edited" -> "ours"' in told
    helm.as_wanted.return_value = True
    assert refusals() == [], "nothing will be changed"


def test_what_a_controller_sets_beside_the_status_stays_its_own() -> None:
    def entry(manager: str, fields: dict[str, Any], **more: str) -> dict[str, Any]:
        return {"manager": manager, "operation": "Update", "fieldsV1": fields, **more}

    entries = [
        entry("controller", {"f:spec": {"f:found": {}}}),
        entry("controller", {"f:status": {"f:phase": {}}}, subresource="status"),
        entry("kubectl", {"f:spec": {"f:more": {}}}),
    ]
    held = {**gadget(found=1, more=1), "metadata": {"name": "g", "managedFields": entries}}
    assert [each["manager"] for each in shared(held, gadget(), "airferry", "spec")] == ["kubectl"]
    assert shared(held, gadget(found=2), "airferry") == entries[:1], "what clashes is taken from it as well"


def test_fields_in_lists_are_found_and_written_as_the_api_server_does() -> None:
    container = {"name": "app", "image": "a", "ports": [{"containerPort": 80}], "args": ["x", "y"]}
    obj = {"spec": {"containers": [container]}, "metadata": {"finalizers": ["one"]}}
    app, port = 'k:{"name":"app"}', 'k:{"containerPort":80,"protocol":"TCP"}'
    for path, shown, value in (
        (("f:spec", "f:containers", app, "f:image"), '.spec.containers[name="app"].image', "a"),
        (
            ("f:spec", "f:containers", app, "f:ports", port, "f:containerPort"),
            '.spec.containers[name="app"].ports[containerPort=80,protocol="TCP"].containerPort',
            80,
        ),
        (("f:spec", "f:containers", app, "f:args", "i:1"), '.spec.containers[name="app"].args[1]', "y"),
        (("f:metadata", "f:finalizers", 'v:"one"'), '.metadata.finalizers[="one"]', "one"),
        (("f:metadata", "f:finalizers", 'v:"two"'), '.metadata.finalizers[="two"]', ABSENT),
        (("f:spec", "f:containers", 'k:{"name":"b"}', "f:image"), '.spec.containers[name="b"].image', ABSENT),
    ):
        assert (text(path), at(json.loads(json.dumps(obj)), path)) == (shown, value)
