"""JSON that two readers cannot read differently.

Go matches keys without regard to case, Python does not, and both resolve duplicate keys silently; so the same bytes
can name other layers to a registry than to us. Such documents are refused. Where keys are free, as those of annotations
and labels are, both read the same, and keys may differ in case only.
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
    similar = False

    def refuse(reason: str) -> NoReturn:
        raise error(f"{what}: {reason}", hint=hint)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal similar
        found = dict(items)
        if len(found) != len(items):
            refuse("a key stands twice in one object")
        similar = similar or _similar(found)
        return found

    def constant(text: str) -> NoReturn:
        refuse(f"{text} is not JSON")

    try:
        document = json.loads(raw.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
        ambiguous = similar and _ambiguous(document, known)
    except (ValueError, RecursionError) as exc:
        raise error(f"{what}: not JSON ({type(exc).__name__})", hint=hint) from exc
    if ambiguous:
        refuse("two keys of one object differ only in case")
    return document


def _similar(found: dict[str, Any]) -> bool:
    return len(found) != len({key.casefold() for key in found})


def _ambiguous(value: Any, known: Collection[str] | None) -> bool:
    if isinstance(value, list):
        return any(_ambiguous(item, known) for item in value)
    if not isinstance(value, dict):
        return False
    inner = (item for key, item in value.items() if known is None or key in known)
    return _similar(value) or any(_ambiguous(item, known) for item in inner)
