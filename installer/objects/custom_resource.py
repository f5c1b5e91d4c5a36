"""The custom resource, made from its template: pure, so that it can be shown and compared before it is applied.

It is given to the API server as JSON: what the operator's YAML reader would take for a boolean (`y`, `on`) stays text.
"""

import copy
from collections.abc import Mapping
from typing import Any

from installer.cluster.cluster import Object
from installer.cluster.controller import CUSTOM_RESOURCE
from installer.errors import BundleError, SiteError
from installer.site.answer_types import nulls


def template_values(template: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The chart values in the template document `name`. Raises BundleError if it is no custom resource's template."""
    spec = template.get("spec")
    values = (spec if isinstance(spec, Mapping) else {}).get("values") or {}
    if (template.get("apiVersion"), template.get("kind")) != (CUSTOM_RESOURCE.api_version, CUSTOM_RESOURCE.name):
        raise BundleError(f"{name}: not a {CUSTOM_RESOURCE.name} of {CUSTOM_RESOURCE.api_version}")
    if not isinstance(spec, Mapping) or not isinstance(values, Mapping):
        raise BundleError(f"{name}: spec.values is not a mapping")
    return copy.deepcopy(dict(values))


def custom_resource(
    template: Mapping[str, Any], *, name: str, namespace: str, values: Mapping[str, Any], chart: Mapping[str, Any]
) -> Object:
    """The custom resource that makes the operator install the chart from the source `chart` with `values`.

    `name` is the name of the Helm release as well. Raises SiteError for values that the operator cannot merge.
    """
    for path in nulls(values):
        # The operator merges values by type, and ends in a panic on null.
        raise SiteError(f"value {path} is null, which the operator cannot handle", hint="give it a value or remove it.")
    metadata = template.get("metadata") or {}
    labels = {**(metadata.get("labels") or {}), "app.kubernetes.io/instance": name}
    spec = {key: value for key, value in template["spec"].items() if key not in ("chart", "values")}
    result: Object = {
        "apiVersion": CUSTOM_RESOURCE.api_version,
        "kind": CUSTOM_RESOURCE.name,
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        # Nothing of the template's own source: any other key could make the operator take another one.
        "spec": {**copy.deepcopy(spec), "chart": dict(chart), "values": copy.deepcopy(dict(values))},
    }
    if metadata.get("annotations"):
        result["metadata"]["annotations"] = dict(metadata["annotations"])
    return result


def with_chart(resource: Object, chart: Mapping[str, Any]) -> Object:
    """`resource` with the chart from another source."""
    return {**resource, "spec": {**resource["spec"], "chart": dict(chart)}}
