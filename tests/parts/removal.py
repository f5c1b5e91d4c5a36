"""A small installation with data, to be removed."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from installer.cluster.kube import LEASE, VOLUME, VOLUME_CLAIM, ConflictError, Kind

from installer.chart.releases import Release
from installer.diagnosis.wait import Patience
from installer.errors import ClusterForbiddenError
from installer.report import Silent
from installer.workflows.lease import Means
from installer.workflows.lock_owner import Holder
from installer.workflows.record import FORMAT, InstalledChart, Record
from installer.workflows.uninstall import Removal, uninstall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from installer.cluster.kube import Cluster

    from installer.chart.releases import Releases

CHART = InstalledChart("app", "1.0.0", "sha256:1", "app", "here", ())
RECORD = Record(FORMAT, "app", "1", 1, "sha256:2", "2026-01-01T00:00:00Z", "here", (CHART,), CHART, None, "", ())


def claim(name: str, *, keep: bool = False, hook: bool = False) -> dict[str, Any]:
    annotations = {**({"helm.sh/resource-policy": "keep"} if keep else {}), **({"helm.sh/hook": "x"} if hook else {})}
    return {"kind": "PersistentVolumeClaim", "metadata": {"name": name, "annotations": annotations}}


MANIFEST = (claim("data"), claim("kept", keep=True), claim("unbound"), claim("safe"), claim("hook", hook=True))


@dataclass
class World:
    """A cluster with claims and volumes of one release, which is removed as Helm and Kubernetes do it."""

    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    forbidden: frozenset[str] = frozenset()
    installed: bool = True

    def __post_init__(self) -> None:
        for name, policy in (("data", "Delete"), ("kept", "Delete"), ("safe", "Retain"), ("hook", "Delete")):
            self.objects[VOLUME_CLAIM.name, name] = {
                "metadata": {"name": name, "namespace": "here", "labels": {"app.kubernetes.io/instance": "app"}},
                "spec": {"volumeName": f"pv-{name}"},
            }
            spec = {"persistentVolumeReclaimPolicy": policy, "claimRef": {"namespace": "here", "name": name}}
            self.objects[VOLUME.name, f"pv-{name}"] = {"metadata": {"name": f"pv-{name}"}, "spec": spec}
        metadata = {"name": "unbound", "namespace": "here"}
        self.objects[VOLUME_CLAIM.name, "unbound"] = {"metadata": metadata, "spec": {}}

    def get(self, kind: Kind, name: str, _namespace: str = "") -> dict[str, Any] | None:
        if kind == VOLUME and "get" in self.forbidden:
            raise ClusterForbiddenError("persistentvolumes is forbidden")
        return self.objects.get((kind.name, name))

    def find(self, kind: Kind, _namespace: str = "", **selection: Any) -> list[dict[str, Any]]:
        if kind == VOLUME and "get" in self.forbidden:
            raise ClusterForbiddenError("persistentvolumes is forbidden")
        labels = (selection.get("labels") or {}).items()
        found = [item for (name, _), item in self.objects.items() if name == kind.name]
        return [item for item in found if labels <= (item["metadata"].get("labels") or {}).items()]

    def can_i(self, verb: str, _kind: Kind, _namespace: str = "", name: str = "") -> bool:
        assert name
        return verb not in self.forbidden

    def merge(self, kind: Kind, name: str, _namespace: str, change: Mapping[str, Any]) -> dict[str, Any]:
        held = self.objects[kind.name, name]
        for part, content in change.items():
            for key, value in content.items():
                if isinstance(value, dict):
                    merged = {**(held[part].get(key) or {}), **value}
                    held[part][key] = {word: text for word, text in merged.items() if text is not None}
                else:
                    held[part][key] = value
        return held

    def create(self, obj: dict[str, Any]) -> dict[str, Any]:
        if (LEASE.name, obj["metadata"]["name"]) in self.objects:
            raise ConflictError("it exists")
        self.objects[LEASE.name, obj["metadata"]["name"]] = {
            **obj,
            "metadata": {**obj["metadata"], "resourceVersion": "1"},
        }
        return self.objects[LEASE.name, obj["metadata"]["name"]]

    def delete(self, kind: Kind, name: str, _namespace: str = "") -> bool:
        gone = self.objects.pop((kind.name, name), None)
        if gone is not None and kind == VOLUME_CLAIM and (volume := gone["spec"].get("volumeName")):
            self._reclaim(volume)
        return gone is not None

    def _reclaim(self, volume: str) -> None:
        if self.objects[VOLUME.name, volume]["spec"]["persistentVolumeReclaimPolicy"] == "Delete":
            del self.objects[VOLUME.name, volume]

    def status(self, release: str) -> Release | None:
        return Release(release, "here", 1, "deployed", "app", "1.0.0", "", objects=MANIFEST) if self.installed else None

    def uninstall(self, _release: str, *, timeout: int) -> bool:
        assert timeout
        there, self.installed = self.installed, False
        for item in MANIFEST if there else ():
            annotations = item["metadata"]["annotations"]
            if not annotations:
                self.delete(VOLUME_CLAIM, item["metadata"]["name"])
        return there

    def volumes(self) -> set[str]:
        return {name for kind, name in self.objects if kind == VOLUME.name}

    def removed(self, record: Record = RECORD, patience: Patience | None = None, *, data: bool = False) -> Removal:
        patience = patience or Patience(60, Silent(), sleep=lambda _seconds: None)
        now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        means = Means(
            cast("Cluster", self), lambda _: cast("Releases", self), patience, Holder("me", "m 1 1"), lambda: now
        )
        return uninstall(means, record, data=data)
