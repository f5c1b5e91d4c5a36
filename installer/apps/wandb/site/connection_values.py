"""Connections that the chart writes as URLs which leave no room for what a site wants.

The variables that hold them are given anew to each component that has them, made by the chart's own templates: the
chart leaves its own out where a component's `env` has the name.

Sources: `_env.tpl`, `_mysql.tpl`, `_redis.tpl`, `_history.tpl` and `_queues.tpl` of github.com/wandb/helm-charts, chart
`operator-wandb` 0.41.4 and 0.43.8; for the parameters of MySQL's URL github.com/wandb/operator, version 2,
`internal/controller/infra/external/mysql`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from installer.apps.wandb.site.service_answers import MysqlAnswers, RedisAnswers

MYSQL_CLIENT = "airferry-mysql-client"
_CLIENT_FOLDER = "/etc/mysql-client"
_COMPONENTS = (
    "api",
    "app",
    "executor",
    "filemeta",
    "filestream",
    "flat-run-fields-updater",
    "glue",
    "history-updater",
    "metric-observer",
    "parquet",
    "parquet-metadata-cache",
)
_MYSQL = dict.fromkeys(
    ("GORILLA_ANALYTICS_SINK", "GORILLA_METADATA_STORE", "GORILLA_RUN_STORE", "GORILLA_USAGE_STORE", "MYSQL"),
    "wandb.mysql",
)
# Of all components but `filemeta`.
_STORES = {
    "GORILLA_FILE_STREAM_STORE_ADDRESS": "wandb.fileStreamStoreProducer",
    "GORILLA_HISTORY_STORE": "wandb.historyStore",
    "GORILLA_PARQUET_LIVE_HISTORY_STORE": "wandb.liveHistoryStore",
}
_REDIS = dict.fromkeys(
    (
        "GORILLA_ACTIVITY_STORE_CACHE_ADDRESS",
        "GORILLA_AUDITOR_CACHE",
        "GORILLA_CACHE",
        "GORILLA_FILE_METADATA_SOURCE",
        "GORILLA_LOCKER",
        "GORILLA_METADATA_CACHE",
        "GORILLA_SETTINGS_CACHE",
        "GORILLA_USAGE_METRICS_CACHE",
        "REDIS",
    ),
    "wandb.redis.connectionString",
) | {"GORILLA_TASK_QUEUE": "wandb.redis.taskQueue"}


def mysql_connections(mysql: MysqlAnswers | None) -> dict[str, Any]:
    """Values that make every component ask MySQL over TLS, with the site's certificate if there is one."""
    if mysql is None or not mysql.over_tls:
        return {}
    new = "?tls=custom&ssl-ca=$(MYSQL_CA_CERT_PATH)" if mysql.ca else "?tls=true"
    if mysql.client_certificate:
        new += f"&ssl-cert={_CLIENT_FOLDER}/tls.crt&ssl-key={_CLIENT_FOLDER}/tls.key"
    values: dict[str, Any] = {}
    for name in _COMPONENTS:
        templates = {**_MYSQL, **(_STORES if name != "filemeta" else {})}
        if name == "filestream":
            templates["GORILLA_FILE_STREAM_WORKER_SOURCE_ADDRESS"] = "wandb.fileStreamStoreConsumer"
        values[name] = {"env": dict(_written(templates, "?tls=preferred", new))}
    if mysql.client_certificate:
        values["global"] = {
            "volumes": [{"name": "mysql-client", "secret": {"secretName": MYSQL_CLIENT}}],
            "volumeMounts": [{"name": "mysql-client", "mountPath": _CLIENT_FOLDER, "readOnly": True}],
        }
        # It waits for the database with a program that it gives no certificate.
        values["app"]["initContainers"] = {"init-db": {"enabled": False}}
    return values


def redis_connections(redis: RedisAnswers | None) -> dict[str, Any]:
    """Values that make every component log in to Redis as the site's user."""
    if redis is None or not redis.user:
        return {}
    values: dict[str, Any] = {}
    for name in _COMPONENTS:
        templates = dict(_REDIS)
        if name == "executor":
            templates["GORILLA_TASK_QUEUE"] = "wandb.executor.taskQueue"
        if name == "metric-observer":
            templates["GORILLA_METRIC_OBSERVER_STORE"] = "wandb.redis.connectionString"
        values[name] = {"env": dict(_written(templates, "redis://:", f"redis://{redis.user}:"))}
    return values


def _written(templates: Mapping[str, str], old: str, new: str) -> Iterator[tuple[str, dict[str, str]]]:
    for name, template in templates.items():
        yield name, {"value": f'{{{{ include "{template}" . | trim | replace "{old}" "{new}" }}}}'}
