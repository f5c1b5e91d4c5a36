"""Values that a site gives in the words of the charts: none of them may be a secret.

They stand in the custom resource, in Helm's records and in what `render` writes, for many to read.
Source of the paths: values.yaml and templates of github.com/wandb/helm-charts, chart `operator-wandb` 0.43.8.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

# What the keys of secrets look like.
_SECRET = re.compile(
    r"passw|passphrase|secret|token|credential|licen[cs]e|api.?key|access.?key|private.?key|dsn", re.IGNORECASE
)
# Keys of the name of a secret, or of where it is: `existingSecret`, `passwordKey`, `tokenFile`, `licenseCertPath`.
_PLACE = re.compile(
    r"[a-z-][Ss]ecrets?$|(?i:(name|ref|path|file|url|type))$|(?i:(?<!access)(?<!secret)(?<!api)(?<!private))Key$"
)
# The name of a key in a Secret, as in the chart's own `secretKey: REDIS_PASSWORD`.
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
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
    "global.clickhouse.password": "values.global.clickhouse.passwordSecret, which names a Secret",
    "global.kafka.password": "values.global.kafka.passwordSecret, which names a Secret",
}
"""Where the platform chart takes a secret, and the answer that takes its place."""


def misplaced(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Secrets that stand in `values` of the platform chart: their paths, and what to answer instead."""
    for path, text in _texts(values):
        if text and path in _SECRETS:
            yield path, _SECRETS[path]


def suspicious(values: Mapping[str, Any]) -> Iterator[str]:
    """The paths of texts in `values` that look like secrets by their keys."""
    for path, text in _texts(values):
        key = path.rpartition(".")[2]
        if path not in _SECRETS and _SECRET.search(key) and not _PLACE.search(key) and _may_be_secret(text):
            yield path


def _may_be_secret(text: str) -> bool:
    """Whether `text` is neither empty, nor a template, nor the name of a key."""
    return bool(text) and "{{" not in text and not _NAME.fullmatch(text)


def _texts(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, Mapping):
        if isinstance(node.get("name"), str) and isinstance(node.get("value"), str):
            # An environment variable.
            yield f"{path}.{node['name']}", node["value"]
            return
        for key, value in node.items():
            yield from _texts(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _texts(value, f"{path}[{index}]")
