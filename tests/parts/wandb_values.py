"""Values for the W&B platform chart."""

from __future__ import annotations

from typing import Any

from installer.chart.retarget import merged

BUCKET = {"provider": "s3", "name": "s3:9000", "path": "b", "region": "r", "accessKey": "a", "secretKey": "s"}
SWITCHED_ON = (
    *("anaconda2", "bufstream", "clickhouse", "clickhouseMigrationJob", "executor", "filemeta", "filestream"),
    *("flat-run-fields-updater", "frontend", "history-updater", "kafka", "lumen-agent", "mcp-server"),
    *("metric-observer", "mysql", "nginx", "parquet-metadata-cache", "reloader", "settingsMigrationJob"),
    *("stackdriver", "weave-evaluate-model-worker", "weave-trace", "weave-trace-agent-scoring-worker"),
    *("weave-trace-worker", "yace"),
)
EVERYTHING: dict[str, Any] = {
    **{name: {"install": True} for name in SWITCHED_ON},
    "bufstream": {"install": True, "storage": {"s3": {"region": "r"}}},
    "yace": {"install": True, "regions": ["r"], "searchTags": {"k": "v"}},
    "global": {
        "api": {"enabled": True},
        "glue": {"enabled": True},
        "localService": {"bypass": True},
        "bucket": BUCKET,
    },
}
# The same with the parts of parts that have pods of their own.
EVERY_PART: dict[str, Any] = merged(
    EVERYTHING,
    {
        "clickhouse": {"keeper": {"enabled": True}},
        "kafka": {"broker": {"replicaCount": 1}},
        "otel": {"deployment": {"install": True}},
        "prometheus": {"mysql-exporter": {"enabled": True}, "redis-exporter": {"enabled": True}},
        "global": {"olap": {"default": {"host": "h"}, "registrySearch": {"enabled": True}}},
    },
)
