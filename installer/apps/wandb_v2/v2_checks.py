"""What stands in the way of the platform with operator v2 and of no other application."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from installer.apps.profile import at_path
from installer.apps.wandb_v2 import from_v1
from installer.apps.wandb_v2.resource import KIND, RESOURCE, held
from installer.cluster.cluster import Cluster, Object, describe
from installer.cluster.kinds import CUSTOM_RESOURCE_DEFINITION, DEPLOYMENT, STORAGE_CLASS, is_default_class
from installer.cluster.workload import ReleaseName, of_release
from installer.diagnosis.finding import Finding, warning
from installer.errors import ClusterError, SiteError, UsageError
from installer.objects.desired import ChartRelease, Desired, Resource

_COMPONENTS = {
    "moco": ("mysqlclusters.moco.cybozu.com", "mysql.default.externalMysql", "mysql"),
    "redis-operator": ("redis.redis.redis.opstreelabs.in", "redis.default.externalRedis", "redis"),
    "seaweedfs-operator": ("seaweeds.seaweed.seaweedfs.com", "objectStore.default.externalObjectStore", "bucket"),
    "altinity-clickhouse-operator": (
        "clickhouseinstallations.clickhouse.altinity.com",
        "clickhouse.default.externalClickhouse",
        "clickhouse",
    ),
}
"""The operators of services that the operator's chart brings, by the key that switches each on: a kind of it, the field
of the resource that makes it superfluous, and the answer for that."""
_CRD_INSTALLER = "wandb-crd-installer"
_OPERATOR_IMAGE = re.compile(r"(^|/)wandb/operator(:|@|$)")
_NUMBERS = re.compile(r"\d+")


def checks(cluster: Cluster, wanted: Desired) -> Iterator[Callable[[], Iterable[Finding]]]:
    """Each look for itself, so that one that is not allowed hinders no other."""
    platform = next(step for step in wanted.resources if step.document["kind"] == KIND)
    operator = next((step for step in wanted.installed if step.name == platform.controller), None)
    yield lambda: from_v1.findings(cluster, platform)
    yield lambda: others(cluster, platform)
    yield lambda: storage(cluster)
    yield lambda: downgrade(cluster, platform)
    if operator:
        yield lambda: components(cluster, operator, platform)
        yield lambda: operators(cluster, operator)


def others(cluster: Cluster, platform: Resource) -> Iterator[Finding]:
    """Another platform in the namespace: both would make objects of the same names."""
    for item in cluster.find(RESOURCE, platform.name.namespace):
        if item["metadata"]["name"] != platform.name.name:
            yield Finding(
                f"{describe(item)} is a platform in the same namespace, and the operator calls the parts of both alike",
                "install this one into another namespace (`namespace` in site.yaml), or remove that one.",
                UsageError,
            )


def operators(cluster: Cluster, operator: ChartRelease) -> Iterator[Finding]:
    """Another operator v2 than `operator`: each looks at all namespaces."""
    for item in cluster.find(DEPLOYMENT):
        containers = item["spec"]["template"]["spec"].get("containers") or []
        if not any(_OPERATOR_IMAGE.search(str(each.get("image"))) for each in containers):
            continue
        if not (of_release(item, operator.name) and item["metadata"]["namespace"] == operator.name.namespace):
            yield Finding(
                f"{describe(item)} is an operator of W&B as well, and looks at all namespaces",
                "two operators undo each other's work: remove that one, or take it over (`operator_namespace` and the "
                "name of its release).",
                ClusterError,
            )


def components(cluster: Cluster, operator: ChartRelease, platform: Resource) -> Iterator[Finding]:
    """Operators of services that the cluster has already, since a second one of a kind takes the first one's objects;
    and such as nobody has and the platform needs: it could not even be deleted then."""
    values = operator.chart.coalesced(operator.values)
    for key, (name, external, answer) in _COMPONENTS.items():
        definition = cluster.get(CUSTOM_RESOURCE_DEFINITION, name)
        brought = at_path(values, f"{key}.enabled") is not False
        if brought and definition and not _ours(definition, operator.name):
            yield Finding(
                f"this cluster has {name} from somebody else, whose operator looks at all namespaces",
                f"leave the bundle's out, since the platform works with that one: `operator_values: {{{key}: "
                "{enabled: false}}` in site.yaml.",
                SiteError,
            )
        elif not brought and not definition and at_path(platform.document, f"spec.{external}") is None:
            yield Finding(
                f"nobody brings {name}, by which the operator would run this service",
                f"name a server of the site ({answer} in site.yaml), or leave {key} on.",
                SiteError,
            )


def storage(cluster: Cluster) -> Iterator[Finding]:
    """No default storage class: Kafka's etcd claims volumes even where all data is outside."""
    if not any(map(is_default_class, cluster.find(STORAGE_CLASS))):
        yield warning(
            "this cluster has no default storage class, and the operator names none in its claims, Kafka's at least",
            "have a storage class made the default, or volumes made for these claims.",
        )


def downgrade(cluster: Cluster, platform: Resource) -> Iterator[Finding]:
    """A version that the database has been migrated past."""
    for text in migrated_past(cluster, platform.document):
        yield Finding(
            f"going back is not possible: {text}",
            "restore the database as it was, in a new place, and install there; or stay with the newer version.",
            UsageError,
        )


def migrated_past(cluster: Cluster, document: Object) -> list[str]:
    """Why the platform cannot become what `document` says any more; migrations of the database are not undone."""
    name = ReleaseName(document["metadata"]["name"], document["metadata"]["namespace"])
    there = held(cluster, name) or {}
    reached = str(at_path(there, "status.wandb.migration.lastSuccessVersion") or "")
    wanted = str(at_path(document, "spec.wandb.version") or "")
    if not reached or _order(wanted) >= _order(reached):
        return []
    return [f"the database is that of {reached}, which {wanted} does not know"]


def _order(version: str) -> tuple[Any, ...]:
    """For comparing versions such as `0.84.0` and `0.85.1-rc`: a release is above what leads to it."""
    plain, _, rest = version.partition("-")
    return tuple(map(int, _NUMBERS.findall(plain))), not rest, tuple(map(int, _NUMBERS.findall(rest)))


def _ours(definition: Object, operator: ReleaseName) -> bool:
    managers = {entry.get("manager") for entry in definition["metadata"].get("managedFields") or []}
    return _CRD_INSTALLER in managers or of_release(definition, operator)
