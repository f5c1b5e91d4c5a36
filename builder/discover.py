"""Which images a chart needs: it is rendered as the cluster will see it, and every image in it is found."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from builder.charts import FetchedChart
from builder.lock import Reason
from builder.recipe import KubernetesEntry
from installer.chart.helm import parse_values
from installer.chart.images import Found, references
from installer.errors import AirferryError, RecipeError


@dataclass(frozen=True)
class Discovery:
    """Images by their full name, and text that may be an image or that only `helm test` asks for; both with places."""

    images: Mapping[str, tuple[Reason, ...]]
    suspected: Mapping[str, tuple[Reason, ...]]


@dataclass(frozen=True)
class Release:
    """A chart as it is going to be installed."""

    fetched: FetchedChart
    name: str
    namespace: str
    values: Mapping[str, Any]


def discover(release: Release, kubernetes: KubernetesEntry) -> Discovery:
    """The images of `release`, rendered both as a first installation and as an upgrade: templates may branch.

    Raises RecipeError if the chart cannot be rendered with its values, or asks for something that is no image name.
    """
    chart = release.fetched.chart
    images: dict[str, set[Reason]] = {}
    suspected: dict[str, set[Reason]] = {}
    for upgrade in (False, True):
        objects = chart.render(
            release.values,
            release=release.name,
            namespace=release.namespace,
            kube_version=kubernetes.version,
            api_versions=kubernetes.api_versions,
            upgrade=upgrade,
        )
        for found in references(objects):
            reason = _reason(chart.name, found)
            if found.certain and not found.test_only:
                images.setdefault(_full_name(found, reason), set()).add(reason)
            else:
                suspected.setdefault(found.text, set()).add(reason)
    return Discovery(_sorted(images), _sorted(suspected))


def _reason(chart: str, found: Found) -> Reason:
    return Reason(
        chart=chart,
        kind=found.kind,
        namespace=found.namespace,
        name=found.name,
        container=found.container,
        field=found.path,
        hooks=",".join(found.hooks),
    )


def _full_name(found: Found, reason: Reason) -> str:
    try:
        return str(found.reference())
    except AirferryError as exc:
        raise RecipeError(f"{reason}: {exc.message}", hint="set the image in the chart's values.") from exc


def _sorted(found: Mapping[str, set[Reason]]) -> dict[str, tuple[Reason, ...]]:
    return {name: tuple(sorted(found[name])) for name in sorted(found)}


def merged(parts: list[Mapping[str, tuple[Reason, ...]]]) -> dict[str, tuple[Reason, ...]]:
    """Several maps of reasons as one."""
    found: dict[str, set[Reason]] = {}
    for part in parts:
        for name, reasons in part.items():
            found.setdefault(name, set()).update(reasons)
    return _sorted(found)


def resource_release(raw: bytes, file_name: str) -> tuple[str, str, dict[str, Any]]:
    """Release, namespace and values that the custom resource in `raw` means: its own name, namespace and spec.values.

    Raises RecipeError.
    """
    document = parse_values(raw, file_name, RecipeError)
    metadata, spec = document.get("metadata"), document.get("spec")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    namespace = metadata.get("namespace", "default") if isinstance(metadata, dict) else None
    values = spec.get("values", {}) if isinstance(spec, dict) else None
    if not isinstance(name, str) or not isinstance(namespace, str) or not isinstance(values, dict):
        raise RecipeError(
            f"{file_name}: not a custom resource with metadata.name, spec and spec.values",
            hint="start from the one that `airferry init` writes.",
        )
    return name, namespace, values
