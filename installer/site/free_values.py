"""Values that a site gives in the words of the charts: none of them may be a secret.

They stand in resources, in Helm's records and in what `render` writes, for many to read.
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


def suspicious(values: Mapping[str, Any]) -> Iterator[str]:
    """The paths of texts in `values` that look like secrets by their keys."""
    for path, text in texts(values):
        key = path.rpartition(".")[2]
        if _SECRET.search(key) and not _PLACE.search(key) and _may_be_secret(text):
            yield path


def _may_be_secret(text: str) -> bool:
    """Whether `text` is neither empty, nor a template, nor the name of a key."""
    return bool(text) and "{{" not in text and not _NAME.fullmatch(text)


def texts(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The texts in `node` with their dotted paths; an environment variable in a list has its name in the path."""
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, Mapping):
        if isinstance(node.get("name"), str) and isinstance(node.get("value"), str):
            # An environment variable.
            yield f"{path}.{node['name']}", node["value"]
            return
        for key, value in node.items():
            yield from texts(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from texts(value, f"{path}[{index}]")
