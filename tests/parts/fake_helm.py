"""Helm in memory: the releases of a `FakeCluster`, made by rendering charts for real.

helm = FakeHelm(cluster)
helm("here").ensure(chart, "app", values)              # as Releases; helm itself is what workflows take
helm.given("app", "here", objects)                     # a release that others have made

Hooks have served at once. What is in no manifest any more is deleted, unless it is to be kept.
"""

from __future__ import annotations

import base64
import copy
import gzip
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from installer.chart.helm import hook_events
from installer.chart.releases import Release, Releases
from installer.cluster.cluster import known
from installer.cluster.kinds import SECRET
from installer.cluster.workload import ReleaseName, marked
from installer.errors import ClusterError
from installer.value import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from installer.chart.helm import Chart
    from installer.cluster.cluster import Object
    from tests.parts.fake_cluster import FakeCluster


@dataclass
class FakeHelm:
    """The releases by namespace and name, each with its revisions and their values, oldest first."""

    cluster: FakeCluster
    held: dict[tuple[str, str], list[tuple[Release, dict[str, Any]]]] = field(default_factory=dict)

    def __call__(self, namespace: str) -> FakeReleases:
        return FakeReleases(self, namespace)

    def given(self, release: str, namespace: str, objects: Iterable[Object] = (), *, status: str = "deployed") -> None:
        """A release that others have made: only its record, its objects are the test's."""
        self.add(Release(release, namespace, 1, status, release, "1.0.0", "", objects=tuple(objects)), {})

    def add(self, new: Release, values: Mapping[str, Any]) -> None:
        """Write down a revision as Helm does; the one before is superseded."""
        revisions = self.held.setdefault((new.namespace, new.name), [])
        revisions[:] = [(replace(item, status="superseded"), each) for item, each in revisions]
        revisions.append((new, copy.deepcopy(dict(values))))
        for item, _ in revisions:
            labels = {"owner": "helm", "name": item.name, "version": str(item.revision), "status": item.status}
            metadata = {"name": self.secret(item), "namespace": item.namespace, "labels": labels}
            chart = {"chart": {"metadata": {"name": item.chart, "version": item.version}}}
            whole = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(chart).encode()))).decode()
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"release": whole}}
            self.cluster.given(secret, manager="helm")

    def secret(self, item: Release) -> str:
        """The Secret that holds a revision."""
        return f"sh.helm.release.v1.{item.name}.v{item.revision}"


class FakeReleases(Releases):
    """The releases in one namespace."""

    def __init__(self, helm: FakeHelm, namespace: str) -> None:
        super().__init__(None, namespace=namespace)
        self._helm, self._cluster = helm, helm.cluster

    def ensure(
        self,
        chart: Chart,
        release: str,
        values: Mapping[str, Any],
        *,
        timeout: int = 300,
        create_namespace: bool = False,
        skip_crds: bool = False,
        repair: bool = False,
        take_over: bool = False,
        watch: Callable[[], None] | None = None,
    ) -> bool:
        assert timeout > 0
        assert skip_crds
        past, label = self.history(release), chart.digest.hex[:63]
        same = bool(past) and past[-1].label == label and self.values(release) == dict(values)
        if same and not repair:
            return False
        assert take_over or not past or past[-1].label, "Helm's release of others"
        found = chart.render(values, release=release, namespace=self.namespace, upgrade=bool(past)).objects
        objects = tuple(item for item in found if not hook_events(item))
        number = past[-1].revision + 1 if past else 1
        placed = self._placed(release, objects)
        new = Release(release, self.namespace, number, "deployed", chart.name, chart.version, label, objects=placed)
        self._become(new, values)
        return True

    def roll_back(self, release: str, revision: int, *, timeout: int = 300) -> bool:
        assert timeout > 0
        past = self._helm.held.get((self.namespace, release), [])
        newest = past[-1][0]
        if revision in (newest.revision, newest.origin):
            return False
        for item, values in past:
            if item.revision == revision:
                number = newest.revision + 1
                self._become(replace(item, revision=number, status="deployed", origin=revision), values)
                return True
        raise ClusterError(f"release {release}: Helm does not keep revision {revision} any more")

    def status(self, release: str) -> Release | None:
        past = self._helm.held.get((self.namespace, release), [])
        return past[-1][0] if past else None

    def history(self, release: str) -> list[Release]:
        return [replace(item, objects=()) for item, _ in self._helm.held.get((self.namespace, release), [])]

    def values(self, release: str) -> dict[str, Any]:
        return copy.deepcopy(self._helm.held[self.namespace, release][-1][1])

    def uninstall(self, release: str, *, timeout: int = 300, hooks: bool = True) -> bool:
        assert timeout > 0
        past = self._helm.held.pop((self.namespace, release), [])
        for item, _ in past:
            self._cluster.delete(SECRET, self._helm.secret(item), self.namespace)
        self._delete(past[-1][0].objects if past else ())
        return bool(past)

    def _become(self, new: Release, values: Mapping[str, Any]) -> None:
        before = self.status(new.name)
        for item in new.objects:
            self._cluster.apply(item, force=True, manager="helm")
        kept = {(item["kind"], item["metadata"]["name"]) for item in new.objects}
        former = before.objects if before else ()
        self._delete(item for item in former if (item["kind"], item["metadata"]["name"]) not in kept)
        self._helm.add(new, values)

    def _placed(self, release: str, objects: Iterable[Object]) -> tuple[Object, ...]:
        """Objects in their namespace, with Helm's note of the release."""
        found = []
        for item in objects:
            kind, metadata = known(self._cluster, item), dict(item["metadata"])
            if kind is None or kind.namespaced:
                metadata.setdefault("namespace", self.namespace)
            found.append(marked({**item, "metadata": metadata}, ReleaseName(release, self.namespace)))
        return tuple(found)

    def _delete(self, objects: Iterable[Object]) -> None:
        for item in objects:
            metadata = item["metadata"]
            annotations = metadata.get("annotations") or {}
            kind = known(self._cluster, item)
            if kind and not hook_events(item) and annotations.get("helm.sh/resource-policy") != "keep":
                self._cluster.delete(kind, metadata["name"], metadata.get("namespace") or self.namespace)
