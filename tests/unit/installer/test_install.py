"""What an installation knows beforehand, and refuses or asks before it changes anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from installer.apps.wandb.driver import DRIVER
from installer.cluster.kinds import CONFIG_MAP, SECRET, VOLUME, VOLUME_CLAIM
from installer.errors import SiteError
from installer.objects.make_desired import desired
from installer.preflight import preflight
from installer.preflight.preflight import Preflight
from installer.report import Silent
from installer.workflows import install, record
from tests.parts.bundles import open_bundle, packed_chart
from tests.parts.demo_site import platform, site
from tests.parts.fake_cluster import FakeCluster
from tests.parts.fake_helm import FakeHelm

if TYPE_CHECKING:
    from pathlib import Path

    from installer.cluster.cluster import Object
    from installer.workflows.install import Prepared

TIME = "2026-01-31T00:00:00Z"
GADGET: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "gadgets.example.com", "creationTimestamp": None},
    "spec": {
        "group": "example.com",
        "names": {"kind": "Gadget", "plural": "gadgets"},
        "scope": "Namespaced",
        "versions": [{"name": "v1", "served": True, "storage": True}],
    },
}
CLAIM: Object = {
    "apiVersion": "v1",
    "kind": VOLUME_CLAIM.name,
    "metadata": {"name": "data", "namespace": "one"},
    "spec": {"volumeName": "pv"},
}


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(namespaces=["one", "two", "operator"])


def prepared(
    cluster: FakeCluster, folder: Path, monkeypatch: pytest.MonkeyPatch, *, namespace: str = "one", **how: Any
) -> Prepared:
    """What `install` prepares for the demonstration platform in the namespace `namespace`; Helm has its release."""
    operator = packed_chart("operator", "1.0.0", {"crds/gadget.yaml": json.dumps(GADGET)})
    helm = FakeHelm(cluster)
    helm.given("wandb", "one", [CLAIM])
    with open_bundle([platform(folder, operator=operator).write()]) as bundle:
        here = site(folder, bundle, namespace=namespace, operator_namespace="operator")
        found = Preflight(desired(bundle, here, DRIVER), ())
        monkeypatch.setattr(preflight, "look", lambda *_, **__: found)
        examined = install.examine(bundle, here, cluster, helm, registry=None, time=TIME, **how)
        return install.prepare(examined, helm, Silent())


def _ours(item: Object) -> bool:
    return any(entry["manager"] == "airferry" for entry in item["metadata"]["managedFields"])


def test_an_installation_stays_where_it_is(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepared(cluster, tmp_path, monkeypatch)
    assert not [item for kind in (CONFIG_MAP, SECRET) for item in cluster.find(kind) if _ours(item)]
    record.keep(cluster, first.note)
    assert prepared(cluster, tmp_path, monkeypatch).note == first.note
    with pytest.raises(SiteError, match="is installed as one/wandb; this would make it two/wandb") as caught:
        prepared(cluster, tmp_path, monkeypatch, namespace="two")
    assert "keep its namespace in site.yaml, or uninstall first" in caught.value.message


def test_a_volume_whose_claim_goes_with_changed_answers_is_shown_beforehand(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepared(cluster, tmp_path, monkeypatch).changes.volumes == ()
    cluster.given(CLAIM)
    spec = {"persistentVolumeReclaimPolicy": "Delete", "claimRef": {"namespace": "one", "name": "data"}}
    cluster.given({"apiVersion": "v1", "kind": VOLUME.name, "metadata": {"name": "pv"}, "spec": spec})
    (told,) = prepared(cluster, tmp_path, monkeypatch).changes.volumes
    assert told.startswith("PersistentVolume pv (data of claim one/data; the chart deletes the claim; ")
    assert (cluster.get(VOLUME, "pv") or {})["spec"] == spec, "nothing is changed yet"
