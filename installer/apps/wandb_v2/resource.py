"""The resource of operator v2: what is added to it, and how it is asked to look again."""

import base64
from collections.abc import Mapping
from typing import Any

from installer.apps.profile import Artifact, at_path, placed
from installer.apps.wandb_v2.application import LICENSED_BY
from installer.apps.wandb_v2.server_manifest import ManifestFiles
from installer.chart.retarget import merged
from installer.cluster.cluster import Cluster, Object, describe
from installer.cluster.kinds import CUSTOM_RESOURCE_DEFINITION, SECRET, VOLUME_CLAIM, Kind
from installer.cluster.workload import ReleaseName
from installer.errors import ClusterError, ClusterForbiddenError
from installer.objects.maker import Maker

KIND = "WeightsAndBiases"
RESOURCE = Kind("apps.wandb.com", "v2", KIND, "weightsandbiases")
ASKED_AGAIN = "airferry/asked-again"


def places(maker: Maker, artifact: Artifact, files: ManifestFiles | None) -> Mapping[str, Any]:
    """Fields of the resource: the operator puts the prefix before every name in the manifest, as it stands there."""
    relocation, pull_secret = maker.relocation, maker.site.answers.registry.pull_secret_name
    # Nodes that know the registry as a mirror are asked for upstream names; the operator itself uses no mirror.
    prefix = {} if relocation.names_stay else {"imageRegistry": relocation.prefix.removesuffix("/")}
    secrets = {"imagePullSecrets": [{"name": pull_secret}]} if pull_secret else {}
    place = files.place if files else f"oci://{relocation.repository(artifact.repository)}"
    return {"spec": {"global": {**prefix, **secrets}, "wandb": {"manifestRepository": place}}}


def held(cluster: Cluster, name: ReleaseName) -> Object | None:
    """The resource as the cluster has it."""
    return cluster.get(RESOURCE, name.name, name.namespace)


def licensed(cluster: Cluster, document: Object) -> Object:
    """`document` with the licence, which stands in a Secret until then. Raises ClusterError if that is gone."""
    place = str((document["metadata"].get("annotations") or {}).get(LICENSED_BY) or "")
    if not place:
        return document
    name, _, key = place.partition("/")
    namespace = document["metadata"]["namespace"]
    data = (cluster.get(SECRET, name, namespace) or {}).get("data") or {}
    if key not in data:
        raise ClusterError(
            f"Secret {namespace}/{name} has no {key}, the licence", hint="answer `license` in site.yaml."
        )
    text = base64.b64decode(data[key]).decode(errors="replace").strip()
    cluster.hide([text])
    return merged(document, placed("spec.wandb.license", text))


def in_words_of(cluster: Cluster, document: Object) -> Object:
    """`document` with references to Secrets as the operator in the cluster spells them.

    Newer ones say `valueFrom` where older ones have the reference itself; the definition of the kind tells.
    """
    try:
        definition = cluster.get(CUSTOM_RESOURCE_DEFINITION, str(RESOURCE)) or {}
    except ClusterForbiddenError:
        return document
    for version in (definition.get("spec") or {}).get("versions") or []:
        if version.get("name") == RESOURCE.version:
            schema = at_path(version, "schema.openAPIV3Schema.properties.spec") or {}
            return {**document, "spec": _spelt(document["spec"], schema)}
    return document


def _spelt(node: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_spelt(item, schema.get("items") or {}) for item in node]
    if not isinstance(node, Mapping):
        return node
    known = schema.get("properties") or {}
    if node.keys() == {"name", "key"} and "valueFrom" in known:
        return {"valueFrom": {"secretKeyRef": dict(node)}}
    others = schema.get("additionalProperties")
    fallback = others if isinstance(others, Mapping) else {}
    return {key: _spelt(value, known.get(key) or fallback) for key, value in node.items()}


def purge(cluster: Cluster, resource: Object) -> None:
    """Have the services go with the resource, data and all."""
    name, namespace = resource["metadata"]["name"], resource["metadata"]["namespace"]
    change: dict[str, Any] = {"retentionPolicy": {"onDelete": "purge"}}
    for service, managed in (resource.get("spec") or {}).items():
        instances = managed if service in ("mysql", "redis", "objectStore", "clickhouse") else {}
        for instance, kinds in instances.items():
            for kind, said in kinds.items():
                if isinstance(said, Mapping) and "retentionPolicy" in said:
                    change = merged(change, placed(f"{service}.{instance}.{kind}.retentionPolicy.onDelete", "purge"))
    cluster.merge(RESOURCE, name, namespace, {"spec": change})


def remove_claims(cluster: Cluster, name: ReleaseName) -> list[str]:
    """Delete the volume claims of Kafka's etcd, which `purge` overlooks: it looks for labels that they do not bear."""
    labels = {"app.kubernetes.io/name": f"{name.name}-kafka-etcd"}
    claims = cluster.find(VOLUME_CLAIM, name.namespace, labels=labels)
    return [describe(item) for item in claims if cluster.delete(VOLUME_CLAIM, item["metadata"]["name"], name.namespace)]


def wake(cluster: Cluster, resource: Object) -> None:
    """Have the operator look at the resource again: after failures it does so ever more seldom, up to 16 minutes."""
    metadata = resource["metadata"]
    change = {"metadata": {"annotations": {ASKED_AGAIN: metadata["resourceVersion"]}}}
    cluster.merge(RESOURCE, metadata["name"], metadata["namespace"], change)
