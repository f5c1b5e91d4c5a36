"""What shall stand in the cluster, worked out from bundle and site before anything is applied.

`render` writes it down, `install` brings it about. Making it proves that no image reference of any object leaves the
enclave's registry or the bundle, for the first installation as well as for every later change (`helm upgrade` runs
hooks that an installation does not).
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from installer.bundle.manifest import BundleChart
from installer.bundle.reader import Bundle
from installer.chart import pinning, retarget
from installer.chart.helm import Chart, Rendering, hook_events, parse_values
from installer.chart.images import references
from installer.chart.relocation import Relocation
from installer.cluster import volumes
from installer.cluster.cluster import FIELD_MANAGER, Object
from installer.cluster.kinds import JOB
from installer.cluster.workload import ReleaseName
from installer.errors import BundleError, SiteError, UsageError
from installer.objects import chart_oci
from installer.objects.chart_source import ChartSource, Placed, Wish, choose
from installer.objects.custom_resource import custom_resource, template_values
from installer.oci.digest import Digest
from installer.oci.reference import DigestRef, Reference
from installer.site.site import Site, SiteSecret

MAX_CHART = 32 * 1024 * 1024
MAX_DOCUMENT = 4 * 1024 * 1024
MANAGED_BY = {"app.kubernetes.io/managed-by": FIELD_MANAGER}
_EVENTS = frozenset({"pre-install", "post-install", "pre-upgrade", "post-upgrade"})
_SHOWN = 20


@dataclass(frozen=True)
class ChartRelease:
    """A chart with its final values, and the objects it makes of them when installed for the first time.

    `hook_objects` are what Helm runs when it installs or upgrades the release, Jobs as a rule. `images` are all
    references that any of this asks for, now or when it is changed, `helm test` aside; `suspects` are texts that only
    look like references, and where they stand. `crds` are the CustomResourceDefinitions among the objects that Helm
    would never upgrade: those of the `crds/` folders.
    """

    chart: Chart
    name: ReleaseName
    values: Mapping[str, Any] = field(repr=False)
    objects: tuple[Object, ...] = field(repr=False)
    hook_objects: tuple[Object, ...] = field(repr=False)
    images: frozenset[Reference]
    suspects: tuple[str, ...] = ()
    crds: tuple[Object, ...] = field(default=(), repr=False)

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
    def definitions(self) -> list[Object]:
        """The same as they are applied, without what the API server says of them."""
        found = []
        for crd in self.crds:
            metadata = {key: value for key, value in crd["metadata"].items() if key != "creationTimestamp"}
            found.append({**{key: crd[key] for key in ("apiVersion", "kind", "spec")}, "metadata": metadata})
        return found


@dataclass(frozen=True)
class Desired:
    """All of it. `operator`, `platform`, `source` and `resource` are there together or not at all.

    `source` is where the operator reads the platform chart; `resource` names the source that it has in the end.
    `releases` are the charts that the installer installs itself, the operator's not among them. `images` are all
    references that the cluster will ask for, each with the digest that the bundle has for it; the chart, too, where the
    operator pulls it. `suspects` are texts in arguments, variables and ConfigMaps that look like references to other
    images, and where they stand.
    """

    namespaces: tuple[str, ...]
    secrets: tuple[Object, ...] = field(repr=False)
    releases: tuple[ChartRelease, ...]
    operator: ChartRelease | None
    platform: ChartRelease | None
    source: ChartSource | None
    resource: Object | None = field(repr=False)
    images: Mapping[str, Digest] = field(repr=False)
    suspects: tuple[str, ...] = ()

    @property
    def installed(self) -> tuple[ChartRelease, ...]:
        """The charts that Helm installs from here, in order."""
        return (*self.releases, *((self.operator,) if self.operator else ()))

    @property
    def claims(self) -> frozenset[str]:
        """The volume claims that are objects of the charts, as `namespace/name`; those of StatefulSets are not."""
        made = (*self.installed, *((self.platform,) if self.platform else ()))
        return frozenset().union(*(volumes.claims(item.objects, item.name.namespace) for item in made))

    @property
    def home(self) -> str:
        """The namespace in which the installer keeps its own notes."""
        return (self.operator or self.installed[0]).name.namespace


def desired(
    bundle: Bundle,
    site: Site,
    *,
    kube_version: str = "",
    api_versions: Iterable[str] = (),
    blank: bool = False,
    wish: Wish = Wish(),  # noqa: B008 - it cannot be changed
    names_stay: bool = False,
) -> Desired:
    """What `bundle` shall be at `site`; `kube_version` and `api_versions` are what the charts see of the cluster.

    `wish` says where the platform chart shall come from. With `names_stay` images keep their upstream names.
    With `blank` no secret of the site is read, and Secrets have empty values.
    Raises SiteError if an image reference leads out of the enclave or the values do not fit the charts, BundleError
    if the bundle does not hold together, UsageError if there is nothing to install.
    """
    charts = bundle.manifest.charts
    if not charts:
        raise UsageError("the bundle has no chart: there is nothing to install", hint="load its images with `load`.")
    site.check(charts)
    maker = _Maker(bundle, site, kube_version, tuple(api_versions), names_stay=names_stay)
    made = _made(maker, charts)
    operator, platform = _one(charts, "operator"), _one(charts, "platform")
    if bool(operator) != bool(platform):
        raise BundleError("a bundle has both a chart of role operator and one of role platform, or neither")
    releases = tuple(made[chart] for chart in charts if chart.role == "release")
    secrets = tuple(maker.secret(secret) for secret in site.secrets(charts, blank=blank))
    source, resource = None, None
    if operator and platform:
        source = maker.source(platform, made[platform], made[operator], wish, blank=blank)
        if source.final.authorities:
            made[operator] = maker.release(operator, authorities=source.final.authorities)
        resource = maker.resource(platform, made[platform], source.final)
        secrets += tuple(maker.secret(secret) for secret in source.final.secrets)
    images = maker.digests(reference for item in made.values() for reference in item.images)
    if source and (artifact := source.final.artifact):
        images[str(artifact)] = artifact.digest
    places = {item.name.namespace for item in made.values()} | {item["metadata"]["namespace"] for item in secrets}
    return Desired(
        namespaces=tuple(sorted(places)),
        secrets=secrets,
        releases=releases,
        operator=made[operator] if operator else None,
        platform=made[platform] if platform else None,
        source=source,
        resource=resource,
        images=images,
        suspects=tuple(dict.fromkeys(text for item in made.values() for text in item.suspects)),
    )


def _made(maker: "_Maker", charts: Iterable[BundleChart]) -> dict[BundleChart, ChartRelease]:
    """All releases. Raises SiteError with what is wrong with any of them."""
    made: dict[BundleChart, ChartRelease] = {}
    wrong: list[SiteError] = []
    for chart in charts:
        try:
            made[chart] = maker.release(chart)
        except SiteError as exc:
            wrong.append(exc)
    if wrong:
        raise SiteError("\n".join(exc.message for exc in wrong), hint=wrong[0].hint) from wrong[0]
    return made


class _Maker:
    """Puts together what bundle and site say about one chart each."""

    def __init__(
        self, bundle: Bundle, site: Site, kube_version: str, api_versions: tuple[str, ...], *, names_stay: bool
    ) -> None:
        self._bundle, self._site = bundle, site
        self._kube_version, self._api_versions = kube_version, api_versions
        images = [(image.source, image.digest) for image in bundle.manifest.images]
        self._relocation = Relocation.of(images, site.registry, site.project, names_stay=names_stay)
        targets = {self._relocation.target(image.reference): image.digest for image in bundle.manifest.images}
        self._digests = {(target.repository, target.selector): digest for target, digest in targets.items()}

    def release(self, entry: BundleChart, authorities: Iterable[str] = ()) -> ChartRelease:
        """The chart `entry` with final values, its references proven; the operator also trusts `authorities`."""
        chart = Chart.load(
            self._bundle.read(entry.archive, MAX_CHART),
            source=f"chart {entry.name}",
            error=BundleError,
            values_error=SiteError,
        )
        values = retarget.merged(self._given(entry), self._site.values(entry))
        if not self._relocation.names_stay:
            values = retarget.merged(values, retarget.overrides(chart, values, self._relocation))
        if self._site.on_nodes:
            values = retarget.merged(values, retarget.without_pulls(chart.coalesced(values)))
        if authorities:
            trusted = [*(values.get("customCACerts") or ()), *authorities]
            values = {**values, "customCACerts": list(dict.fromkeys(trusted))}
        name = ReleaseName(self._site.release(entry), self._site.namespace(entry))

        def upgrade(values: Mapping[str, Any]) -> Rendering:
            return self._render(chart, values, name, upgrade=True)

        upgraded = upgrade(values)
        if pins := pinning.pins(upgraded, values, self._relocation, upgrade):
            values = retarget.merged(values, pins)
            upgraded = upgrade(values)
        installed = self._render(chart, values, name, upgrade=False)
        both = (*installed.objects, *upgraded.objects)
        self._prove(entry, both, upgraded.coalesced)
        hooks = {
            (item.get("kind"), item["metadata"]["name"]): item
            for item in both
            if _EVENTS.intersection(hook_events(item))
        }
        images = frozenset(found.reference() for found in references(both) if found.certain and not found.test_only)
        suspects = tuple(sorted({str(stray) for stray in retarget.suspects(both, self._relocation)}))
        objects, run = tuple(installed.objects), tuple(hooks.values())
        return ChartRelease(chart, name, values, objects, run, images, suspects, installed.crds)

    def digests(self, images: Iterable[Reference]) -> dict[str, Digest]:
        """What each of `images`, references into the enclave, stands for."""
        return {
            str(image): image.digest
            if isinstance(image, DigestRef)
            else self._digests[image.repository, image.selector]
            for image in images
        }

    def source(
        self, entry: BundleChart, platform: ChartRelease, operator: ChartRelease, wish: Wish, *, blank: bool
    ) -> ChartSource:
        """Where the operator reads the platform chart `entry`."""
        repository = self._relocation.chart(entry.name, entry.version).repository
        placed = Placed(platform.chart, DigestRef(repository, entry.artifact), platform.name.namespace)
        images = self._bundle.manifest.images
        controller = chart_oci.controller_version(operator.objects, images, self._relocation)
        return choose(wish, placed, self._site, controller, blank=blank)

    def resource(self, entry: BundleChart, release: ChartRelease, source: ChartSource) -> Object:
        """The custom resource for the platform chart `entry`."""
        return custom_resource(
            self._template(entry),
            name=release.name.name,
            namespace=release.name.namespace,
            values=release.values,
            chart=source.spec,
        )

    def secret(self, secret: SiteSecret) -> Object:
        """A Secret of the site."""
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": secret.name, "namespace": secret.namespace, "labels": dict(MANAGED_BY)},
            "type": secret.type,
            "data": {key: base64.b64encode(value.reveal().encode()).decode() for key, value in secret.data.items()},
        }

    def _given(self, entry: BundleChart) -> dict[str, Any]:
        """The values that the bundle gives to the chart."""
        if not entry.values:
            return {}
        if entry.role == "platform":
            return template_values(self._template(entry), entry.values)
        return parse_values(self._document(entry.values), entry.values, BundleError)

    def _template(self, entry: BundleChart) -> dict[str, Any]:
        return parse_values(self._document(entry.values), entry.values, BundleError)

    def _document(self, name: str) -> bytes:
        for document in self._bundle.manifest.documents:
            if document.name == name:
                return self._bundle.read(document.digest, MAX_DOCUMENT)
        raise BundleError(f"the bundle has no document {name!r}")

    def _render(self, chart: Chart, values: Mapping[str, Any], name: ReleaseName, *, upgrade: bool) -> Rendering:
        return chart.render(
            values,
            release=name.name,
            namespace=name.namespace,
            kube_version=self._kube_version,
            api_versions=self._api_versions,
            upgrade=upgrade,
        )

    def _prove(self, entry: BundleChart, objects: Sequence[Object], coalesced: Mapping[str, Any]) -> None:
        """Raises SiteError if an image that the cluster would ask for is not one that the bundle brings along, or if
        nodes would ask for it again where nobody answers."""
        if self._site.on_nodes:
            _prove_held(entry, objects)
        strays = sorted(set(retarget.stray(objects, self._relocation)))
        if not strays:
            return
        offenders = list(dict.fromkeys(self._offender(entry, stray, coalesced) for stray in strays))
        more = [f"and {len(offenders) - _SHOWN} more"] if len(offenders) > _SHOWN else []
        raise SiteError(
            "\n  ".join([f"chart {entry.name}: images that this enclave will not have:", *offenders[:_SHOWN], *more]),
            hint="remove or correct these values in site.yaml, switch the part off, or add the image to the recipe and "
            "build again.",
        )

    def _offender(self, entry: BundleChart, stray: retarget.Stray, coalesced: Mapping[str, Any]) -> str:
        """A stray, with the places in site.yaml that can change it."""
        paths = retarget.sources(coalesced, stray.found.text)
        above = {"platform": "values", "operator": "operator_values"}.get(entry.role, f"charts.{entry.name}.values")
        where = ", ".join(f"{above}.{path}" for path in paths) or "no value: a template of the chart has it fixed"
        return f"{stray}; named by {where}"


def _prove_held(entry: BundleChart, objects: Sequence[Object]) -> None:
    """Raises SiteError if a node would not be content with the image that it has."""
    asking = list(dict.fromkeys(item.place for item in references(objects) if item.pulled and not item.test_only))
    more = [f"and {len(asking) - _SHOWN} more"] if len(asking) > _SHOWN else []
    if asking:
        raise SiteError(
            "\n  ".join([f"chart {entry.name}: pulled at every start, from nowhere:", *asking[:_SHOWN], *more]),
            hint="set their pull policy to IfNotPresent in the values of site.yaml, or set up a registry.",
        )


def _one(charts: Iterable[BundleChart], role: str) -> BundleChart | None:
    found = [chart for chart in charts if chart.role == role]
    if len(found) > 1:
        raise BundleError(f"{len(found)} charts of role {role}; there can be one")
    return found[0] if found else None
