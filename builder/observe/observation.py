"""What a cluster asks for: the images of its pods, of what makes pods, and texts in custom resources that may be some.

Only `get` and `list` are asked of the API server. Rendering cannot show what an operator's code names; its pods do.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from installer.chart.images import OWN_GROUPS, references
from installer.cluster.cluster import Cluster, Object, describe
from installer.cluster.kinds import POD, Kind
from installer.cluster.owners import WORKLOADS, Owners, place_of
from installer.cluster.pod_images import container_states, pod_images, runs
from installer.cluster.workload import pod_specs
from installer.errors import (
    AirferryError,
    ClusterError,
    ClusterForbiddenError,
    ClusterUnreachableError,
    InterruptedByUserError,
)
from installer.oci.digest import Digest
from installer.report import Reporter
from installer.value import Value

WATCH_SECONDS = 2.0
"""Between two looks: the pods of a short Job stay as long as that at least."""
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Sighting(Value, order=True):
    """A place in the cluster that names an image: `text` as it stands there.

    `certain` says that nodes are asked for it; else it may be no image, or nothing that is ever asked for. `runs` is
    the digest of what the node has pulled, empty where none is known.
    """

    text: str
    place: str
    certain: bool
    runs: str = ""


class Observation(Value):
    """What was seen in `namespaces` (one that is empty: in all).

    `pods` are those that were looked at, as `Pod NAMESPACE/NAME`; `unseen` says what may not be listed, `blind` the
    namespaces where these are pods.
    """

    namespaces: tuple[str, ...]
    sightings: tuple[Sighting, ...]
    pods: tuple[str, ...]
    unseen: tuple[str, ...]
    blind: tuple[str, ...]


def observe(
    cluster: Cluster,
    namespaces: Sequence[str],
    seconds: float,
    reporter: Reporter,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Observation:
    """Look at `namespaces` (an empty one means all) once, or for `seconds` again and again; Ctrl-C ends that sooner.

    Raises ClusterUnreachableError and ClusterError; what may not be listed is only noted.
    """
    look = _Look(cluster, namespaces)
    look.at_everything()
    if seconds:
        reporter.note(f"watching pods for {seconds:g} s; Ctrl-C ends it, and tells what was seen")
        try:
            _watch(look, clock() + seconds, reporter, clock, sleep)
        except InterruptedByUserError:
            reporter.note("ended; what was seen so far:")
    return look.observation()


def _watch(
    look: "_Look", end: float, reporter: Reporter, clock: Callable[[], float], sleep: Callable[[float], None]
) -> None:
    def again(looking: Callable[[], None]) -> None:
        # What was seen before must not be lost with the last answer.
        try:
            looking()
        except ClusterUnreachableError as exc:
            reporter.note(f"note: {exc.message}")

    while (left := end - clock()) > 0:
        sleep(min(left, WATCH_SECONDS))
        again(look.at_pods)
    again(look.at_everything)


class _Look:
    """What was seen so far."""

    def __init__(self, cluster: Cluster, namespaces: Sequence[str]) -> None:
        self._cluster, self._namespaces = cluster, namespaces
        self._seen: set[Sighting] = set()
        self._pods: set[str] = set()
        self._unseen: set[str] = set()
        self._blind: set[str] = set()

    def observation(self) -> Observation:
        return Observation(
            namespaces=tuple(self._namespaces),
            sightings=tuple(sorted(self._seen)),
            pods=tuple(sorted(self._pods)),
            unseen=tuple(sorted(self._unseen)),
            blind=tuple(sorted(self._blind)),
        )

    def at_everything(self) -> None:
        """Pods, what makes pods, and custom resources."""
        self.at_pods()
        kinds = list(self._custom_kinds())
        for namespace in self._namespaces:
            self._at_resources(item for kind in kinds if kind.namespaced for item in self._list(kind, namespace))
        self._at_resources(item for kind in kinds if not kind.namespaced for item in self._list(kind, ""))

    def at_pods(self) -> None:
        """Pods, and templates of which there is no pod just now."""
        for namespace in self._namespaces:
            makers = [item for kind in WORKLOADS for item in self._list(kind, namespace)]
            owners, busy, made = Owners(makers), set[str](), {describe(item) for item in makers}
            for pod in self._list(POD, namespace):
                _, *above = owners.chain(pod)
                busy.update(describe(item) for item in above)
                self._pods.add(describe(pod))
                self._add(pod, place_of(pod, above[-1] if above else pod))
            for item in makers:
                _, *above = owners.chain(item)
                # What is made by another of these has the template of that one.
                if describe(item) not in busy and not made.intersection(map(describe, above)):
                    self._add(item, f"{describe(item)} (no pod just now)")

    def _at_resources(self, items: Iterable[Object]) -> None:
        for item in items:
            for found in references([_wanted(item)]):
                self._seen.add(Sighting(found.text, f"{describe(item)}, {found.path}", certain=False))

    def _add(self, item: Object, place: str) -> None:
        named = references([_wanted(item)])
        # What only `helm test` runs, nothing in an enclave runs unasked.
        test = any(found.test_only for found in named)
        states, asked = container_states(item), set[str]()
        for image in (image for spec in pod_specs(item["spec"]) for image in pod_images(spec)):
            asked.add(image.text)
            digest = _digest(states.get(image.container) or {})
            self._seen.add(Sighting(image.text, f"{place}, {image.place}", not test, digest))
        for found in named:
            if found.text not in asked:
                self._seen.add(Sighting(found.text, f"{place}, {found.path}", certain=False))

    def _custom_kinds(self) -> Iterator[Kind]:
        """Kinds that Kubernetes does not bring along, each once; their objects are the same in all versions."""
        found = set[tuple[str, str]]()
        try:
            versions = self._cluster.api_versions()
        except ClusterForbiddenError:
            self._unseen.add("custom resources")
            return
        for text in versions:
            version, _, name = text.rpartition("/")
            group = version.partition("/")[0]
            if "/" in version and group not in OWN_GROUPS and (group, name) not in found:
                found.add((group, name))
                yield self._cluster.kind(version, name)

    def _list(self, kind: Kind, namespace: str) -> list[Object]:
        try:
            return self._cluster.find(kind, namespace)
        except ClusterForbiddenError:
            if kind == POD:
                self._blind.add(namespace)
        except ClusterError:
            # Some kinds are only created, such as reviews.
            if kind in (POD, *WORKLOADS):
                raise
        self._unseen.add(f"{kind} in {namespace or 'all namespaces'}" if kind.namespaced else str(kind))
        return []


def _wanted(item: Object) -> Object:
    """`item` without what is reported of it and how it came about."""
    metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != _APPLIED}
    rest = {key: value for key, value in item.items() if key != "status"}
    return {**rest, "metadata": {**metadata, "annotations": annotations}}


def _digest(state: Object) -> str:
    """The digest of what a container runs, which may be that of its configuration; empty if it is not known."""
    try:
        return Digest(runs(state).rpartition("@")[2]).text
    except AirferryError:
        return ""
