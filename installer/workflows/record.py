"""What an installation was, noted in the cluster itself so that `status` and `uninstall` work from any host.

One ConfigMap `airferry-NAME` per bundle name, in the namespace of the first step. It holds names, versions and digests,
and no values: values may be confidential.
"""

import json
from typing import Any

from installer import strict_json
from installer.bundle.manifest import BundleManifest
from installer.cluster.cluster import Cluster, Object
from installer.cluster.kinds import CONFIG_MAP
from installer.cluster.readiness import Readiness
from installer.cluster.workload import ReleaseName
from installer.diagnosis.controller_log import LogSign
from installer.errors import ClusterError, NothingHereError, UsageError
from installer.floor.floor import Floor, release_of
from installer.objects.desired import MANAGED_BY, ChartRelease, Desired, DesiredStep, Manifests, Resource
from installer.oci.digest import Digest
from installer.value import Value, plain, replace, typed

FORMAT = "airferry-installation/2"
KEY = "installation.json"
PREFIX = "airferry-"
MAX_RECORD = 256 * 1024


class InstalledObject(Value):
    """An object that a step applied; `namespace` is empty for one that has none."""

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {f'{self.namespace}/' if self.namespace else ''}{self.name}"

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What it is in every version of its kind: group, kind, namespace and name."""
        return self.api_version.rpartition("/")[0], self.kind, self.namespace, self.name

    @classmethod
    def of(cls, item: Object, namespace: str = "") -> "InstalledObject":
        """The identity of `item`; `namespace` counts where it names none."""
        metadata = item["metadata"]
        return cls(item["apiVersion"], item["kind"], metadata.get("namespace") or namespace, metadata["name"])


class InstalledStep(Value):
    """A step as it was installed: a `chart` of kind and the release it became, a `resource`, or `manifests`.

    `brings` are kinds that the chart's hooks or its program define, like `Zoo.v1.demo.example`. `succeeds` are charts
    that a former controller has installed for the resource, and that it takes the place of.
    `release` and `namespace` are those of the release, of the resource, or of the step. Of a resource `chart`,
    `version` and `archive` are those of the release that its controller makes, or empty. `hooks` are the names of the
    Jobs that Helm runs, `crds` those of the CustomResourceDefinitions that came with it. `objects` are what was applied
    from here: the resource, or the manifests. `controller` (`namespace/name`) is the release that acts upon a resource,
    `values_at` the path of a chart's values in it, `signs` what its log may say, and
    `chart_source` where it reads its chart.
    """

    kind: str
    release: str
    namespace: str
    chart: str = ""
    version: str = ""
    archive: str = ""
    hooks: tuple[str, ...] = ()
    crds: tuple[str, ...] = ()
    objects: tuple[InstalledObject, ...] = ()
    ready: Readiness = Readiness()
    controller: str = ""
    values_at: str = ""
    signs: tuple[LogSign, ...] = ()
    chart_source: str = ""
    brings: tuple[str, ...] = ()
    succeeds: tuple[str, ...] = ()

    @property
    def name(self) -> ReleaseName:
        """The release, or what stands for one."""
        return ReleaseName(self.release, self.namespace)

    @property
    def key(self) -> str:
        """What tells the step from all others: resources of several kinds may have the same name."""
        if self.kind == "resource" and self.objects:
            group, kind, namespace, name = self.objects[0].identity
            return f"resource {kind}.{group} {namespace}/{name}"
        return f"{self.kind} {self.name}"

    @property
    def controller_name(self) -> ReleaseName | None:
        """The release that acts upon the resource."""
        namespace, _, name = self.controller.partition("/")
        return ReleaseName(name, namespace) if name else None


class Record(Value):
    """An installation. `sums` is the digest of the bundle's SHA256SUMS, `time` when it last changed (UTC).

    `steps` stand in the order of installation; `driver` is empty or the application's. `secrets` are `namespace/name`;
    `release` is as in `Floor`, empty in older records.
    """

    format: str
    bundle: str
    version: str
    sequence: int
    sums: str
    time: str
    namespace: str
    driver: str
    steps: tuple[InstalledStep, ...]
    secrets: tuple[str, ...]
    release: str = ""

    @property
    def floor(self) -> Floor:
        """What no bundle goes below without being told to."""
        return Floor(0, self.sequence, self.release)

    @property
    def charts(self) -> tuple[InstalledStep, ...]:
        """The releases that Helm made from here, in order."""
        return tuple(step for step in self.steps if step.kind == "chart")

    @property
    def all_charts(self) -> tuple[InstalledStep, ...]:
        """All releases in order, those that controllers make, too."""
        return tuple(step for step in self.steps if step.chart)

    @property
    def resources(self) -> tuple[InstalledStep, ...]:
        """The resources, in order."""
        return tuple(step for step in self.steps if step.kind == "resource")

    def as_object(self) -> Object:
        """The ConfigMap."""
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"{PREFIX}{self.bundle}",
                "namespace": self.namespace,
                "labels": {**MANAGED_BY, "app.kubernetes.io/component": "installation"},
            },
            "data": {KEY: json.dumps(plain(self), indent=1, sort_keys=True) + "\n"},
        }


def record(manifest: BundleManifest, sums: Digest, driver: str, wanted: Desired, time: str) -> Record:
    """The record of installing `wanted` at `time`, like `2026-01-31T00:00:00Z`."""
    return Record(
        format=FORMAT,
        bundle=manifest.name,
        version=manifest.version,
        sequence=manifest.sequence,
        sums=sums.text,
        time=time,
        namespace=wanted.home,
        driver=driver,
        steps=tuple(installed_step(step) for step in wanted.steps),
        secrets=tuple(f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in wanted.secrets),
        release=release_of(manifest),
    )


def kind_of(step: DesiredStep) -> str:
    """chart, resource or manifests."""
    return installed_step(step).kind


def installed_step(step: DesiredStep) -> InstalledStep:
    """`step` as the record keeps it."""
    if isinstance(step, ChartRelease):
        return _of_chart("chart", step)
    if isinstance(step, Manifests):
        crds = tuple(sorted(item["metadata"]["name"] for item in step.crds))
        objects = tuple(InstalledObject.of(item, step.name.namespace) for item in step.objects)
        return InstalledStep("manifests", step.name.name, step.name.namespace, crds=crds, objects=objects)
    return _of_resource(step)


def _of_resource(step: Resource) -> InstalledStep:
    found = InstalledStep("resource", step.name.name, step.name.namespace)
    if step.installs:
        found = _of_chart("resource", step.installs)
    rule = step.ready
    ready = Readiness(rule.condition or "", rule.path or "", rule.value or "", rule.matches) if rule else Readiness()
    controller = str(step.controller) if step.controller else ""
    return replace(
        found,
        objects=(InstalledObject.of(step.document),),
        ready=ready,
        controller=controller,
        values_at=step.values_at,
        signs=step.signs,
        succeeds=step.succeeds,
        chart_source=step.chart_source,
    )


def _of_chart(kind: str, release: ChartRelease) -> InstalledStep:
    chart, name, hooks = release.chart, release.name, tuple(sorted(release.hooks))
    crds = tuple(sorted({item["metadata"]["name"] for item in release.crds}))
    return InstalledStep(
        kind,
        name.name,
        name.namespace,
        chart.name,
        chart.version,
        chart.digest.text,
        hooks=hooks,
        crds=crds,
        brings=tuple(sorted(release.brings)),
    )


def keep(cluster: Cluster, new: Record) -> bool:
    """Note `new`, unless it only differs in time from what is noted; whether anything was written."""
    before = held(cluster, new.bundle, new.namespace)
    if before is not None and replace(before, time=new.time) == new:
        return False
    cluster.apply(new.as_object())
    return True


def held(cluster: Cluster, bundle: str, namespace: str) -> Record | None:
    """The record of the bundle named `bundle` in `namespace`; None if there is none. Raises ClusterError."""
    found = cluster.get(CONFIG_MAP, f"{PREFIX}{bundle}", namespace)
    return read(found) if found else None


def every(cluster: Cluster, bundle: str = "", namespace: str = "") -> list[Record]:
    """The records of all installations, or of those of the bundle named `bundle`; in `namespace`, or anywhere."""
    labels = {**MANAGED_BY, "app.kubernetes.io/component": "installation"}
    return [
        read(item)
        for item in cluster.find(CONFIG_MAP, namespace, labels=labels)
        if item["metadata"]["name"] == f"{PREFIX}{bundle}" or not bundle
    ]


def find(cluster: Cluster, bundle: str = "", namespace: str = "") -> Record:
    """The record of the bundle named `bundle`, or the only one there is; in `namespace`, or anywhere.

    Raises NothingHereError if there is none, UsageError if there are several to choose from.
    """
    found = every(cluster, bundle, namespace)
    if not found:
        what = f"no installation of {bundle}" if bundle else "no installation"
        raise NothingHereError(
            f"{what} by this program in this cluster",
            hint="check --context, or run `install`; `preflight` tells what others have made of the same.",
        )
    if len(found) > 1:
        names = ", ".join(sorted(f"{item.bundle} (namespace {item.namespace})" for item in found))
        raise UsageError(f"several installations: {names}", hint="name one of them.")
    return found[0]


def read(config_map: Object) -> Record:
    """The record in `config_map`. Raises ClusterError if it is damaged or of a newer form."""
    metadata = config_map["metadata"]
    what = f"ConfigMap {metadata['namespace']}/{metadata['name']}"
    text = (config_map.get("data") or {}).get(KEY) or ""
    return parsed(strict_json.parse(text[:MAX_RECORD].encode(), what, ClusterError), what)


def parsed(doc: Any, what: str) -> Record:
    """The record in the JSON document `doc`; `what` names it. Raises ClusterError."""
    if isinstance(doc, dict) and doc.get("format") not in (FORMAT, None):
        raise ClusterError(f"{what}: written by another version of this program", hint="use that version.")
    try:
        return typed(doc, Record)
    except ValueError as exc:
        raise ClusterError(f"{what}: damaged ({exc})", hint="run `install` again.") from exc
