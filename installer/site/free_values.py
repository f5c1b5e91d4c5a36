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
# The ends of the names of variables that are secrets: `LDAP_BIND_PW`, but not `PASSWORD_LENGTH`.
_SECRET_VARIABLE = re.compile(
    r"(passw(or)?d|passphrase|secret|token|credentials?|licen[cs]e|dsn|_pwd?"
    r"|(api|access|secret|private|session|signing|encryption)_?key)$",
    re.IGNORECASE,
)
_SWITCH = re.compile(r"true|false|yes|no|on|off|", re.IGNORECASE)
# A URL with user and password. Keys of object stores hold slashes, so a password may; a port is none.
_LOGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#:@]*:(?P<password>[^\s@]+)@", re.IGNORECASE)
_NO_PASSWORD = re.compile(r"[0-9]{1,5}(/.*)?|\$\([A-Za-z_][A-Za-z0-9_]*\)")
# The name of a key in a Secret, as in the chart's own `secretKey: REDIS_PASSWORD`.
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")


def suspicious(values: Mapping[str, Any]) -> Iterator[str]:
    """The paths of texts in `values` that look like secrets by their keys, or hold one in a URL."""
    for path, text in texts(values):
        key = path.rpartition(".")[2]
        if has_login(text) or (_SECRET.search(key) and not _PLACE.search(key) and _may_be_secret(text)):
            yield path


def secret_variables(variables: Mapping[str, str]) -> Iterator[str]:
    """The names of environment variables that are secrets by their names, or hold one in a URL."""
    for name, text in variables.items():
        if has_login(text) or (_SECRET_VARIABLE.search(name) and not _SWITCH.fullmatch(text)):
            yield name


def has_login(text: str) -> bool:
    """Whether `text` holds a URL with a user's password; `$(NAME)` stands for one that comes from elsewhere."""
    return any(not _NO_PASSWORD.fullmatch(found["password"]) for found in _LOGIN.finditer(text))


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
