"""What an installation was, noted in the cluster itself so that `status` and `uninstall` work from any host.

One ConfigMap `airferry-NAME` per bundle name, in the operator's namespace. It holds names, versions and digests, and
no values: values may be confidential.
"""

import json
from typing import Any

from installer import strict_json
from installer.bundle.manifest import BundleManifest
from installer.cluster.kube import CONFIG_MAP, Cluster, Object
from installer.cluster.workload import ReleaseName
from installer.errors import ClusterError, NothingHereError, UsageError
from installer.objects.desired import MANAGED_BY, ChartRelease, Desired
from installer.oci.digest import Digest
from installer.value import Value, plain, replace

FORMAT = "airferry-installation/1"
KEY = "installation.json"
PREFIX = "airferry-"
MAX_RECORD = 256 * 1024


class InstalledChart(Value):
    """A chart and the Helm release it became.

    `hooks` are the names of the Jobs that Helm runs for it, `crds` those of the CustomResourceDefinitions it brought.
    """

    chart: str
    version: str
    archive: str
    release: str
    namespace: str
    hooks: tuple[str, ...]
    crds: tuple[str, ...] = ()

    @property
    def name(self) -> ReleaseName:
        """The release."""
        return ReleaseName(self.release, self.namespace)


class Record(Value):
    """An installation. `sums` is the digest of the bundle's SHA256SUMS, `time` when it last changed (UTC).

    `charts` are those that Helm installed from the installer, in order; `operator` is one of them. `platform` is the
    chart that the operator installs, and its release bears the name of the custom resource; `chart_source` says where
    the operator reads it. `secrets` are `namespace/name`.
    """

    format: str
    bundle: str
    version: str
    sequence: int
    sums: str
    time: str
    namespace: str
    charts: tuple[InstalledChart, ...]
    operator: InstalledChart | None
    platform: InstalledChart | None
    chart_source: str
    secrets: tuple[str, ...]

    @property
    def all_charts(self) -> tuple[InstalledChart, ...]:
        """All charts in the order of installation; the operator's and then the platform's come last."""
        return (*self.charts, *((self.platform,) if self.platform else ()))

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


def record(manifest: BundleManifest, sums: Digest, wanted: Desired, time: str) -> Record:
    """The record of installing `wanted` at `time`, like `2026-01-31T00:00:00Z`."""

    def installed(release: ChartRelease) -> InstalledChart:
        chart, name, hooks = release.chart, release.name, tuple(sorted(release.hooks))
        crds = tuple(sorted({item["metadata"]["name"] for item in release.crds}))
        return InstalledChart(chart.name, chart.version, chart.digest.text, name.name, name.namespace, hooks, crds)

    return Record(
        format=FORMAT,
        bundle=manifest.name,
        version=manifest.version,
        sequence=manifest.sequence,
        sums=sums.text,
        time=time,
        namespace=wanted.home,
        charts=tuple(installed(release) for release in wanted.installed),
        operator=installed(wanted.operator) if wanted.operator else None,
        platform=installed(wanted.platform) if wanted.platform else None,
        chart_source=wanted.source.final.kind if wanted.source else "",
        secrets=tuple(f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in wanted.secrets),
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


def find(cluster: Cluster, bundle: str = "", namespace: str = "") -> Record:
    """The record of the bundle named `bundle`, or the only one there is; in `namespace`, or anywhere.

    Raises NothingHereError if there is none, UsageError if there are several to choose from.
    """
    labels = {**MANAGED_BY, "app.kubernetes.io/component": "installation"}
    found = [
        read(item)
        for item in cluster.find(CONFIG_MAP, namespace, labels=labels)
        if item["metadata"]["name"] == f"{PREFIX}{bundle}" or not bundle
    ]
    if not found:
        what = f"no installation of {bundle}" if bundle else "no installation"
        raise NothingHereError(f"{what} in this cluster", hint="check --context, or run `install`.")
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
    try:
        if doc["format"] != FORMAT:
            raise ClusterError(f"{what}: written by another version of this program", hint="use that version.")
        charts = tuple(_chart(chart) for chart in doc.pop("charts"))
        operator, platform = (_chart(each) if (each := doc.pop(key)) else None for key in ("operator", "platform"))
        secrets = tuple(doc.pop("secrets"))
        return Record(**doc, charts=charts, operator=operator, platform=platform, secrets=secrets)
    except (KeyError, TypeError, AttributeError) as exc:
        raise ClusterError(f"{what}: damaged ({type(exc).__name__})", hint="run `install` again.") from exc


def _chart(doc: dict[str, Any]) -> InstalledChart:
    return InstalledChart(**{**doc, "hooks": tuple(doc["hooks"]), "crds": tuple(doc["crds"])})
