"""The note of an installation in the cluster: read as it was written, and damage is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from installer.apps.wandb.driver import DRIVER
from installer.cluster.kinds import CONFIG_MAP
from installer.cluster.readiness import Readiness
from installer.cluster.workload import ReleaseName
from installer.errors import ClusterError, NothingHereError, UsageError
from installer.objects.make_desired import desired
from installer.value import replace
from installer.workflows import record
from installer.workflows.record import InstalledObject, Record
from tests.parts.application import Application
from tests.parts.bundles import open_bundle, packed_chart
from tests.parts.demo_site import platform, site, wanted
from tests.parts.fake_cluster import FakeCluster

if TYPE_CHECKING:
    from pathlib import Path

TIME = "2026-01-01T00:00:00Z"
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "gadgets.example.com"},
    "spec": {"group": "example.com", "names": {"kind": "Gadget", "plural": "gadgets"}, "versions": []},
}


def test_a_record_survives_the_way_through_the_cluster(tmp_path: Path) -> None:
    with open_bundle([platform(tmp_path / "b").write()]) as bundle:
        found = desired(bundle, site(tmp_path, bundle), DRIVER)
        made = record.record(bundle.manifest, bundle.verdict.sums, "wandb", found, TIME)
    assert record.read(made.as_object()) == made
    assert (made.format, made.driver) == ("airferry-installation/2", "wandb")
    assert [(step.kind, step.release) for step in made.all_charts] == [("chart", "operator"), ("resource", "wandb")]
    assert [step.release for step in made.charts] == ["operator"]
    (resource,) = made.resources
    assert resource.chart == "demo-platform"
    assert resource.hooks == ("wandb-migrate", "wandb-renew")
    assert (resource.controller_name, resource.values_at) == (ReleaseName("operator", "default"), "spec.values")
    assert resource.objects == (InstalledObject("apps.wandb.com/v1", "WeightsAndBiases", "default", "wandb"),)


def several(folder: Path) -> Application:
    """A chart, a resource with a rule of readiness, and manifests."""
    made = Application(folder, "several")
    made.chart(packed_chart("app", "1.0.0"))
    made.document(
        "thing.yaml", {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "it"}}, "resource"
    )
    made.resource("thing.yaml", ready={"condition": "Ready"}, controller="app", namespace="there")
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    made.manifests("more", DEFINITION, config, {**config, "metadata": {"name": "b", "namespace": "far"}})
    return made


def test_every_kind_of_step_is_noted(tmp_path: Path) -> None:
    found = [record.installed_step(step) for step in wanted(several(tmp_path), tmp_path, namespace="here").steps]
    chart, thing, more = found
    assert (chart.kind, str(chart.name), chart.chart, chart.version) == ("chart", "here/app", "app", "1.0.0")
    assert (thing.kind, str(thing.name), thing.chart) == ("resource", "there/it", "")
    assert thing.ready == Readiness(condition="Ready")
    assert str(thing.controller_name) == "here/app"
    assert (more.kind, str(more.name), more.crds) == ("manifests", "here/more", ("gadgets.example.com",))
    assert [str(item) for item in more.objects] == [
        "CustomResourceDefinition here/gadgets.example.com",
        "ConfigMap here/a",
        "ConfigMap far/b",
    ]


def note(bundle: str = "app", namespace: str = "here") -> Record:
    return Record(record.FORMAT, bundle, "1", 1, "sha256:2", TIME, namespace, "", (), ())


def test_a_record_is_written_only_if_more_than_the_time_differs() -> None:
    cluster = FakeCluster(namespaces=["here"])
    assert record.held(cluster, "app", "here") is None
    assert record.keep(cluster, note())
    assert not record.keep(cluster, replace(note(), time="2027-01-01T00:00:00Z"))
    assert record.held(cluster, "app", "here") == note()
    assert record.keep(cluster, replace(note(), version="2"))
    assert record.held(cluster, "app", "here") == replace(note(), version="2")


def test_the_only_record_is_found_and_of_several_the_one_that_is_named() -> None:
    cluster = FakeCluster(namespaces=["here", "there"])
    with pytest.raises(NothingHereError, match="no installation by this program in this cluster"):
        record.find(cluster)
    record.keep(cluster, note())
    assert record.find(cluster) == note()
    record.keep(cluster, note("other", "there"))
    with pytest.raises(UsageError, match=r"app \(namespace here\), other \(namespace there\)"):
        record.find(cluster)
    assert record.find(cluster, "other").namespace == "there"
    assert record.find(cluster, namespace="here").bundle == "app"
    with pytest.raises(NothingHereError, match="no installation of third"):
        record.find(cluster, "third")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "airferry-installation/9"}', "no"])
def test_a_damaged_record_is_said_to_be_one(text: str) -> None:
    config_map = {"metadata": {"name": "a", "namespace": "b"}, "data": {"installation.json": text}}
    with pytest.raises(ClusterError, match="ConfigMap b/a"):
        record.read(config_map)


def test_a_record_of_another_version_is_left_to_that() -> None:
    older = {**note().as_object(), "data": {record.KEY: '{"format": "airferry-installation/1"}'}}
    with pytest.raises(ClusterError, match="written by another version of this program"):
        record.read(older)
    assert CONFIG_MAP.name == older["kind"]
