"""What a cluster refuses of objects that are well rendered: unknown kinds, and what is too large.

Sources of the foreign rules: Kubernetes API reference, `Secret` and ConfigMap concepts (1 MiB of data each);
k8s.io/apimachinery, pkg/api/validation/objectmeta.go (256 KiB of annotations); etcd, "System limits" (a request has at
most 1.5 MiB); helm.sh/docs, "Custom Resource Definitions": kinds in `crds/` are there before the templates are, those
that templates make are not, since Helm asks for the kinds of all objects at first.
"""

import base64
import gzip
import json
from collections.abc import Iterable, Iterator
from typing import Any

from installer.chart.helm import Object
from installer.chart.images import OWN_GROUPS
from installer.chart.parts import files_of
from installer.cluster.kinds import CUSTOM_RESOURCE_DEFINITION
from installer.objects.desired import ChartRelease, Desired, DesiredStep, Resource

MAX_DATA = 1024 * 1024
"""Bytes of data in a Secret or ConfigMap; a release of Helm is one Secret."""
MAX_ANNOTATIONS = 256 * 1024
"""Bytes of all annotations of an object, their keys among them."""
MAX_OBJECT = 1536 * 1024
"""Bytes of an object."""


def defects(wanted: Desired, version: str = "", api_versions: Iterable[str] = ()) -> Iterator[str]:
    """What a cluster of this `version` would refuse of `wanted`, for people; it serves `api_versions` beside its own.

    Without a version that is Helm's default one, which charts may refuse.
    """
    for chart in (release.chart for release in wanted.releases):
        if version and not chart.accepts(version):
            yield f"chart {chart.name} {chart.version} is for Kubernetes {chart.metadata['kubeVersion']}"
    yield from _unserved(wanted, api_versions)
    for step in wanted.parts:
        for item in step.applied:
            yield from _too_large(step, item)
    for release in wanted.releases:
        if (size := record_size(release)) > MAX_DATA:
            yield (
                f"release {release.name.name} ({release.origin}): Helm's record of it has about {size} bytes, and a "
                f"Secret at most {MAX_DATA}; take large files out of the chart, or split it"
            )


def record_size(release: ChartRelease) -> int:
    """About how many bytes Helm's record of `release` has, which it keeps in a Secret; more of one that fits anyway.

    As helm.sh/helm/v4 makes it (pkg/storage/driver/util.go, `encodeRelease`): JSON of the chart without its subcharts,
    values, manifest and hooks, compressed and as Base64.
    """
    chart = release.chart
    files = files_of(chart)
    root = min(name.partition("/")[0] for name in files)
    own = {name: data for name, data in files.items() if not name.startswith(f"{root}/charts/")}
    held = {name: base64.b64encode(data).decode() for name, data in own.items()}
    record = {"chart": held, "config": release.values, "manifest": json.dumps(release.objects)}
    text = json.dumps(record).encode()
    # Most fit as they are, and compressing takes longer than all else here.
    packed = text if len(text) * 4 // 3 < MAX_DATA else gzip.compress(text, compresslevel=9)
    return len(packed) * 4 // 3


def _too_large(step: DesiredStep, item: Object) -> Iterator[str]:
    kind, metadata = item.get("kind"), item.get("metadata") or {}
    what = f"{kind} {metadata.get('name')} ({step.origin})"
    plain, encoded = ("data", "binaryData") if kind == "ConfigMap" else ("stringData", "data")
    data = _length(item.get(plain)) + _length(item.get(encoded)) * 3 // 4
    notes = metadata.get("annotations") or {}
    if (size := _length(notes) + len("".join(notes).encode())) > MAX_ANNOTATIONS:
        yield f"{what}: {size} bytes of annotations, and an object has at most {MAX_ANNOTATIONS}"
    if kind in ("ConfigMap", "Secret") and data > MAX_DATA:
        yield f"{what}: {data} bytes of data, and such an object has at most {MAX_DATA}"
    elif (size := len(json.dumps(item))) > MAX_OBJECT:
        yield f"{what}: {size} bytes, and an object has at most {MAX_OBJECT}"


def _length(data: Any) -> int:
    return sum(len(str(value).encode()) for value in data.values()) if isinstance(data, dict) else 0


def _unserved(wanted: Desired, api_versions: Iterable[str]) -> Iterator[str]:
    """Objects of kinds that nobody has brought when they are applied."""
    known = {_api(item) for item in api_versions}
    for step in wanted.steps:
        known |= _served(step.crds)
        missing: dict[str, str] = {}
        for item in step.applied:
            version, kind = str(item.get("apiVersion", "")), str(item.get("kind"))
            group = version.rpartition("/")[0]
            if group not in OWN_GROUPS and not known & {(version, kind), (version, "*"), (f"{group}/*", "*")}:
                missing.setdefault(f"{kind} ({version})", str((item.get("metadata") or {}).get("name")))
        for what, name in missing.items():
            yield (
                f"{what} {name} ({step.origin}): nothing brings this kind before; add the chart that does as an "
                "earlier step, or name it in `kubernetes.api_versions` of the recipe if the cluster has it"
            )
        known |= _served(step.applied)
        if isinstance(step, ChartRelease):
            known |= step.brought
        if not isinstance(step, Resource):
            continue
        # What a controller installs is there when its resource is ready.
        known |= _served(step.installs.applied if step.installs else ())


def _api(text: str) -> tuple[str, str]:
    """API version and kind of `demo.example/v1/Thing`; all kinds where none is named."""
    group, _, rest = text.partition("/")
    version, _, kind = rest.partition("/")
    return f"{group}/{version}", kind or "*"


def _served(objects: Iterable[Object]) -> set[tuple[str, str]]:
    """The kinds that definitions among `objects` make, as (API version, kind)."""
    specs = [item.get("spec") or {} for item in objects if item.get("kind") == CUSTOM_RESOURCE_DEFINITION.name]
    return {
        (f"{spec.get('group')}/{version.get('name')}", str((spec.get("names") or {}).get("kind")))
        for spec in specs
        for version in spec.get("versions") or ()
        if version.get("served")
    }
