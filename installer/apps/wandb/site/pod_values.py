"""Answers about pods as values of the two W&B charts.

Most parts of the platform are made of W&B's own base chart, and hear of labels, annotations, nodes and priority by
`global`. All others have keys of their own, and what confines a pod has no global key at all.

Sources: values.yaml and templates of github.com/wandb/helm-charts, charts `operator` 1.4.8 and `operator-wandb` 0.41.4
and 0.43.8 with the subcharts inside; for Prometheus those of github.com/prometheus-community/helm-charts; and
"Pod Security Standards" of Kubernetes for what `restricted` asks for.
"""

from collections.abc import Iterator
from typing import Any

from installer.apps.profile import placed
from installer.apps.wandb.site.answers import Answers
from installer.chart.retarget import merged

_OPERATOR = "operator"
# The parts that are made of W&B's base chart, Jobs and hooks among them.
_BASE = (
    "anaconda2",
    "api",
    "app",
    "appRenamePostHook",
    "appRenamePreHook",
    "clickhouseMigrationJob",
    "console",
    "executor",
    "filemeta",
    "filestream",
    "flat-run-fields-updater",
    "frontend",
    "glue",
    "history-updater",
    "internalSignerPreHook",
    "lumen-agent",
    "mcp-server",
    "metric-observer",
    "nginx",
    "parquet",
    "parquet-metadata-cache",
    "settingsMigrationJob",
    "weave",
    "weave-evaluate-model-worker",
    "weave-trace",
    "weave-trace-agent-scoring-worker",
    "weave-trace-worker",
)
_PROMETHEUS, _RELOADER = "prometheus.instance.server", "reloader.reloader.deployment"
# Of the others, those that are told by keys of Bitnami's and the community's charts: where these keys stand.
_USUAL = (
    "clickhouse",
    "clickhouse.keeper",
    "etcd",
    "kafka.broker",
    "kafka.controller",
    _PROMETHEUS,
    "redis.master",
)
# Where nodes and priority are chosen. The charts of the exporters for two clouds, `yace` and `stackdriver`, have no
# value for nodes, that of Bufstream has neither.
_PLACED = (*_USUAL, _RELOADER)
_LABELS = (*(f"{path}.podLabels" for path in (*_USUAL, "bufstream.bufstream.deployment")), f"{_RELOADER}.labels")
# W&B's own charts beside the base chart hear of labels by `global`, and not of annotations.
_OWN = ("otel.daemonset", "otel.deployment", "prometheus.mysql-exporter", "prometheus.redis-exporter")
_ANNOTATIONS = (
    *(f"{path}.podAnnotations" for path in (*_USUAL, "bufstream.bufstream.deployment")),
    *(f"{path}.pod.annotations" for path in (*_OWN, "stackdriver", "yace", _RELOADER)),
)
# Components whose resources stand with their container, and win over what stands with the component.
_RESOURCES = {
    "console": "console.containers.console",
    "mcp-server": "mcp-server.containers.mcp-server",
    "otel": "otel.daemonset",
    "prometheus": _PROMETHEUS,
    "redis": "redis.master",
    "reloader": _RELOADER,
}
_POD: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
_CONTAINER: dict[str, Any] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
# Containers of charts other than the base chart that are not confined by default, and can be.
_CONTAINERS = (
    "prometheus.instance.configmapReload.prometheus.containerSecurityContext",
    f"{_PROMETHEUS}.containerSecurityContext",
    f"{_RELOADER}.containerSecurityContext",
    "yace.container.securityContext",
)
_PODS = (f"{_PROMETHEUS}.securityContext", f"{_RELOADER}.securityContext", "yace.pod.securityContext")
# The base chart has numbers here, and the controller allows no null that would take them away. But its template is
# rendered once more (`tpl`), and then these texts are nulls, which mean the same as nothing.
_NO_NUMBER = dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), "null{{/* by the cluster */}}")
# Anything that is no mapping makes these charts print no context of the pod, with its numbers.
_NO_CONTEXT = (
    *_PODS,
    "mysql.pod.securityContext",
    "otel.deployment.pod.securityContext",
)
_KAFKA = (
    "kafka.broker.containerSecurityContext",
    "kafka.broker.podSecurityContext",
    "kafka.controller.containerSecurityContext",
    "kafka.controller.podSecurityContext",
    "kafka.metrics.jmx.containerSecurityContext",
)


def operator_pod(answers: Answers) -> dict[str, Any]:
    """Values for the pod of the operator, whose chart has neither labels nor a priority class."""
    values = {**_placement(answers), **_resources(answers, _OPERATOR)}
    if answers.pod_annotations:
        values["podAnnotations"] = dict(answers.pod_annotations)
    if answers.security != "default":
        values |= {"podSecurityContext": _POD, "securityContext": _CONTAINER}
    return values


def platform_pods(answers: Answers) -> dict[str, Any]:
    """Values for all pods of the platform."""
    values: dict[str, Any] = {}
    for path, value in _platform(answers):
        values = merged(values, placed(path, value))
    return values


def _platform(answers: Answers) -> Iterator[tuple[str, Any]]:
    """What stands where."""
    chosen = _placement(answers)
    if answers.priority_class:
        chosen["priorityClassName"] = answers.priority_class
    for path in ("global", *_PLACED):
        yield from ((f"{path}.{key}", value) for key, value in chosen.items())
    if answers.pod_labels:
        yield from ((path, dict(answers.pod_labels)) for path in ("global.pod.labels", *_LABELS))
    if answers.pod_annotations:
        yield from ((path, dict(answers.pod_annotations)) for path in ("global.pod.annotations", *_ANNOTATIONS))
    for name in answers.resources:
        if name != _OPERATOR:
            yield f"{_RESOURCES.get(name, name)}.resources", _resources(answers, name)["resources"]
    for name, count in answers.replicas.items():
        yield f"{name}.replicaCount", count
        for scaler in ("horizontal", "keda"):
            yield f"{name}.autoscaling.{scaler}.enabled", False
    yield from _confined(answers.security)


def _confined(security: str) -> Iterator[tuple[str, Any]]:
    """What makes pods fit for the level `restricted`; for OpenShift without the numbers that it gives itself."""
    if security == "default":
        return
    openshift = security == "openshift"
    for name in _BASE:
        yield f"{name}.podSecurityContext", {**_POD, **(_NO_NUMBER if openshift else {})}
        yield f"{name}.securityContext", _CONTAINER
    for path in _CONTAINERS:
        yield path, _CONTAINER
    if not openshift:
        for path in _PODS:
            yield path, _POD
        return
    for path in _NO_CONTEXT:
        yield path, False
    yield "global.compatibility.openshift.adaptSecurityContext", "force"
    for path in _KAFKA:
        yield f"{path}.enabled", False


def _placement(answers: Answers) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if answers.node_selector:
        values["nodeSelector"] = dict(answers.node_selector)
    if answers.tolerations:
        values["tolerations"] = [item.model_dump(by_alias=True, exclude_none=True) for item in answers.tolerations]
    return values


def _resources(answers: Answers, component: str) -> dict[str, Any]:
    found = answers.resources.get(component)
    return {"resources": found.model_dump(exclude_defaults=True)} if found else {}
