"""JSON that two readers cannot read differently.

Go matches keys without regard to case, Python does not, and both resolve duplicate keys silently; so the same bytes
can name other layers to a registry than to us. Such documents are refused. Where keys are free, as those of annotations
and labels are, both read the same.
"""

import json
from collections.abc import Collection
from typing import Any, NoReturn

from installer.errors import AirferryError


def parse(
    raw: bytes, what: str, error: type[AirferryError], *, known: Collection[str] | None = None, hint: str = ""
) -> Any:
    """The JSON value in `raw` (UTF-8, no BOM).

    Raises `error`, naming `what` and with `hint`, for anything ambiguous or malformed.

    With `known`, only the outermost object and those below these keys have keys with a meaning; others are free.
    """
    doubts = _Doubts()

    def refuse(reason: str) -> NoReturn:
        raise error(f"{what}: {reason}", hint=hint)

    def constant(text: str) -> NoReturn:
        refuse(f"{text} is not JSON")

    try:
        document = json.loads(raw.decode("utf-8"), object_pairs_hook=doubts.collect, parse_constant=constant)
        reason = doubts.about(document, known)
    except (ValueError, RecursionError) as exc:
        raise error(f"{what}: not JSON ({type(exc).__name__})", hint=hint) from exc
    if reason:
        refuse(reason)
    return document


class _Doubts:
    """The objects of a document that have two keys which are one to some reader, and why."""

    def __init__(self) -> None:
        # With the objects themselves: the ids of those that are gone are used again.
        self._found: dict[int, tuple[dict[str, Any], str]] = {}

    def collect(self, items: list[tuple[str, Any]]) -> dict[str, Any]:
        """The object of `items`."""
        made = dict(items)
        if len(made) != len(items):
            self._found[id(made)] = made, "a key stands twice in one object"
        elif len(made) != len({key.casefold() for key in made}):
            self._found[id(made)] = made, "two keys of one object differ only in case"
        return made

    def about(self, value: Any, known: Collection[str] | None) -> str:
        """The reason to refuse `value`; empty if there is none."""
        if not self._found or not isinstance(value, dict | list):
            return ""
        if id(value) in self._found:
            return self._found[id(value)][1]
        inner = value
        if isinstance(value, dict):
            inner = [item for key, item in value.items() if known is None or key in known]
        return next((reason for item in inner if (reason := self.about(item, known))), "")
