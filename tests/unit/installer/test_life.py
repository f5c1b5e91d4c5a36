"""An application of chart, resource and manifests, from its installation to its removal, in a cluster in memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from installer.chart.helm import Chart
from installer.cluster.cluster import AbsentError, ConflictError, WebhookError
from installer.cluster.kinds import CONFIG_MAP, CUSTOM_RESOURCE_DEFINITION, DEPLOYMENT, NAMESPACE, Kind
from installer.errors import (
    AirferryError,
    ClusterError,
    NothingHereError,
    NotReadyError,
    PolicyError,
    SiteError,
    UsageError,
)
from installer.objects.driver import ChartSourceRequest
from installer.value import replace
from installer.workflows import rollback, status
from installer.workflows.actions import SERVED_SECONDS
from installer.workflows.record import InstalledStep, Record
from installer.workflows.upgrade import stays_in_place
from tests.parts.bundles import packed_chart
from tests.parts.demo_site import wanted
from tests.parts.steps_world import DEFINITION, GREETING, THING, World, config

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.application import Application


HELD = {"finalizers": ["example.com/hold"]}
# As a kind of the cluster's own, which this one in memory lacks.
BUDGET = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
BUDGETS = {
    **DEFINITION,
    "metadata": {"name": str(BUDGET)},
    "spec": {
        **DEFINITION["spec"],
        "group": BUDGET.group,
        "names": {"kind": BUDGET.name, "plural": BUDGET.plural},
        "versions": [{"name": name, "served": True, "storage": name == "v1"} for name in ("v1beta1", "v1")],
    },
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_steps_come_in_order_and_an_installation_converges(world: World) -> None:
    done = world.install(world.application(config("far", "there")))
    assert done.changed == (
        "Namespace there",
        "ConfigMap home/airferry-demo",
        "CustomResourceDefinition things.example.com",
        "ConfigMap home/kept",
        "ConfigMap there/far",
        "release home/app",
        "Thing home/it",
    )
    assert [(step.kind, str(step.name)) for step in done.record.steps] == [
        ("manifests", "home/base"),
        ("chart", "home/app"),
        ("resource", "home/it"),
    ]
    assert world.names(CONFIG_MAP) == ["app", "kept"]
    assert world.install(world.application(config("far", "there"))).changed == ()
    found = status.status(world.cluster, world.note)
    assert found.ready
    assert found.phase == "Thing home/it: Ready"
    assert [(item.release, item.ready) for item in found.releases] == [("base", True), ("app", True)]


def test_what_others_removed_or_changed_is_brought_back(world: World) -> None:
    made = world.application()
    world.install(made)
    world.cluster.delete(CONFIG_MAP, "app", "home")
    world.cluster.delete(THING, "it", "home")
    found = status.status(world.cluster, world.note)
    assert not found.ready
    assert [(cause.cause, cause.object) for cause in found.causes] == [("resource-missing", "Thing home/it")]
    assert world.install(made).changed == ("release home/app", "Thing home/it")


def test_nothing_is_begun_in_a_namespace_on_its_way_out(world: World) -> None:
    world.cluster.given({**config("held", "home"), "metadata": {"name": "held", "namespace": "home", **HELD}})
    world.cluster.delete(NAMESPACE, "home")
    with pytest.raises(ClusterError, match="namespace home is being deleted since 2026-01-01") as caught:
        world.install(world.application())
    assert "wait until it is gone" in caught.value.message
    assert (world.helm("home").history("app"), world.names(CUSTOM_RESOURCE_DEFINITION)) == ([], [])


def test_a_changed_bundle_is_an_upgrade_and_a_former_one_a_downgrade(world: World) -> None:
    world.install(world.application())
    with pytest.raises(UsageError, match="demo 1 is installed, and this bundle holds 2"):
        world.prepared(world.application(version="2"))
    changes = world.prepared(world.application(version="2", copies=5), upgrading=True).changes
    (bundle,) = changes.bundle
    assert str(bundle).startswith("~ demo: 1 (number 1, sha256:")
    (chart,) = changes.charts
    assert re.match(r"~ app as home/app: 1\.0\.0 sha256:\w+ -> 2\.0\.0 sha256:\w+$", str(chart))
    world.install(world.application(version="2"), upgrading=True)
    with pytest.raises(PolicyError, match=r"number 2 of demo .* number 1, which is older"):
        world.prepared(world.application(), upgrading=True)
    assert world.prepared(world.application(), back_to=1, upgrading=True).note.version == "1"
    other = world.application(config("more"), version="2")
    with pytest.raises(PolicyError, match="another release of demo was brought there as number 2"):
        world.prepared(other, upgrading=True)
    assert world.prepared(other, back_to=2, upgrading=True).note.version == "2"


def test_whatever_is_refused_is_told_by_preflight_as_well(world: World) -> None:
    world.install(world.application(version="2"))
    assert world.examined(world.application(version="2")).preflight.refusals == []
    newer = world.examined(world.application(version="3"))
    assert (newer.preflight.refusals, newer.prepared and newer.prepared.another) == (
        [],
        "demo 2 is installed, and this bundle holds 3",
    )
    world.cluster.merge(CONFIG_MAP, "kept", "home", {"data": {"text": "mine"}}, manager="kubectl")
    found = world.examined(world.application(), namespace="home", charts={"app": {"namespace": "far", "values": {}}})
    words = (
        (PolicyError, "namespace home: number 2 of demo was brought there; this bundle (1) is number 1"),
        (ConflictError, "ConfigMap home/kept"),
        (SiteError, "chart app is installed as home/app; this would make it far/app"),
    )
    refused = found.preflight.refusals
    assert [each.error for each in refused] == [error for error, _ in words]
    assert all(text in each.what for each, (_, text) in zip(refused, words, strict=True))
    elsewhere = world.examined(world.application(version="2"), namespace="far").preflight.warnings[-1]
    assert elsewhere.what == "demo 2 is installed in namespace home; this would be another one, in far"


def test_status_tells_what_helm_has_and_what_was_not_finished(world: World) -> None:
    world.install(world.application(version="2"))
    older = Chart.load(packed_chart("app", "1.0.0"))
    world.helm("home").ensure(older, "app", GREETING, skip_crds=True)
    found = status.status(world.cluster, world.note)
    (release,) = (item for item in found.releases if item.chart)
    assert (release.version, release.ready, found.ready, found.finished) == ("1.0.0", False, False, True)
    (cause,) = release.causes
    assert (cause.cause, cause.detail) == (
        "release-differs",
        "Helm has chart app 1.0.0; the record of this installation has app 2.0.0",
    )
    world.ready = {"type": "Ready", "status": "False"}
    with pytest.raises(NotReadyError):
        world.install(world.application(version="3"), upgrading=True)
    found = status.status(world.cluster, world.note)
    assert not found.finished
    assert found.text().startswith("demo 3, not finished since it was begun 2026-01-03T00:00:00Z\n")


def test_nothing_can_be_upgraded_that_is_not_there(world: World) -> None:
    with pytest.raises(NothingHereError, match="no installation of demo in namespace home"):
        world.prepared(world.application(), upgrading=True)


def test_an_upgrade_removes_what_the_new_bundle_does_without(world: World) -> None:
    first = world.application(config("gone", text="x"))
    first.manifests("extra", config("more"))
    world.install(first)
    assert world.names(CONFIG_MAP) == ["app", "gone", "kept", "more"]
    second = world.application(version="2")
    # Without the definition: objects of others may be of that kind.
    second.documents["base.yaml"] = (second.documents["base.yaml"][0].split(b"\n---\n")[1], "manifests")
    done = world.install(second, upgrading=True)
    assert done.changed[-2:] == ("ConfigMap home/more (removed)", "ConfigMap home/gone (removed)")
    assert world.names(CONFIG_MAP) == ["app", "kept"]
    assert world.names(CUSTOM_RESOURCE_DEFINITION) == ["things.example.com"]
    assert [step.release for step in world.note.steps] == ["base", "app", "it"]


def test_what_moves_to_another_step_or_version_stays(world: World) -> None:
    """The same object is named otherwise, and is not removed for the sake of its former name."""
    budget = {"kind": "PodDisruptionBudget", "metadata": {"name": "web"}}
    first = world.application({**budget, "apiVersion": "policy/v1beta1"})
    first.manifests("extra", config("moves"))
    second = world.application(config("moves"), {**budget, "apiVersion": "policy/v1"}, version="2")
    cluster = world.cluster
    cluster.given(BUDGETS)
    world.install(first)
    done = world.install(second, upgrading=True)
    assert not [what for what in done.changed if "removed" in what]
    assert world.names(CONFIG_MAP) == ["app", "kept", "moves"]
    assert world.names(BUDGET) == ["web"]
    world.roll_back()
    assert world.names(CONFIG_MAP) == ["app", "kept", "moves"]
    assert world.names(BUDGET) == ["web"]


def test_a_rollback_brings_the_former_state_and_removes_what_came_since(world: World) -> None:
    world.install(world.application(config("old"), copies=1))
    second = world.application(config("new"), version="2", copies=2)
    second.manifests("extra", config("more"))
    world.install(second, upgrading=True)
    assert (world.cluster.get(THING, "it", "home") or {})["spec"] == {"copies": 2}
    done = world.roll_back()
    assert done.record.version == "1"
    assert {"ConfigMap home/more (removed)", "ConfigMap home/new (removed)"} <= set(done.changed)
    assert world.names(CONFIG_MAP) == ["app", "kept", "old"]
    assert (world.cluster.get(CONFIG_MAP, "kept", "home") or {})["data"] == {"text": "1"}
    assert (world.cluster.get(THING, "it", "home") or {})["spec"] == {"copies": 1}
    assert [item.revision for item in world.helm("home").history("app")] == [1, 2, 3]
    # And forth again: a rollback is taken back like any change.
    assert rollback.prepare(world.cluster, world.helm, world.note, time="").goal.record.version == "2"


def test_resources_of_two_kinds_may_have_the_same_name(world: World) -> None:
    """As an issuer and its certificate often have."""

    def made(version: str, text: str, *, both: bool = True) -> Application:
        application = world.application(version=version, copies=int(version))
        application.document("twin.yaml", config("it", text=text), "resource")
        if both:
            application.resource("twin.yaml")
        return application

    def text() -> str:
        return str((world.cluster.get(CONFIG_MAP, "it", "home") or {"data": {"text": "gone"}})["data"]["text"])

    world.install(made("1", "old"))
    world.install(made("2", "new"), upgrading=True)
    assert text() == "new"
    world.roll_back()
    assert text() == "old"
    assert (world.cluster.get(THING, "it", "home") or {})["spec"] == {"copies": 1}
    done = world.install(made("3", "", both=False), upgrading=True)
    assert done.changed[-1] == "ConfigMap home/it (removed)"
    assert text() == "gone"
    assert world.cluster.get(THING, "it", "home")


def test_what_a_rollback_needs_and_is_gone_is_told(world: World) -> None:
    world.install(world.application())
    with pytest.raises(NothingHereError, match="an earlier state of demo is not in the history"):
        rollback.prepare(world.cluster, world.helm, world.note, time="")
    world.install(world.application(version="2"), upgrading=True)
    del world.helm.held["home", "app"][0]
    with pytest.raises(ClusterError, match="revision 1 of Helm release home/app") as caught:
        rollback.prepare(world.cluster, world.helm, world.note, time="")
    assert "upgrade --back-to" in caught.value.hint


def test_a_removal_takes_the_steps_in_reverse_and_leaves_kinds(world: World) -> None:
    world.install(world.application())
    world.cluster.given(config("others", "home"))
    done = world.uninstall()
    assert done.removed == (
        "Thing home/it",
        "release home/app",
        "ConfigMap home/kept",
        "Secret home/airferry-demo-revisions",
        "ConfigMap home/airferry-demo",
    )
    assert done.kept == ("CustomResourceDefinition things.example.com (others may use it)", "Namespace home")
    assert world.names(CONFIG_MAP) == ["others"]
    assert world.cluster.get(NAMESPACE, "home")
    with pytest.raises(NothingHereError):
        _ = world.note


def test_kinds_go_when_told_and_nothing_is_of_them(world: World) -> None:
    world.install(world.application())
    other = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "another", "namespace": "far"}}
    world.cluster.given(other)
    assert "CustomResourceDefinition things.example.com (1 objects of it exist)" in world.uninstall(crds=True).kept
    world.cluster.delete(THING, "another", "far")
    world.install(world.application())
    assert "CustomResourceDefinition things.example.com" in world.uninstall(crds=True).removed


def test_a_removal_goes_on_after_an_interruption(world: World) -> None:
    world.install(world.application())
    world.cluster.merge(THING, "it", "home", {"metadata": {"finalizers": ["example.com/slow"]}}, manager="controller")
    with pytest.raises(NotReadyError, match=r"Thing home/it is not deleted in time; .* not served: example\.com/slow"):
        world.uninstall()
    assert any("Thing home/it: being deleted, waits for example.com/slow" in note for note in world.notes.notes)
    assert world.helm("home").status("app"), "what acts upon it is still there"

    def meanwhile(_seconds: float) -> None:
        if world.cluster.get(THING, "it", "home"):
            world.cluster.merge(THING, "it", "home", {"metadata": {"finalizers": []}}, manager="controller")

    world.meanwhile = meanwhile
    assert world.uninstall().removed[:2] == ("Thing home/it", "release home/app")


@pytest.mark.parametrize("error", [AbsentError("no kind"), WebhookError("connection refused")])
def test_a_kind_that_is_served_late_is_waited_for(world: World, error: AirferryError) -> None:
    def before(verb: str, kind: Kind, _name: str) -> None:
        if (verb, kind) == ("patch", THING) and world.seconds < 20:
            raise error

    made = world.application()
    world.prepared(made)
    world.cluster.before = before
    world.install(made)
    assert 20 <= world.seconds < 30
    assert any(error.message in note for note in world.notes.notes)


def test_a_kind_that_is_never_served_ends_it(world: World) -> None:
    def before(verb: str, kind: Kind, _name: str) -> None:
        if (verb, kind) == ("patch", THING):
            raise WebhookError("connection refused")

    world.cluster.before = before
    with pytest.raises(WebhookError, match="connection refused"):
        world.install(world.application())
    assert SERVED_SECONDS <= world.seconds < SERVED_SECONDS + 10


def test_a_resource_that_does_not_become_ready_is_told_with_the_controller_s_words(world: World) -> None:
    world.ready = {"type": "Ready", "status": "False", "message": "the licence is over"}
    with pytest.raises(NotReadyError, match=r"Thing home/it is not ready: .*the licence is over") as caught:
        world.install(world.application())
    assert "kubectl describe" in caught.value.hint
    assert world.seconds >= 120
    (cause,) = status.status(world.cluster, world.note).causes
    assert (cause.cause, cause.object) == ("resource-not-ready", "Thing home/it")
    assert "the licence is over" in cause.detail
    # Somebody mends it: the same command goes on.
    world.ready = {"type": "Ready", "status": "True"}
    world.reports("it", **world.ready)
    world.install(world.application())
    assert status.until_ready(world.cluster, world.note, world.means().patience).ready


def test_of_a_controller_that_does_not_run_its_pods_are_told(world: World) -> None:
    world.ready = {"type": "Ready", "status": "False"}
    made = {"meta.helm.sh/release-name": "app", "meta.helm.sh/release-namespace": "home"}
    metadata = {"name": "controller", "namespace": "home", "annotations": made}
    head = {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.name, "metadata": metadata}
    ready = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
    world.cluster.given({**head, "spec": {"replicas": 1}, "status": ready})

    def meanwhile(_seconds: float) -> None:
        if world.cluster.get(THING, "it", "home"):
            world.cluster.set_status(DEPLOYMENT, "controller", "home", {**ready, "availableReplicas": 0})

    world.meanwhile = meanwhile
    words = "Thing home/it \\(condition Ready is False\\) is not ready:\n  Deployment home/controller: 0 of 1"
    with pytest.raises(NotReadyError, match=words):
        world.install(world.application())


def test_a_source_of_charts_has_no_meaning_without_a_controller_that_installs_one(world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--chart-source has no meaning here"):
        wanted(world.application(), tmp_path, request=ChartSourceRequest("oci"))


def test_a_chart_that_the_cluster_does_without(world: World) -> None:
    made = world.application()
    made.chart(packed_chart("extra", "1.0.0"))
    world.install(made, without=["extra"])
    assert [step.release for step in world.note.steps] == ["base", "app", "it"]
    for name, words in (
        ("other", "there is no chart 'other'; known are app, extra"),
        ("app", "app is the application"),
    ):
        with pytest.raises(SiteError, match=f"without: {words}"):
            world.install(made, without=[name])


@pytest.mark.parametrize(
    ("statuses", "words"),
    [([0, 503, 404, 302], ""), ([0], "does not answer"), ([500], "answers 500"), ([401], "")],
)
def test_what_runs_has_to_answer_as_well(world: World, statuses: list[int], words: str) -> None:
    made, asked = world.application(), ("home", "web", 8080, "/ready")
    made.profile["smoke"] = [{"step": "app", "service": "web", "port": 8080, "path": "/ready"}]

    def meanwhile(_seconds: float) -> None:
        world.cluster.statuses[asked] = statuses[0]
        if len(statuses) > 1:
            del statuses[0]

    world.meanwhile = meanwhile
    if not words:
        world.install(made)
        assert world.cluster.statuses.get(asked, statuses[0]) == statuses[0]
        return
    with pytest.raises(NotReadyError, match=f"Service home/web, port 8080, /ready: {words}"):
        world.install(made)


def step(kind: str, name: str, chart: str = "") -> InstalledStep:
    namespace, _, release = name.partition("/")
    return InstalledStep(kind, release, namespace, chart)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (step("chart", "a/x", "x"), [step("chart", "a/x", "x")], ""),
        (step("chart", "a/x", "x"), [step("chart", "b/x", "x")], "chart x is installed as a/x; this would make it b/x"),
        (step("chart", "a/x", "x"), [step("chart", "a/y", "x")], ""),
        (step("chart", "a/x", "x"), [], ""),
        (step("manifests", "a/x"), [step("manifests", "b/x")], "manifests is installed as a/x; this would make it b/x"),
        (step("resource", "a/x"), [], ""),
        (step("resource", "a/x"), [step("resource", "b/x")], "resource is installed as a/x; this would make it b/x"),
        # What a controller installs has data: it can neither be renamed nor left out.
        (step("resource", "a/x", "c"), [step("resource", "a/x", "c")], ""),
        (
            step("resource", "a/x", "c"),
            [step("resource", "a/y", "c")],
            "chart c is installed as a/x; this would make it a/y",
        ),
        (step("resource", "a/x", "c"), [step("resource", "a/y")], "chart c is installed as a/x; this would drop it"),
        (step("resource", "a/x", "c"), [], "chart c is installed as a/x; this would drop it"),
    ],
)
def test_a_release_stays_where_its_data_is(old: InstalledStep, new: list[InstalledStep], words: str) -> None:
    before = Record("f", "app", "1", 1, "s", "t", "a", "", (old,), ())
    after = replace(before, steps=tuple(new))
    if not words:
        stays_in_place(before, after)
        return
    with pytest.raises(SiteError) as caught:
        stays_in_place(before, after)
    assert caught.value.message == words
    assert "keep its namespace in site.yaml, or uninstall first" in caught.value.hint
