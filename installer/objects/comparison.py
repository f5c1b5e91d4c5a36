"""Two lists of things, or the values of a chart, compared for people to read.

Values may be confidential even where nobody meant them to: what a key or a form marks as secret is never shown, only
that it changes.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from installer.report import printable
from installer.value import Value

HIDDEN = "(not shown)"
MAX_SHOWN = 80
_ABSENT = object()
_SECRET_KEY = re.compile(
    r"pass|secret|token|credential|licen[cs]e|api.?key|access.?key|private|dsn|connection", re.IGNORECASE
)
_USER_IN_URL = re.compile(r"//[^/\s@]+@")


class Change(Value):
    """One difference. `old` is empty for what is new, `new` for what goes."""

    what: str
    old: str
    new: str

    def __str__(self) -> str:
        if self.old and self.new:
            return f"~ {self.what}: {self.old} -> {self.new}"
        return f"+ {self.what}: {self.new}" if self.new else f"- {self.what}: {self.old}"


def compared(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[Change, ...]:
    """The differences of two lists of things by name."""
    return tuple(
        Change(name, old.get(name, ""), new.get(name, ""))
        for name in sorted({*old, *new})
        if old.get(name, "") != new.get(name, "")
    )


def compared_values(
    what: str, old: Mapping[str, Any], new: Mapping[str, Any], hidden: Collection[str] = ()
) -> tuple[Change, ...]:
    """The values of chart `what` that differ, by path; those at the paths `hidden` are not shown."""

    def told(path: str, value: Any) -> str:
        return HIDDEN if path in hidden and value is not _ABSENT else shown(path, value)

    return tuple(
        Change(f"{what}: {path}", told(path, before), told(path, after))
        for path, before, after in _differences("", old, new)
    )


def _differences(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}, key=str):
            below = f"{path}.{key}" if path else str(key)
            yield from _differences(below, old.get(key, _ABSENT), new.get(key, _ABSENT))
    elif isinstance(old, Mapping) and new is _ABSENT and old:
        yield from _differences(path, old, {})
    elif isinstance(new, Mapping) and old is _ABSENT and new:
        yield from _differences(path, {}, new)
    elif json.dumps(_plain(old), sort_keys=True) != json.dumps(_plain(new), sort_keys=True):
        yield path, old, new


def _plain(value: Any) -> Any:
    return ["absent"] if value is _ABSENT else value


def shown(path: str, value: Any) -> str:
    """`value` in short; nothing of it where it could be a secret."""
    if value is _ABSENT:
        return ""
    if _SECRET_KEY.search(path):
        return HIDDEN
    if isinstance(value, Mapping | list):
        # An entry's own name may say that it is a secret, as in a list of environment variables.
        text = json.dumps(value, sort_keys=True)
        return f"{len(value)} entries" if _SECRET_KEY.search(text) or len(text) > MAX_SHOWN else printable(text)
    if isinstance(value, str) and ("\n" in value or len(value) > MAX_SHOWN):
        return f"text of {len(value)} characters"
    return printable(_USER_IN_URL.sub("//***@", json.dumps(value)))
