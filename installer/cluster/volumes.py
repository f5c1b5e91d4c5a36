"""The volumes behind claims that are ordinary objects of a chart, and so are deleted by Helm.

Helm deletes what stands in the manifest of a release: all of it with the release, and with a change what the new
manifest lacks. A volume whose reclaim policy is Delete goes with its claim, and so do the data. An object with
`helm.sh/resource-policy: keep` is spared, and claims that a StatefulSet makes are in no manifest. Source: Helm
documentation, "Charts Tips and Tricks"; Kubernetes documentation, "Persistent Volumes", section "Reclaiming".
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress

from installer.chart.helm import hook_events
from installer.chart.releases import Releases
from installer.cluster.cluster import Cluster, Object
from installer.cluster.kinds import VOLUME, VOLUME_CLAIM
from installer.cluster.workload import ReleaseName
from installer.errors import ClusterForbiddenError
from installer.value import Value

RETAIN = "Retain"
_LABEL = "airferry/data-of"
_FORMER_POLICY = "airferry/reclaim-policy"


class Volume(Value):
    """A PersistentVolume with its reclaim policy. `claim` is what it is bound to, as `namespace/name`."""

    name: str
    release: ReleaseName
    claim: str
    policy: str

    @property
    def content(self) -> str:
        """What is in it, and how it is used again: a claim of that name takes a volume that names it and no more."""
        patch = '{"spec":{"claimRef":{"uid":null,"resourceVersion":null}}}'
        return (
            f"data of claim {self.claim}; the chart deletes the claim; before an installation that shall use it again: "
            f"kubectl patch persistentvolume {self.name} --type=merge --patch='{patch}'"
        )

    def __str__(self) -> str:
        return f"{VOLUME.name} {self.name} ({self.content})"


def claims(objects: Iterable[Object], namespace: str) -> frozenset[str]:
    """The volume claims among the `objects` of a release in `namespace`, as `namespace/name`."""
    return frozenset(place for place, _ in _claims(objects, namespace))


def deletable(objects: Iterable[Object], namespace: str) -> frozenset[str]:
    """Those of `claims` that Helm deletes."""
    return frozenset(place for place, kept in _claims(objects, namespace) if not kept)


def at_stake(
    cluster: Cluster,
    releases: Callable[[str], Releases],
    names: Iterable[ReleaseName],
    staying: Collection[str] = frozenset(),
) -> list[Volume]:
    """The volumes of claims that Helm deletes when the releases `names` are removed, or keep only the claims `staying`.

    Raises ClusterForbiddenError, naming the claims, if this identity may not see to it that they outlive them.
    """
    found, lacking = list[Volume](), list[str]()
    for name in names:
        held = releases(name.namespace).status(name.name)
        going = deletable(held.objects if held else (), name.namespace) - frozenset(staying)
        for claim in sorted(going):
            try:
                found += _bound(cluster, name, claim)
            except ClusterForbiddenError as exc:
                lacking.append(f"claim {claim}: {exc.message}")
    lacking += [
        f"claim {item.claim}: may not patch persistentvolumes {item.name}"
        for item in found
        if item.policy != RETAIN and not cluster.can_i("patch", VOLUME, name=item.name)
    ]
    if lacking:
        raise ClusterForbiddenError(
            "\n  ".join(["Helm would delete these volume claims, and their data cannot be saved:", *lacking]),
            hint="use a context that may get and patch persistentvolumes, or have one made.",
        )
    return found


def retain(cluster: Cluster, found: Iterable[Volume]) -> None:
    """Let the volumes `found` outlive their claims."""
    for item in found:
        if item.policy != RETAIN:
            marks = {"labels": {_LABEL: item.release.name}, "annotations": {_FORMER_POLICY: item.policy}}
            change = {"metadata": marks, "spec": {"persistentVolumeReclaimPolicy": RETAIN}}
            cluster.merge(VOLUME, item.name, "", change)


def retained(cluster: Cluster, release: ReleaseName) -> list[Volume]:
    """The volumes that `retain` has changed for `release`; none where they may not be looked at."""
    with suppress(ClusterForbiddenError):
        found = [_volume(item, release) for item in cluster.find(VOLUME, labels={_LABEL: release.name})]
        return [item for item in found if item.claim.startswith(f"{release.namespace}/")]
    return []


def let_go(cluster: Cluster, name: str) -> bool:
    """Take back what `retain` did to a volume, so that it goes once its claim is gone; False if there is none."""
    held = cluster.get(VOLUME, name)
    if held is None:
        return False
    former = (held["metadata"].get("annotations") or {}).get(_FORMER_POLICY) or "Delete"
    marks = {"labels": {_LABEL: None}, "annotations": {_FORMER_POLICY: None}}
    cluster.merge(VOLUME, name, "", {"metadata": marks, "spec": {"persistentVolumeReclaimPolicy": former}})
    return True


def _claims(objects: Iterable[Object], namespace: str) -> Iterator[tuple[str, bool]]:
    """Each claim, and whether Helm spares it."""
    for item in objects:
        if item.get("kind") == VOLUME_CLAIM.name and not hook_events(item):
            metadata = item["metadata"]
            kept = (metadata.get("annotations") or {}).get("helm.sh/resource-policy") == "keep"
            yield f"{metadata.get('namespace') or namespace}/{metadata['name']}", kept


def _bound(cluster: Cluster, release: ReleaseName, claim: str) -> list[Volume]:
    """The volume that is bound to `claim`; a claim without one has no data."""
    namespace, _, name = claim.partition("/")
    held = cluster.get(VOLUME_CLAIM, name, namespace) or {}
    volume = (held.get("spec") or {}).get("volumeName")
    item = cluster.get(VOLUME, volume) if volume else None
    return [_volume(item, release)] if item else []


def _volume(item: Object, release: ReleaseName) -> Volume:
    bound = item["spec"].get("claimRef") or {}
    policy = item["spec"].get("persistentVolumeReclaimPolicy") or RETAIN
    return Volume(item["metadata"]["name"], release, f"{bound.get('namespace', '')}/{bound.get('name', '')}", policy)
