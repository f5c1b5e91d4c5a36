"""What an upgrade would change, for people to read before it happens: pure comparison, nothing is applied.

Values may be confidential even where nobody meant them to: what a key or a form marks as secret is never shown, only
that it changes.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from installer.oci.reference import parse_reference
from installer.report import printable
from installer.value import Value

HIDDEN = "(not shown)"
MAX_SHOWN = 80
MAX_LINES = 200
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


class Changes(Value):
    """Everything that an upgrade changes. `overwritten` names fields that somebody else has set meanwhile.

    `volumes` are those whose claims Helm deletes, each with its name and how it is used again; they are kept.
    """

    bundle: tuple[Change, ...]
    charts: tuple[Change, ...]
    images: tuple[Change, ...]
    values: tuple[Change, ...]
    overwritten: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing changes."""
        return not (self.bundle or self.charts or self.images or self.values or self.overwritten or self.volumes)

    def document(self) -> dict[str, Any]:
        """All of it as plain values."""
        groups = {"bundle": self.bundle, "charts": self.charts, "images": self.images, "values": self.values}
        listed = {
            name: [{"what": item.what, "old": item.old, "new": item.new} for item in group]
            for name, group in groups.items()
        }
        return {**listed, "overwritten": list(self.overwritten), "volumes": list(self.volumes)}

    def text(self) -> str:
        """The same for people."""
        groups = {"bundle": self.bundle, "charts": self.charts, "images": self.images, "values": self.values}
        lines = []
        for name, group in groups.items():
            if group:
                more = [f"  and {len(group) - MAX_LINES} more"] if len(group) > MAX_LINES else []
                lines += [f"{name}:", *(f"  {item}" for item in group[:MAX_LINES]), *more]
        if self.volumes:
            lines += ["volumes that are kept, whose claims will be deleted:", *(f"  {item}" for item in self.volumes)]
        if self.overwritten:
            lines += ["set by others, will be overwritten:", *(f"  {item}" for item in self.overwritten)]
        return "\n".join(lines) or "nothing changes"


def compared(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[Change, ...]:
    """The differences of two lists of things by name."""
    return tuple(
        Change(name, old.get(name, ""), new.get(name, ""))
        for name in sorted({*old, *new})
        if old.get(name, "") != new.get(name, "")
    )


def compared_images(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[Change, ...]:
    """Images, each reference with its digest, that are added, go, or have another version, by repository."""
    return compared(_by_repository(old), _by_repository(new))


def compared_values(
    what: str, old: Mapping[str, Any], new: Mapping[str, Any], hidden: Collection[str] = ()
) -> tuple[Change, ...]:
    """The values of chart `what` that differ, by path; those at the paths `hidden` are not shown."""

    def shown(path: str, value: Any) -> str:
        return HIDDEN if path in hidden and value is not _ABSENT else _shown(path, value)

    return tuple(
        Change(f"{what}: {path}", shown(path, before), shown(path, after))
        for path, before, after in _differences("", old, new)
    )


def _by_repository(images: Mapping[str, str]) -> dict[str, str]:
    """The versions of each repository's images: tag and digest."""
    found: dict[str, set[str]] = {}
    for text, digest in images.items():
        reference = parse_reference(text)
        version = f"{reference.tag} {digest[:19]}".strip()
        found.setdefault(str(reference.repository), set()).add(version)
    return {repository: ", ".join(sorted(versions)) for repository, versions in found.items()}


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


def _shown(path: str, value: Any) -> str:
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
