"""What shall stand in the cluster, worked out from bundle and site before anything is applied: the steps with objects.

`installer.objects.make_desired` makes it, `render` writes it down, `install` brings it about.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from installer.apps.profile import Ready
from installer.chart.helm import Chart, hook_events
from installer.cluster import volumes
from installer.cluster.cluster import FIELD_MANAGER, Object
from installer.cluster.kinds import CUSTOM_RESOURCE_DEFINITION, JOB, NAMESPACE, kind_named
from installer.cluster.workload import ReleaseName, marked
from installer.diagnosis.controller_log import LogSign
from installer.oci.digest import Digest
from installer.oci.reference import Reference
from installer.value import Value

MANAGED_BY = {"app.kubernetes.io/managed-by": FIELD_MANAGER}
_EVENTS = frozenset({"pre-install", "post-install", "pre-upgrade", "post-upgrade"})


@dataclass(frozen=True)
class ChartRelease:
    """A chart with its final values, and the objects it makes of them when installed for the first time.

    `hook_objects` are what Helm runs when it installs or upgrades the release, Jobs as a rule. `images` are all
    references that any of this asks for, now or when it is changed, `helm test` aside; `suspects` are texts that only
    look like references, and where they stand. `crds` are the CustomResourceDefinitions among the objects that Helm
    would never upgrade: those of the `crds/` folders. `hidden` are the paths of values that are secrets themselves.
    `brings` are kinds that its hooks or its program define, like `Zoo.v1.demo.example`.
    """

    chart: Chart
    name: ReleaseName
    values: Mapping[str, Any] = field(repr=False)
    objects: tuple[Object, ...] = field(repr=False)
    hook_objects: tuple[Object, ...] = field(repr=False)
    images: frozenset[Reference]
    suspects: tuple[str, ...] = ()
    crds: tuple[Object, ...] = field(default=(), repr=False)
    hidden: frozenset[str] = frozenset()
    brings: frozenset[str] = frozenset()

    @property
    def brought(self) -> frozenset[tuple[str, str]]:
        """`brings`, each as `apiVersion` and `kind`."""
        return frozenset(map(kind_named, self.brings))

    @property
    def origin(self) -> str:
        """What the objects are of, for people."""
        return f"chart {self.chart.name}"

    @property
    def hooks(self) -> frozenset[str]:
        """The names of the Jobs among `hook_objects`."""
        return frozenset(item["metadata"]["name"] for item in self.hook_objects if item.get("kind") == JOB.name)

    @property
    def applied(self) -> list[Object]:
        """What Helm applies when it installs or upgrades the release: hooks of other occasions, tests say, left out."""
        return [
            item
            for item in (*self.objects, *self.hook_objects)
            if not (events := hook_events(item)) or _EVENTS.intersection(events)
        ]

    @property
    def kept(self) -> list[Object]:
        """What Helm keeps as the chart has it: neither hooks nor `crds`; as Helm applies it."""
        own = {(item["kind"], item["metadata"]["name"]) for item in self.crds}
        return [
            marked(item, self.name)
            for item in self.objects
            if not hook_events(item) and (item["kind"], item["metadata"]["name"]) not in own
        ]

    @property
    def definitions(self) -> list[Object]:
        """`crds` as they are applied, without what the API server says of them."""
        found = []
        for crd in self.crds:
            metadata = {key: value for key, value in crd["metadata"].items() if key != "creationTimestamp"}
            found.append({**{key: crd[key] for key in ("apiVersion", "kind", "spec")}, "metadata": metadata})
        return found


@dataclass(frozen=True)
class Manifests:
    """Objects that are applied as they are; `name` is that of their step, and the namespace of those without one."""

    name: ReleaseName
    objects: tuple[Object, ...] = field(repr=False)
    images: frozenset[Reference] = frozenset()
    suspects: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """What the objects are of, for people."""
        return f"manifests {self.name.name}"

    @property
    def crds(self) -> tuple[Object, ...]:
        """The CustomResourceDefinitions among them."""
        return tuple(item for item in self.objects if item["kind"] == CUSTOM_RESOURCE_DEFINITION.name)

    @property
    def applied(self) -> list[Object]:
        """All of them."""
        return list(self.objects)


@dataclass(frozen=True)
class Resource:
    """An object that a controller acts upon: ready when `ready` says so.

    `installs` is the release that the controller makes of it, `controller` the step whose pods run that controller.
    `values_at` is the path of that release's values in it, `chart_source` in a word where the controller reads its
    chart (oci: the registry). `signs` tell what the controller's log means. `addition` is what a driver needs beside.
    `succeeds` are charts that a former controller has installed for it, and that it takes the place of.
    """

    label: str
    document: Object = field(repr=False)
    installs: ChartRelease | None
    ready: Ready | None
    controller: ReleaseName | None
    values_at: str = ""
    chart_source: str = ""
    signs: tuple[LogSign, ...] = ()
    succeeds: tuple[str, ...] = ()
    images: frozenset[Reference] = frozenset()
    suspects: tuple[str, ...] = ()
    addition: object = field(default=None, repr=False)

    @property
    def name(self) -> ReleaseName:
        """Its own name and namespace; a release that its controller makes has the same."""
        metadata = self.document["metadata"]
        return ReleaseName(metadata["name"], metadata.get("namespace", ""))

    @property
    def origin(self) -> str:
        """What it is, for people."""
        return f"resource {self.label}"

    @property
    def objects(self) -> tuple[Object, ...]:
        """The resource alone."""
        return (self.document,)

    @property
    def applied(self) -> list[Object]:
        """The resource alone."""
        return [self.document]

    @property
    def crds(self) -> tuple[Object, ...]:
        """None: definitions come with charts or manifests."""
        return ()


DesiredStep = ChartRelease | Resource | Manifests


class Endpoint(Value):
    """What a Service has to answer to over HTTP."""

    namespace: str
    service: str
    port: int
    path: str

    def __str__(self) -> str:
        return f"Service {self.namespace}/{self.service}, port {self.port}, {self.path}"


@dataclass(frozen=True)
class Desired:
    """All of it. `namespaces` have labels. `steps` stand in the order of installation.

    The installer keeps its own notes in the namespace `home`.
    `images` are all references that the cluster will ask for, each with the digest that the bundle has for it; what
    controllers pull, too. `suspects` are texts in arguments, variables and ConfigMaps that look like references to
    other images, and where they stand. `keys` are those of site.yaml that answer for what preflight looks at.
    `misspelt` are keys of values that the charts do not know, and what was probably meant. `smoke` are Services that
    have to answer at last. `confidential` are the texts of `secrets` that nobody may see.
    `accounts` are service accounts that bear the pull secret, `unserved` pods that do not get it by any way.
    """

    home: str
    namespaces: Mapping[str, Mapping[str, str]]
    secrets: tuple[Object, ...] = field(repr=False)
    steps: tuple[DesiredStep, ...]
    images: Mapping[str, Digest] = field(repr=False)
    suspects: tuple[str, ...] = ()
    confidential: tuple[str, ...] = field(default=(), repr=False)
    accounts: tuple[Object, ...] = field(default=(), repr=False)
    unserved: tuple[str, ...] = ()
    open_questions: tuple[str, ...] = ()
    misspelt: tuple[str, ...] = ()
    smoke: tuple[Endpoint, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def installed(self) -> tuple[ChartRelease, ...]:
        """The charts that Helm installs from here, in order."""
        return tuple(step for step in self.steps if isinstance(step, ChartRelease))

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The resources, in order."""
        return tuple(step for step in self.steps if isinstance(step, Resource))

    @property
    def manifests(self) -> tuple[Manifests, ...]:
        """The manifests, in order."""
        return tuple(step for step in self.steps if isinstance(step, Manifests))

    @property
    def releases(self) -> tuple[ChartRelease, ...]:
        """All releases, in order; those that controllers make, too."""
        found = (step.installs if isinstance(step, Resource) else step for step in self.steps)
        return tuple(step for step in found if isinstance(step, ChartRelease))

    @property
    def parts(self) -> tuple[DesiredStep, ...]:
        """Everything that has objects: the steps, and the releases that controllers make."""
        made = [step.installs for step in self.resources if step.installs]
        return (*self.steps, *made)

    @property
    def owners(self) -> dict[str, ReleaseName]:
        """Namespaces that charts make themselves, each with the release that it belongs to."""
        found = ((item, release.name) for release in self.releases for item in release.objects)
        return {str(item["metadata"]["name"]): name for item, name in found if item["kind"] == NAMESPACE.name}

    @property
    def applied(self) -> tuple[Resource | Manifests, ...]:
        """The steps whose objects are applied from here, without Helm."""
        return tuple(step for step in self.steps if not isinstance(step, ChartRelease))

    def key(self, topic: str) -> str:
        """Where site.yaml says something about `topic` (a key of Application.keys), for people."""
        return self.keys.get(topic, "the values of the chart")

    @property
    def claims(self) -> frozenset[str]:
        """The volume claims that are objects of the charts, as `namespace/name`; those of StatefulSets are not."""
        return frozenset[str]().union(*(volumes.claims(item.objects, item.name.namespace) for item in self.releases))
