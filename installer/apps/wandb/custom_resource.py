"""The custom resource, made from its template: pure, so that it can be shown and compared before it is applied.

It is given to the API server as JSON: what the operator's YAML reader would take for a boolean (`y`, `on`) stays text.
"""

import copy
from collections.abc import Mapping
from typing import Any

from installer.apps.wandb.controller import CUSTOM_RESOURCE
from installer.apps.wandb.site.platform_answer_types import nulls
from installer.cluster.cluster import Object, describe
from installer.errors import BundleError, SiteError


def custom_resource(made: Object, *, values: Mapping[str, Any], chart: Mapping[str, Any]) -> Object:
    """The custom resource that makes the operator install the chart from the source `chart` with `values`.

    `made` is its template with the name of the Helm release and its namespace. Raises BundleError if it is none of
    ours, SiteError for values that the operator cannot merge.
    """
    if (made.get("apiVersion"), made.get("kind")) != (CUSTOM_RESOURCE.api_version, CUSTOM_RESOURCE.name):
        raise BundleError(f"{describe(made)}: not a {CUSTOM_RESOURCE.name} of {CUSTOM_RESOURCE.api_version}")
    for path in nulls(values):
        # The operator merges values by type, and ends in a panic on null.
        raise SiteError(f"value {path} is null, which the operator cannot handle", hint="give it a value or remove it.")
    metadata = made["metadata"]
    labels = {**(metadata.get("labels") or {}), "app.kubernetes.io/instance": metadata["name"]}
    spec = {key: value for key, value in (made.get("spec") or {}).items() if key not in ("chart", "values")}
    kept = {key: metadata[key] for key in ("name", "namespace", "annotations") if metadata.get(key)}
    return {
        "apiVersion": CUSTOM_RESOURCE.api_version,
        "kind": CUSTOM_RESOURCE.name,
        "metadata": {**kept, "labels": labels},
        # Nothing of the template's own source: any other key could make the operator take another one.
        "spec": {**copy.deepcopy(spec), "chart": dict(chart), "values": copy.deepcopy(dict(values))},
    }


def with_chart(resource: Object, chart: Mapping[str, Any]) -> Object:
    """`resource` with the chart from another source."""
    return {**resource, "spec": {**resource["spec"], "chart": dict(chart)}}
