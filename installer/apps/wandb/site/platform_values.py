"""The site's answers in the words of the two W&B charts, `operator` and `operator-wandb`.

Sources: values.yaml and templates of github.com/wandb/helm-charts, charts `operator` 1.4.8 and `operator-wandb` 0.43.8,
and for Prometheus those of github.com/prometheus-community/helm-charts.
"""

from collections.abc import Sequence
from typing import Any

from installer.apps.wandb.site.answers import Answers, IngressAnswers, ProxyAnswers, ServiceAnswers
from installer.apps.wandb.site.connection_values import mysql_connections, redis_connections
from installer.apps.wandb.site.pod_values import operator_pod, platform_pods
from installer.apps.wandb.site.service_values import TLS_SECRET, Authorities, services
from installer.chart.retarget import merged

# Names of the chart's Services after that of the release: components ask each other by them, past every proxy.
_SERVICES = (
    "anaconda2",
    "api",
    "app",
    "clickhouse",
    "clickhouse-headless",
    "clickhouse-keeper",
    "clickhouse-keeper-headless",
    "console",
    "frontend",
    "kafka",
    "kafka-broker-headless",
    "kafka-controller-headless",
    "kafka-jmx-metrics",
    "mcp-server",
    "mysql",
    "nginx",
    "otel-daemonset",
    "parquet",
    "parquet-grpc",
    "parquet-metadata-cache",
    "prometheus-mysql-exporter",
    "prometheus-redis-exporter",
    "prometheus-server",
    "redis-headless",
    "redis-master",
    "stackdriver",
    "weave",
    "weave-trace",
    "yace",
)


def operator(answers: Answers, certificates: Sequence[str]) -> dict[str, Any]:
    """Values for the chart `operator`. Its pull secrets are plain names.

    It gets no proxy: all that it asks for is in the enclave.
    """
    values: dict[str, Any] = {"airgapped": True}
    if certificates:
        values["customCACerts"] = list(certificates)
    if name := answers.registry.pull_secret_name:
        values["image"] = {"pullSecrets": [name]}
    return {**values, **operator_pod(answers)}


def platform(answers: Answers, certificates: Sequence[str], authorities: Authorities, release: str) -> dict[str, Any]:
    """Values for the chart `operator-wandb`, as they stand in `spec.values` of the custom resource `release`."""
    everywhere: dict[str, Any] = {}
    if answers.host:
        everywhere["host"] = answers.host
    if answers.size:
        everywhere["size"] = answers.size
    if certificates:
        everywhere["customCACerts"] = list(certificates)
    environment: dict[str, Any] = dict(answers.env)
    if answers.proxy:
        environment = {**_proxy(answers.proxy, release, answers.host_name), **environment}
    if environment:
        everywhere["env"] = environment
    values: dict[str, Any] = {"global": everywhere}
    for part in (
        services(answers, authorities),
        mysql_connections(answers.mysql),
        redis_connections(answers.redis),
        _exposure(answers),
        _storage(answers),
        _pull_secret(answers.registry.pull_secret_name),
        platform_pods(answers),
    ):
        values = merged(values, part)
    return values


def _storage(answers: Answers) -> dict[str, Any]:
    if not answers.storage_class:
        return {}
    return {
        "global": {"storageClass": answers.storage_class},
        "prometheus": {"instance": {"server": {"persistentVolume": {"storageClass": answers.storage_class}}}},
    }


def _pull_secret(name: str) -> dict[str, Any]:
    """Maps, because some subcharts print the list as it is; Prometheus and its companions have keys of their own."""
    if not name:
        return {}
    named = [{"name": name}]
    own = {"imagePullSecrets": named}
    return {
        "global": own,
        "prometheus": {"instance": {**own, "alertmanager": own, "prometheus-pushgateway": own}},
    }


def _proxy(proxy: ProxyAnswers, release: str, host: str) -> dict[str, Any]:
    """Some programs read the names in capitals, some those in small letters.

    Kubernetes puts the address of its API server, which the console asks, in the place of the variable.
    """
    own = ("localhost", "127.0.0.1", "::1", ".svc", ".cluster.local", "$(KUBERNETES_SERVICE_HOST)")
    names = [*own, *(f"{release}-{name}" for name in _SERVICES), *([host] if host else []), *proxy.no_proxy]
    found = {"http_proxy": proxy.http, "https_proxy": proxy.https, "no_proxy": ",".join(dict.fromkeys(names))}
    return {key: text for name, text in found.items() if text for key in (name.upper(), name)}


def _exposure(answers: Answers) -> dict[str, Any]:
    if answers.expose == "ingress":
        return {"ingress": _ingress(answers.ingress, answers.host_name)} if answers.ingress else {}
    closed: dict[str, Any] = {"ingress": {"install": False}}
    if answers.expose == "none":
        return closed
    if answers.expose == "route":
        return {**closed, "nginx": {"install": True}}
    return {**closed, "nginx": {"install": True, "service": _service(answers.expose, answers.service)}}


def _service(kind: str, service: ServiceAnswers | None) -> dict[str, Any]:
    """The one Service that has all paths behind it is nginx's; it listens on port 8080, without TLS."""
    values: dict[str, Any] = {"type": kind}
    if service and service.annotations:
        values["annotations"] = dict(service.annotations)
    if service and service.node_port:
        port = {"name": "http", "port": 8080, "protocol": "TCP", "nodePort": service.node_port}
        values["ports"] = [port]
    return values


def _ingress(ingress: IngressAnswers, host: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if ingress.ingress_class:
        values["class"] = ingress.ingress_class
    if ingress.annotations:
        values["annotations"] = dict(ingress.annotations)
    if ingress.additional_hosts:
        values["additionalHosts"] = list(ingress.additional_hosts)
    if secret := ingress.tls_secret or (TLS_SECRET if ingress.certificate else None):
        hosts = [*([host] if host else []), *ingress.additional_hosts]
        values["tls"] = [{"secretName": secret, **({"hosts": hosts} if hosts else {})}]
    return values
