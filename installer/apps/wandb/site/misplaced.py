"""Secrets that stand among the platform's values, where many may read them.

Source of the paths: values.yaml and templates of github.com/wandb/helm-charts, chart `operator-wandb` 0.43.8.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from installer.site.free_values import has_login, texts

_SECRETS = {
    "global.license": "license",
    "global.mysql.password": "mysql.password",
    "global.redis.password": "redis.password",
    "global.bucket.accessKey": "bucket.access_key",
    "global.bucket.secretKey": "bucket.secret_key",
    "global.defaultBucket.accessKey": "bucket.access_key",
    "global.defaultBucket.secretKey": "bucket.secret_key",
    "global.auth.oidc.secret": "oidc.secret",
    "global.email.smtp.password": "smtp.password",
    "global.slack.secret": "secret_env.GORILLA_SLACK_SECRET",
    "global.clickhouse.password": "clickhouse.password",
    "global.kafka.password": "values.global.kafka.passwordSecret, which names a Secret",
}
"""Where the platform chart takes a secret, and the answer that takes its place."""


def misplaced(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Secrets that stand in `values` of the platform chart: their paths, and what to answer instead."""
    for path, text in texts(values):
        if text and path in _SECRETS:
            yield path, _SECRETS[path]
        elif has_login(text):
            yield path, "secret_env"
