"""JSON that two readers cannot read differently.

Go matches keys without regard to case, Python does not, and both resolve duplicate keys silently; so the same bytes
can name other layers to a registry than to us. Such documents are refused.
"""

import json
from typing import Any, NoReturn

from installer.errors import AirferryError


def parse(raw: bytes, what: str, error: type[AirferryError]) -> Any:
    """The JSON value in `raw` (UTF-8, no BOM). Raises `error`, naming `what`, for anything ambiguous or malformed."""

    def refuse(reason: str) -> NoReturn:
        raise error(f"{what}: {reason}")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            refuse("a key stands twice in one object")
        if len(found) != len({key.casefold() for key in found}):
            refuse("two keys of one object differ only in case")
        return found

    def constant(text: str) -> NoReturn:
        refuse(f"{text} is not JSON")

    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as exc:
        raise error(f"{what}: not JSON ({type(exc).__name__})") from exc
