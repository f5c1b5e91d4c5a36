"""The platform chart inside the cluster: a ConfigMap that the W&B operator's pod mounts at /charts.

The operator reads its chart again on every later change, so the chart must live as long as the release does. A
ConfigMap needs no server and no registry. Its keys carry the chart's version and digest, because the operator does
not notice that the content under an unchanged path is another one.

Sources: chart `operator`, templates/deployment.yaml (volume `wandb-charts`, mounted when `airgapped`); Kubernetes,
pkg/apis/core/validation (`ValidateConfigMap`: values of 1 MiB in total).
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from installer.chart.archive import packed, unpacked
from installer.chart.helm import Chart
from installer.errors import BundleError, ClusterError, SiteError

CONFIG_MAP_NAME = "wandb-charts"
MOUNT = "/charts"
MAX_CONFIG_MAP = 1024 * 1024
# Packed again from this size on: the chart before, for a rollback, and the one after shall have room beside it.
AMPLE = MAX_CONFIG_MAP // 3
_LABELS = {"app.kubernetes.io/managed-by": "airferry"}
# What no template reads.
_DOCUMENTATION_FOLDERS = frozenset({"docs", "examples", "ci", "tests"})


@dataclass(frozen=True, slots=True)
class ChartFile:
    """A chart as a key of the ConfigMap; `archive` is a tgz that fits."""

    key: str
    archive: bytes = field(repr=False)

    @property
    def path(self) -> str:
        """Where the operator finds it: the custom resource's `spec.chart.path`."""
        return f"{MOUNT}/{self.key}"


def chart_file(chart: Chart) -> ChartFile:
    """`chart` in a form that a ConfigMap can hold: as it is, or else packed again without documentation.

    Raises SiteError if even that is too large, BundleError if the archive cannot be read.
    """
    # A key may hold letters, digits and `-._`; a version may hold a plus sign.
    key = f"{chart.name}-{chart.version.replace('+', '_')}-{chart.digest.hex[:12]}.tgz"
    archive = chart.archive
    if len(archive) > AMPLE:
        archive = min(archive, repacked(archive), key=len)
    if len(archive) > MAX_CONFIG_MAP:
        raise SiteError(
            f"chart {chart.name} {chart.version}: {len(archive)} bytes even without documentation; "
            f"a ConfigMap holds {MAX_CONFIG_MAP}",
            hint="choose another --chart-source, or leave unused subcharts out of the chart.",
        )
    return ChartFile(key, archive)


def repacked(archive: bytes) -> bytes:
    """The chart archive without its documentation and without packed copies of unpacked subcharts.

    The same input gives the same output. Raises BundleError.
    """
    files = unpacked(archive, "the platform chart", BundleError)
    roots = {name.removesuffix("Chart.yaml") for name in files if name.endswith("/Chart.yaml")}
    kept = {name: data for name, data in files.items() if not _dispensable(name, data, roots, files)}
    return packed(kept, level=9)


def config_map(file: ChartFile, namespace: str, current: Mapping[str, Any] | None, in_use: str = "") -> dict[str, Any]:
    """The ConfigMap to apply in the operator's namespace.

    Charts of `current`, the ConfigMap there is, stay while there is room, first of all the one at the path `in_use`:
    the custom resource names it until it is changed, and a rollback needs it again. One that others have made stays
    theirs. Raises ClusterError if what others keep there leaves no room.
    """
    data = dict((current or {}).get("binaryData") or {})
    data[file.key] = base64.b64encode(file.archive).decode()
    # What others put there as text is not ours to touch, but takes room.
    texts = ((current or {}).get("data") or {}).values()
    room = MAX_CONFIG_MAP - len(file.archive) - sum(len(text.encode()) for text in texts)
    if room < 0:
        raise ClusterError(
            f"ConfigMap {namespace}/{CONFIG_MAP_NAME}: what others keep there leaves no room for {file.key}",
            hint="remove it, or choose another --chart-source.",
        )
    kept = {file.key: data[file.key]}
    for key in sorted(data, key=lambda key: (f"{MOUNT}/{key}" != in_use, key)):
        size = len(base64.b64decode(data[key]))
        if key != file.key and size <= room:
            kept[key] = data[key]
            room -= size
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": CONFIG_MAP_NAME,
            "namespace": namespace,
            "labels": dict(_LABELS) if current is None or is_ours(current) else {},
        },
        "binaryData": dict(sorted(kept.items())),
    }


def is_ours(config_map: Mapping[str, Any]) -> bool:
    """Whether `config_map` was made here."""
    return _LABELS.items() <= (config_map["metadata"].get("labels") or {}).items()


def without_charts(namespace: str) -> dict[str, Any]:
    """The ConfigMap to apply, in place of what `config_map` gave, so that it holds nothing of ours any more."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG_MAP_NAME, "namespace": namespace}}


def _dispensable(name: str, data: bytes, roots: set[str], files: Mapping[str, bytes]) -> bool:
    root = max((root for root in roots if name.startswith(root)), key=len, default="")
    first, _, rest = name.removeprefix(root).partition("/")
    if not rest:
        return first.lower().endswith(".md")
    if first == "charts" and rest.endswith(".tgz"):
        return _unpacked_too(data, f"{root}charts/", files)
    return first in _DOCUMENTATION_FOLDERS


def _unpacked_too(archive: bytes, folder: str, files: Mapping[str, bytes]) -> bool:
    """Whether the packed subchart stands unpacked in `folder` as well, with the same Chart.yaml."""
    inner = unpacked(archive, "a subchart", BundleError)
    return any(
        name.count("/") == 1 and name.endswith("/Chart.yaml") and files.get(folder + name) == data
        for name, data in inner.items()
    )
