"""Canonical JSON: one spelling for one value, and typed objects from it.

The subset: objects with sorted keys, arrays, strings of printable ASCII, integers from 0 to 2^53-1; no white space,
no null, no fractions, no booleans. Whatever does not serialise back to the same bytes is refused, so no two readers
can read a document differently.
"""

import dataclasses
import functools
import json
import types
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from installer.errors import AirferryError, BundleError
from installer.oci.digest import Digest
from installer.oci.model import Platform

_T = TypeVar("_T")
_MAX_INT = 2**53 - 1


def encode(value: Any) -> bytes:
    """The canonical bytes of a dataclass, or of plain lists, dicts, strings and integers.

    Raises BundleError for a value outside the subset: the writer's way of refusing, for instance, a name in Cyrillic.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def decode(raw: bytes, kind: type[_T], what: str) -> _T:
    """The `kind` (a dataclass) whose canonical bytes are `raw`. Raises BundleError, naming `what`."""
    try:
        value: _T = _typed(json.loads(raw.decode("ascii")), kind, what)
    except (ValueError, RecursionError) as exc:
        raise BundleError(f"{what}: not canonical JSON ({type(exc).__name__})") from exc
    try:
        canonical = encode(value) == raw
    except BundleError as exc:
        raise BundleError(f"{what}: {exc.message}") from exc
    if not canonical:
        raise BundleError(f"{what}: not in canonical form")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Digest | Platform):
        return str(value)
    if isinstance(value, str):
        if not (value.isascii() and value.isprintable()):
            raise BundleError(f"{value[:80]!r}: only printable ASCII can be carried in names")
        return value
    if type(value) is int:
        if not 0 <= value <= _MAX_INT:
            raise BundleError(f"{value}: outside the range of canonical JSON")
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value):
        kind: Any = type(value)
        return {name: _plain(getattr(value, name)) for name, _ in _hints(kind)}
    raise BundleError(f"{type(value).__name__}: no canonical form")


@functools.cache
def _hints(kind: Any) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(kind)
    return tuple((field.name, hints[field.name]) for field in dataclasses.fields(kind))


_PLAIN_OF = {int: int, str: str, bytes: str, Digest: str, Platform: str}


def _typed(doc: Any, kind: Any, what: str) -> Any:
    """`doc` as `kind`: exact types, exact keys."""
    if get_origin(kind) is tuple:
        return _sequence(doc, get_args(kind), what)
    plain: type = type(doc)
    if plain is not _PLAIN_OF.get(kind, dict):
        raise BundleError(f"{what}: expected {kind.__name__}, found {plain.__name__}")
    try:
        if kind is bytes:
            return bytes.fromhex(doc)
        if kind is Platform:
            return Platform.parse(doc)
        return kind(doc) if kind in _PLAIN_OF else _record(doc, kind, what)
    except BundleError:
        raise
    except (AirferryError, ValueError) as exc:
        raise BundleError(f"{what}: {exc}") from exc


def _record(doc: dict[str, Any], kind: Any, what: str) -> Any:
    hints = _hints(kind)
    if doc.keys() != {name for name, _ in hints}:
        odd = sorted(doc.keys() ^ {name for name, _ in hints})
        raise BundleError(f"{what}: unknown or missing keys: {', '.join(odd)[:200]}")
    return kind(**{name: _typed(doc[name], hint, f"{what}.{name}") for name, hint in hints})


def _sequence(doc: Any, args: tuple[Any, ...], what: str) -> tuple[Any, ...]:
    if type(doc) is not list:
        raise BundleError(f"{what}: expected a list, found {type(doc).__name__}")
    if len(args) == 2 and isinstance(args[1], types.EllipsisType):
        return tuple(_typed(item, args[0], f"{what}[{place}]") for place, item in enumerate(doc))
    if len(doc) != len(args):
        raise BundleError(f"{what}: expected {len(args)} items, found {len(doc)}")
    return tuple(
        _typed(item, kind, f"{what}[{place}]") for place, (item, kind) in enumerate(zip(doc, args, strict=True))
    )
