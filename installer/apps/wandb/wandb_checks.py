"""What stands in the way of the platform and of no other application: rights of its operator, rivals, the licence."""

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from installer.apps.wandb.controller import CUSTOM_RESOURCE
from installer.apps.wandb.operator_rights import operator_rights
from installer.apps.wandb.site.service_values import LICENSE, LICENSE_KEY
from installer.cluster.cluster import Cluster, Object, describe, known
from installer.cluster.kinds import DEPLOYMENT, Kind
from installer.cluster.workload import ReleaseName, of_release
from installer.diagnosis.finding import Finding, warning
from installer.errors import ClusterError
from installer.objects.desired import ChartRelease, Desired, Resource

# The controllers of v1 and v2 under all names by which W&B publishes them.
_OPERATOR_IMAGE = re.compile(r"(^|/)(wandb/controller|wandb_tools/wandb-k8s-operator|wandb/operator)(:|@|$)")
_COMPACT_JWS = re.compile(r"[\w-]+(\.[\w-]+){2}", re.ASCII)


def checks(cluster: Cluster, wanted: Desired) -> Iterator[Callable[[], Iterable[Finding]]]:
    """Each look for itself, so that one that is not allowed hinders no other."""
    platform = next(step for step in wanted.resources if step.installs)
    operator = next((step for step in wanted.installed if step.name == platform.controller), None)
    if operator and platform.installs:
        made = platform.installs
        yield lambda: operator_rights(operator, made, _kinds(cluster, made))
        yield lambda: operators(cluster, platform, operator)
        yield lambda: platforms(cluster, platform.name)
    yield lambda: licence(wanted)


def _kinds(cluster: Cluster, platform: ChartRelease) -> dict[tuple[str, str], Kind]:
    """The kinds of the platform's objects that the cluster has."""
    found = {(item["apiVersion"], item["kind"]): known(cluster, item) for item in platform.objects}
    return {key: kind for key, kind in found.items() if kind}


def operators(cluster: Cluster, platform: Resource, operator: ChartRelease) -> Iterator[Finding]:
    """Another W&B operator than `operator` that would take the resource `platform` for its own.

    One under the same name is `operator`, whoever has made it.
    """
    place, home = platform.name.namespace, operator.name.namespace
    own = {item["metadata"]["name"] for item in operator.objects if item["kind"] == DEPLOYMENT.name}
    for item in cluster.find(DEPLOYMENT):
        spec = item["spec"]["template"]["spec"]
        containers = spec.get("containers") or []
        if not any(_OPERATOR_IMAGE.search(str(each.get("image"))) for each in containers):
            continue
        mine = of_release(item, operator.name) or item["metadata"]["name"] in own
        if not (mine and item["metadata"]["namespace"] == home) and _watches(containers, item, place):
            yield Finding(
                f"{describe(item)} is a W&B operator as well and watches namespace {place}",
                "two operators undo each other's work: remove that one, or confine it to other namespaces; to take it "
                "over, name its namespace as operator_namespace in site.yaml.",
                ClusterError,
            )


def platforms(cluster: Cluster, name: ReleaseName) -> Iterator[Finding]:
    """Other platforms where that of `name` is not there yet: one of them may be meant."""
    held = [item["metadata"] for item in cluster.find(CUSTOM_RESOURCE)]
    found = [ReleaseName(each["name"], each["namespace"]) for each in held]
    if found and name not in found:
        yield warning(
            f"there is no platform {name} yet, but {', '.join(map(str, found))}",
            "if it is the one to be taken over, name its namespace in site.yaml; this would be another one beside it.",
        )


def _watches(containers: Iterable[Mapping[str, Any]], item: Object, namespace: str) -> bool:
    """Whether an operator looks at `namespace`: at all of them, unless an argument or a variable confines it."""
    for container in containers:
        words = [str(word) for word in container.get("args") or []]
        words += [
            f"--isolation-namespaces={each.get('value')}"
            for each in container.get("env") or []
            if each.get("name") == "ISOLATION_NAMESPACES" and each.get("value")
        ]
        for word in words:
            flag, _, names = word.partition("=")
            if flag == "--isolation-namespaces":
                return namespace in names.split(",")
    return bool(item["spec"].get("replicas", 1))


def licence(wanted: Desired) -> Iterator[Finding]:
    """A licence that is none: W&B's server starts with it all the same, and says so to its users only.

    It is a signed token in the compact form of JWS (RFC 7515, section 7.1).
    """
    for item in wanted.secrets:
        if item["metadata"]["name"] == LICENSE:
            text = base64.b64decode(item["data"][LICENSE_KEY]).decode(errors="replace")
            if not _COMPACT_JWS.fullmatch(text):
                yield warning(
                    "license in site.yaml is no licence of W&B: that is one line, three parts with a dot between them",
                    "copy the whole of it from where W&B gives licences out, and run the same command again.",
                )
