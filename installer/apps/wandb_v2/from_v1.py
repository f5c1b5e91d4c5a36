"""From operator v1 to v2: what stands of v1, and how it makes room without the platform standing still.

With the definitions of v2, the API server has the new operator convert every resource of v1, at each look. That needs
the server manifest of the version that the controller of v1 last applied, at a place that its values lead to; it makes
external services of passwords that stand in annotations in clear meanwhile; and whatever is written through v1 after
that makes the resource anew. So v1 is prepared while its definitions still count: its controller goes, and what it has
noted of its values becomes so little that nothing is fetched, converted or lost. Until it is applied in the words of
v2, the resource has no version then, and the new operator leaves it alone. The pods of the platform go on all the time;
the release that the controller of v1 has made goes once those of v2 are ready.

Source: github.com/wandb/operator, api/v1 (conversion) and internal/controller/reconciler (`migrateLegacyAnnotations`,
`cleanupLegacyV1Deployments`).
"""

import base64
import json
from collections.abc import Iterable, Iterator

from installer.apps.profile import at_path
from installer.apps.wandb_v2.resource import KIND, RESOURCE
from installer.cluster.cluster import Cluster, Object, describe
from installer.cluster.kinds import CUSTOM_RESOURCE_DEFINITION, DEPLOYMENT, POD, SECRET, Kind
from installer.cluster.release_record import release_status
from installer.cluster.workload import ReleaseName, workloads
from installer.diagnosis.finding import Finding, warning
from installer.diagnosis.wait import AGAIN
from installer.errors import ClusterError, NotReadyError, UsageError
from installer.objects.desired import Resource
from installer.workflows import history, record
from installer.workflows.actions import Actions
from installer.workflows.record import InstalledStep, Record

DRIVER = "wandb"
"""That of the installations that this makes room for."""
FORMER = Kind(RESOURCE.group, "v1", KIND, RESOURCE.plural)
FINALIZER = "finalizer.app.wandb.com"
LEGACY = "legacy.operator.wandb.com/"
_ACTIVE = "-spec-active"
_KEPT = "values-before"
"""The key under which the controller's note keeps what it said before."""
HOOK_SECONDS = 120


def predecessor(cluster: Cluster, name: ReleaseName) -> Record | None:
    """The installation of v1 that has made the resource `name`; None if none of ours has.

    What is about to be stands in the record already, and what was before in the history alone.
    """
    for item in record.every(cluster):
        known = [item, *(each.record for each in reversed(history.read(cluster, item).revisions) if each.finished)]
        for found in known:
            if found.driver == DRIVER and any(step.name == name for step in found.resources):
                return found
    return None


def findings(cluster: Cluster, platform: Resource) -> Iterator[Finding]:
    """What stands in the way of the move, and what it brings along."""
    definition = cluster.get(CUSTOM_RESOURCE_DEFINITION, str(RESOURCE))
    if definition is None or converts(definition):
        return
    ours = None
    for item in cluster.find(FORMER):
        metadata = item["metadata"]
        if ReleaseName(metadata["name"], metadata["namespace"]) == platform.name:
            ours = item
            continue
        yield Finding(
            f"{describe(item)} is a platform of operator v1, and the definitions of v2 would change it as well",
            "there is one operator for the whole cluster: move that platform to another cluster, or remove it.",
            UsageError,
        )
    if ours is None:
        return
    before = predecessor(cluster, platform.name)
    if before is None:
        yield Finding(
            f"{describe(ours)} is a platform of operator v1 that was not installed from here",
            "take it over with the bundle of its version first (`install --take-over`), then run `upgrade` with this "
            "one.",
            UsageError,
        )
        return
    yield from _data_inside(cluster, before)
    yield warning(
        "this moves the platform to operator v2: Kafka (with its own etcd, which claims three volumes) is new"
        + "".join(f", {name} is" for name in _new(platform)),
        "its pods run beside those of v1 until all are ready; the move cannot be taken back once the definitions of v2 "
        "are there.",
    )


def _new(platform: Resource) -> Iterator[str]:
    if at_path(platform.document, "spec.clickhouse.default.externalClickhouse") is None:
        yield "ClickHouse with its Keeper"


def _data_inside(cluster: Cluster, before: Record) -> Iterator[Finding]:
    """Databases that the chart of v1 runs: nobody moves what is in them."""
    for step in before.resources:
        for item in workloads(cluster, step.name):
            service = item.name.removeprefix(f"{step.release}-")
            if item.kind.name == "StatefulSet" and service in ("mysql", "minio"):
                yield Finding(
                    f"{item} holds data of the platform, and goes with operator v1",
                    "move the data to a server of the site while v1 runs (mysqldump; mc mirror), name it in site.yaml "
                    "and run `install` with the bundle of v1; then come back.",
                    ClusterError,
                )


def converts(definition: Object) -> bool:
    """Whether the definition is that of v2."""
    return bool((definition["spec"].get("conversion") or {}).get("strategy") == "Webhook")


def is_converted(resource: Object | None) -> bool:
    """Whether `resource`, read as v2, was of v1 and still is as its conversion makes it: nobody has set its fields."""
    return any(key.startswith(LEGACY) for key in ((resource or {}).get("metadata") or {}).get("annotations") or {})


def make_room(actions: Actions, platform: Resource) -> None:
    """Prepare what v1 has left for the definitions of v2; nothing where there is none, or where it is done."""
    cluster, name = actions.cluster, platform.name
    definition = cluster.get(CUSTOM_RESOURCE_DEFINITION, str(RESOURCE))
    if definition is None or converts(definition):
        return
    held = cluster.get(FORMER, name.name, name.namespace)
    before = predecessor(cluster, platform.name)
    if held is None or before is None:
        return
    _end_controller(actions, before.resources)
    _lighten(actions, held, str(at_path(platform.document, "spec.wandb.hostname") or ""))
    finalizers = [item for item in held["metadata"].get("finalizers") or [] if item != FINALIZER]
    # Who has applied it as v1 must not own fields of v1 any more: they would be taken out through a conversion.
    cluster.merge(FORMER, name.name, name.namespace, {"metadata": {"finalizers": finalizers, "managedFields": [{}]}})
    actions.note(f"{describe(held)} (prepared for operator v2)")


def _end_controller(actions: Actions, steps: Iterable[InstalledStep]) -> None:
    """Delete the Deployments of the controllers of v1, and see their pods gone. `install` of v1 restores them."""
    cluster, patience = actions.cluster, actions.patience
    for step in steps:
        operator = step.controller_name
        parts = workloads(cluster, operator) if operator else []
        for part in (item for item in parts if item.kind == DEPLOYMENT):
            if cluster.delete(DEPLOYMENT, part.name, part.namespace):
                actions.note(f"{part} (removed)")
            while pods := _pods(cluster, part.obj):
                patience.state(f"{part}: waits for the end of {describe(pods[0])}")
                if patience.over():
                    raise NotReadyError(f"{part} does not end in time", hint=AGAIN)
                patience.rest()


def _lighten(actions: Actions, held: Object, host: str) -> None:
    """Make the note of the controller say no more than the address: this is what a conversion reads."""
    metadata = held["metadata"]
    name, namespace = f"{metadata['name']}{_ACTIVE}", metadata["namespace"]
    noted = (actions.cluster.get(SECRET, name, namespace) or {}).get("data") or {}
    values = base64.b64encode(json.dumps({"global": {"host": host}}).encode()).decode()
    if noted.get("values") == values:
        return
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}}
    data = {**noted, "values": values, **({_KEPT: noted["values"]} if noted.get("values") else {})}
    actions.cluster.apply({**secret, "data": data}, force=True)


def finish(actions: Actions, platform: ReleaseName) -> bool:
    """Remove what v1 has left of a platform that is ready as v2: finalizer, annotations, and its release; whether
    there was one."""
    cluster = actions.cluster
    held = cluster.get(RESOURCE, platform.name, platform.namespace)
    if held is None:
        return False
    metadata = held["metadata"]
    finalizers = metadata.get("finalizers") or []
    gone = {key: None for key in metadata.get("annotations") or {} if key.startswith(LEGACY)}
    change: Object = {"annotations": gone} if gone else {}
    if FINALIZER in finalizers:
        change["finalizers"] = [item for item in finalizers if item != FINALIZER]
    if change:
        cluster.merge(RESOURCE, platform.name, platform.namespace, {"metadata": change})
    before = release_status(cluster, platform.name, platform.namespace)
    if before:
        step = InstalledStep("resource", platform.name, platform.namespace, chart="operator-wandb")
        actions.keep_volumes([step], ())
        actions.patience.reporter.note(f"release {platform}: made by operator v1; removing it")
        actions.uninstall(step, seconds=HOOK_SECONDS)
        actions.note(f"release {platform} (removed)")
    if cluster.delete(SECRET, f"{platform.name}{_ACTIVE}", platform.namespace):
        actions.note(f"Secret {platform.namespace}/{platform.name}{_ACTIVE} (removed)")
    return bool(before)


def _pods(cluster: Cluster, deployment: Object) -> list[Object]:
    labels = deployment["spec"]["selector"].get("matchLabels") or {}
    return cluster.find(POD, deployment["metadata"]["namespace"], labels=labels)
