"""What the API server will refuse of a release, asked beforehand: it tries all objects, and a pod of each, for nothing.

Helm and controllers send them one by one, so a refusal later leaves an installation half done. What the server tries
(Kubernetes API, "Dry-run") goes through its checks of fields that never change, quotas, limit ranges, Pod Security,
admission policies and webhooks, and is not kept. Whatever refuses pods lets their workload pass, hence the pod.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from installer.chart.helm import hook_events
from installer.chart.releases import Releases
from installer.cluster.cluster import (
    AbsentError,
    Cluster,
    ConflictError,
    NoDryRunError,
    Object,
    WebhookError,
    describe,
    in_namespace,
    known,
    namespace_of,
)
from installer.cluster.kinds import NAMESPACE, POD, SERVICE_ACCOUNT, Kind
from installer.cluster.owners import WORKLOADS
from installer.cluster.workload import is_marked, pod_templates, release_of
from installer.diagnosis.diagnosis import pods_refused
from installer.diagnosis.finding import Finding, warning
from installer.errors import ClusterError, ClusterForbiddenError
from installer.objects.desired import ChartRelease, Desired
from installer.preflight.prerequisites import named

MOST = 5
# What decides about other objects: a release that brings it may lift by it what stands in the way now.
_DECIDES = (
    "LimitRange",
    "MutatingAdmissionPolicy",
    "MutatingWebhookConfiguration",
    "ResourceQuota",
    "ValidatingAdmissionPolicy",
    "ValidatingWebhookConfiguration",
)
_POD_KINDS = frozenset(kind.name for kind in WORKLOADS)
_FIXED = "take it back in site.yaml: what exists does not take this change."
_OWNED = (
    "a controller's Helm does not touch what is not its own: name another namespace in site.yaml, leave the chart out "
    "(`without`), or have that removed."
)
_Key = tuple[str, str, str]


@dataclass
class Trial:
    """Tries what `wanted` holds in `cluster`. `releases` gives the Helm releases of a namespace.

    Objects of others that a release from here would take are the matter of `installer.preflight.taking_over`.
    """

    cluster: Cluster
    releases: Callable[[str], Releases]
    wanted: Desired
    _given_up: bool = field(init=False, default=False)
    _open: dict[str, bool] = field(init=False, default_factory=dict)

    def of(self, release: ChartRelease) -> Iterator[Finding]:
        """What is refused of `release`, the first few of it. Nothing is said of what may not be tried from here."""
        found = list(dict.fromkeys(self._refused(release)))
        if any(item["kind"] in _DECIDES for part in self.wanted.parts for item in part.applied):
            found = list(map(_as_warning, found))
        yield from found[:MOST]
        if more := found[MOST:]:
            yield Finding(f"{len(more)} more objects of {release.origin} are refused", "see above.", more[0].error)

    def _refused(self, release: ChartRelease) -> Iterator[Finding]:
        former = self._former(release)
        # Those are not Helm's to change.
        others = {_key(crd, release) for crd in release.crds}
        for item in (item for item in release.applied if _key(item, release) not in others):
            kind = known(self.cluster, item)
            old = former.get(_key(item, release))
            if self._given_up or kind is None or (old and _content(old) == _content(item)):
                continue
            placed = in_namespace(self.cluster, item, release.name.namespace)
            with suppress(ClusterForbiddenError):
                if not hook_events(item):
                    yield from self._of_object(placed, kind, release, old)
                elif former:
                    # Where nothing changes, no hook is run.
                    yield from map(_as_warning, self._of_pods(placed, release))
                else:
                    yield from self._of_pods(placed, release)

    def _former(self, release: ChartRelease) -> dict[_Key, Object]:
        """What the release consists of so far, if it is in service."""
        found = self.releases(release.name.namespace).status(release.name.name)
        return {_key(item, release): item for item in found.objects} if found and found.deployed else {}

    def _of_object(self, item: Object, kind: Kind, release: ChartRelease, former: Object | None) -> Iterator[Finding]:
        name, place = item["metadata"]["name"], item["metadata"].get("namespace", "")
        live = self.cluster.get(kind, name, place)
        if live is None:
            found = list(self._asked(partial(self.cluster.create, item, dry_run=True)))
            yield from found or self._of_pods(item, release)
        elif former or is_marked(live, release.name):
            yield from self._of_change(item, kind, release, live, former or {})
        elif release not in self.wanted.installed:
            owner = release_of(live)
            whose = f"the Helm release {owner}" if owner else "no Helm release"
            yield Finding(f"{describe(live)} exists and belongs to {whose}", _OWNED, ClusterError)

    def _of_change(
        self, item: Object, kind: Kind, release: ChartRelease, live: Object, former: Object
    ) -> Iterator[Finding]:
        """What is refused of the change from `live` to `item`, whoever has set what there."""
        name, place, manager = item["metadata"]["name"], item["metadata"].get("namespace", ""), _applier(live)
        change = {key: value for key, value in _change(live, former, item).items() if key != "metadata"}
        after = live

        def change_it() -> None:
            nonlocal after
            if manager:
                after = self.cluster.apply(item, force=True, dry_run=True, manager=manager)
            else:
                after = self.cluster.merge(kind, name, place, change, dry_run=True)

        for found in self._asked(change_it):
            yield Finding(found.what, found.step if self._given_up else _FIXED, found.error)
        if after["metadata"].get("generation") != live["metadata"].get("generation"):
            # Its pods are made anew; whether at once, and how many more than now, is its own matter.
            yield from map(_as_warning, self._of_pods(item, release))

    def _of_pods(self, item: Object, release: ChartRelease) -> Iterator[Finding]:
        """What is refused of the pods that `item` asks for."""
        place = item["metadata"].get("namespace", "")
        if item["kind"] in _POD_KINDS and self._is_open(place):
            for template in pod_templates(item):
                for found in self._asked(partial(self.cluster.create, _pod(item, template), dry_run=True)):
                    cause = pods_refused(found.what, named(item, release), place)
                    step = found.step if self._given_up else cause.next
                    yield Finding(f"{cause.object}: {cause.detail}", step, found.error)

    def _asked(self, question: Callable[[], object]) -> Iterator[Finding]:
        """What the server refuses of `question`, which is a trial."""
        try:
            question()
        except WebhookError as exc:
            # Each further question might wait for it as long as this one.
            self._given_up = True
            yield Finding.of(exc)
        except (AbsentError, ConflictError, NoDryRunError):
            # Its namespace is yet to come, somebody has just made it, or a webhook cannot try.
            return
        except ClusterError as exc:
            yield Finding.of(exc)

    def _is_open(self, place: str) -> bool:
        """Whether pods could be made in the namespace `place` as it is, and it stays as it is."""
        if place not in self._open:
            held = self.cluster.get(NAMESPACE, place) or {"metadata": {}}
            labels = held["metadata"].get("labels") or {}
            stays = self.wanted.namespaces.get(place, {}).items() <= labels.items()
            self._open[place] = stays and self.cluster.get(SERVICE_ACCOUNT, "default", place) is not None
        return self._open[place]


def _as_warning(found: Finding) -> Finding:
    return warning(found.what, found.step)


def _pod(item: Object, template: Object) -> Object:
    """A pod as `item` makes them of `template`, without what is yet to be made: its account, classes and claims."""
    metadata = template.get("metadata") or {}
    spec = {
        key: value
        for key, value in template["spec"].items()
        if key not in ("serviceAccountName", "serviceAccount", "priorityClassName")
    }
    claims = [
        {"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
        for claim in (item.get("spec") or {}).get("volumeClaimTemplates") or []
    ]
    if claims:
        spec["volumes"] = [*(spec.get("volumes") or []), *claims]
    own = {key: metadata[key] for key in ("labels", "annotations") if metadata.get(key)}
    place = {"name": item["metadata"]["name"], "namespace": item["metadata"]["namespace"]}
    return {"apiVersion": POD.api_version, "kind": POD.name, "metadata": {**own, **place}, "spec": spec}


def _key(item: Object, release: ChartRelease) -> _Key:
    return str(item["kind"]), namespace_of(item, release.name.namespace), str(item["metadata"]["name"])


def _content(item: Object) -> dict[str, Any]:
    """What a chart says of an object, wherever it is put."""
    metadata = {key: value for key, value in item["metadata"].items() if key != "namespace"}
    return {**item, "metadata": metadata}


def _applier(live: Object) -> str:
    """Who applies `live` on the server, as Helm does since version 4; empty where nobody does."""
    entries = live["metadata"].get("managedFields") or []
    found = [each for each in entries if each.get("operation") == "Apply" and not each.get("subresource")]
    return str(max(found, key=lambda each: str(each.get("time")))["manager"]) if found else ""


def _change(live: Mapping[str, Any], former: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that makes `new` of `live`, where a chart has said `former` before.

    What others have added stays, lists apart, and so does what the server has; of the two forms of a part that a
    `type` tells apart, only the new one stays.
    """
    change: dict[str, Any] = {}
    for key, value in new.items():
        there, before = live.get(key), former.get(key)
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            change[key] = _change(there, before if isinstance(before, Mapping) else {}, value)
        else:
            change[key] = value
    gone = former.keys() - new.keys()
    if "type" in new and new["type"] != live.get("type"):
        gone |= live.keys() - new.keys()
    return {**dict.fromkeys(gone & live.keys()), **change}
