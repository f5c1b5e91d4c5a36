"""What an installation knows beforehand, and refuses or asks before it changes anything."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from installer.chart.releases import Release
from installer.cluster.cluster import Cluster, ConflictError
from installer.cluster.kinds import CONFIG_MAP, CUSTOM_RESOURCE_DEFINITION, VOLUME, VOLUME_CLAIM, Kind
from installer.errors import SiteError
from installer.objects.desired import desired
from installer.preflight import preflight
from installer.preflight.preflight import Preflight
from installer.report import Silent
from installer.workflows import install, record
from tests.parts.bundles import open_bundle, packed_chart
from tests.parts.demo_site import platform, site

if TYPE_CHECKING:
    from pathlib import Path

    from installer.chart.releases import Releases
    from installer.workflows.install import Prepared

TIME = "2026-01-31T00:00:00Z"


@dataclass
class World:
    """A cluster that holds what was applied; others claim fields of CustomResourceDefinitions."""

    objects: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    claimed: bool = False

    def get(self, kind: Kind, name: str, namespace: str = "") -> dict[str, Any] | None:
        return self.objects.get((kind.name, namespace, name))

    def apply(self, obj: dict[str, Any], *, dry_run: bool = False, force: bool = False) -> dict[str, Any]:
        assert not force
        if self.claimed and obj["kind"] == CUSTOM_RESOURCE_DEFINITION.name:
            raise ConflictError(f'apply {obj["metadata"]["name"]}: conflict with "helm"')
        if not dry_run:
            self.objects[obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"]] = obj
        return obj

    def can_i(self, *_: str, **__: str) -> bool:
        return True

    def status(self, release: str) -> Release | None:
        claim = {"kind": VOLUME_CLAIM.name, "metadata": {"name": "data"}}
        held = Release(release, "one", 1, "deployed", "demo-platform", "1.0.0", "", objects=(claim,))
        return held if release == "wandb" else None

    def history(self, _release: str) -> list[Any]:
        return []


def prepared(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch, **how: Any) -> Prepared:
    """What `install` prepares for the demonstration platform in the namespace `namespace`."""
    answers = {"namespace": how.pop("namespace", "one"), "operator_namespace": "operator"}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.example.com", "creationTimestamp": None},
        "spec": {"group": "example.com"},
    }
    application = platform(folder)
    operator = packed_chart("operator", "1.0.0", {"crds/gadget.yaml": json.dumps(crd)})
    application.charts[0] = (operator, "operator", "operator", "")
    here = site(folder, **answers)
    with open_bundle([application.write()]) as bundle:
        found = Preflight(desired(bundle, here), ())
        monkeypatch.setattr(preflight, "look", lambda *_, **__: found)
        cluster, releases = cast("Cluster", world), lambda _: cast("Releases", world)
        return install.prepare(bundle, here, cluster, releases, registry=None, reporter=Silent(), time=TIME, **how)


def test_an_installation_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    first = prepared(world, tmp_path, monkeypatch)
    record.keep(cast("Cluster", world), first.note)
    assert [kind for kind, _, _ in world.objects] == [CONFIG_MAP.name]
    assert prepared(world, tmp_path, monkeypatch).note == first.note
    with pytest.raises(SiteError, match="is installed as one/wandb; this would make it two/wandb") as caught:
        prepared(world, tmp_path, monkeypatch, namespace="two")
    assert "keep its namespace in site.yaml, or uninstall first" in caught.value.hint


def test_fields_of_kinds_that_others_have_set_are_asked_for_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(claimed=True)
    with pytest.raises(ConflictError, match=r"gadgets\.example\.com"):
        prepared(world, tmp_path, monkeypatch)
    told = prepared(world, tmp_path, monkeypatch, take_over=True).changes.overwritten
    assert told == ('apply gadgets.example.com: conflict with "helm"',)


def test_a_volume_whose_claim_goes_with_changed_answers_is_shown_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    assert prepared(world, tmp_path, monkeypatch).changes.volumes == ()
    world.objects[VOLUME_CLAIM.name, "one", "data"] = {"spec": {"volumeName": "pv"}}
    spec = {"persistentVolumeReclaimPolicy": "Delete", "claimRef": {"namespace": "one", "name": "data"}}
    world.objects[VOLUME.name, "", "pv"] = {"metadata": {"name": "pv"}, "spec": spec}
    (told,) = prepared(world, tmp_path, monkeypatch).changes.volumes
    assert told.startswith("PersistentVolume pv (data of claim one/data; the chart deletes the claim; ")
    assert world.objects[VOLUME.name, "", "pv"]["spec"] == spec, "nothing is changed yet"
