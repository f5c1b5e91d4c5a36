"""Values: objects that never change, are equal if all that they hold is equal, and are valid when they exist.

Like the standard library's frozen dataclasses, and as mypy sees them, but made in a fraction of the time, both the
classes (there are a hundred) and their objects (a bundle has tens of thousands). Dataclasses are left to what has
fields that must not show, such as passwords.
"""

from typing import Any, TypeVar, dataclass_transform

import msgspec
from msgspec.structs import replace

__all__ = ["Value", "fields", "plain", "replace", "typed"]


@dataclass_transform(frozen_default=True)
class _Kind(msgspec.StructMeta):
    pass


class Value(msgspec.Struct, metaclass=_Kind, frozen=True):
    """The base of values; `order=True` makes them sortable, `dict=True` lets them keep what was computed of them."""


_Value = TypeVar("_Value", bound=Value)


def fields(kind: type[Value]) -> tuple[str, ...]:
    """The names of what a value holds, in order."""
    return kind.__struct_fields__


def plain(value: Value) -> dict[str, Any]:
    """A value, and the values in it, as objects of JSON."""
    document: dict[str, Any] = msgspec.to_builtins(value)
    return document


def typed(document: Any, kind: type[_Value]) -> _Value:
    """The value of `kind` that `plain` has made `document` of. Raises ValueError naming the place of what is wrong."""
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as exc:
        raise ValueError(str(exc)) from exc
