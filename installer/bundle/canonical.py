"""Canonical JSON: one spelling for one value, and typed objects from it.

The subset: objects with sorted keys, arrays, strings of printable ASCII, integers from 0 to 2^53-1; no white space,
no null, no fractions, no booleans. Whatever does not serialise back to the same bytes is refused, so no two readers
can read a document differently.

Between JSON and a value stands its form: a structure with the same fields, in which digests, platforms and bytes are
texts still. msgspec reads and writes forms, and finds what is not of its type. Values are made of forms, and forms of
values, a column at a time, since a bundle has tens of thousands.
"""

import contextlib
import functools
import gc
import re
import types
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from operator import attrgetter
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from installer.errors import AirferryError, BundleError
from installer.oci.digest import Digest
from installer.oci.model import Platform
from installer.value import Value, fields

_T = TypeVar("_T", bound=Value)
_MAX_INT = 2**53 - 1


def encode(value: Any) -> bytes:
    """The canonical bytes of a Value, or of plain lists, dicts, strings and integers.

    Raises BundleError for a value outside the subset: the writer's way of refusing, for instance, a name in Cyrillic.
    """
    with _nothing_is_garbage():
        try:
            raw = _spelled(_plain(value))
            if isinstance(value, Value):
                msgspec.json.decode(raw, type=_form(type(value)))
        except ValueError as exc:
            raise BundleError(str(exc)) from exc
    return raw


def decode(raw: bytes, kind: type[_T], what: str) -> _T:
    """The `kind` (a Value) whose canonical bytes are `raw`. Raises BundleError, naming `what`."""
    with _nothing_is_garbage():
        return _decoded(raw, kind, what)


def _decoded(raw: bytes, kind: type[_T], what: str) -> _T:
    try:
        form = msgspec.json.decode(raw, type=_form(kind))
    except msgspec.ValidationError as exc:
        raise _mismatch(exc, what) from exc
    except (ValueError, RecursionError) as exc:
        raise BundleError(f"{what}: not canonical JSON ({type(exc).__name__})") from exc
    value, spelled = _value(form, kind, what)
    # Each type takes one spelling only; what is left is the order of keys, white space, and escapes.
    if spelled != raw:
        raise BundleError(f"{what}: not in canonical form")
    return value


def typed(document: Any, kind: type[_T], what: str) -> _T:
    """The `kind` (a Value) that a parsed document stands for, however it was spelled. Raises BundleError."""
    try:
        form = msgspec.convert(document, _form(kind))
    except msgspec.ValidationError as exc:
        raise _mismatch(exc, what) from exc
    return _value(form, kind, what)[0]


def _mismatch(exc: msgspec.ValidationError, what: str) -> BundleError:
    """msgspec says ``Expected `int`, got `str` - at `$.blobs[3].size` ``."""
    text, _, place = str(exc).partition(" - at `$")
    return BundleError(f"{what}{place.rstrip('`')}: {text[:1].lower()}{text[1:200].replace('`', '')}")


def _value(form: Any, kind: type[_T], what: str) -> tuple[_T, bytes]:
    """A text form: the type that it stands for, and its spelling."""
    try:
        spelled = _spelled(form)
        value: _T = _column(kind, reading=True)([form])[0]
    except BundleError:
        raise
    except (AirferryError, ValueError) as exc:
        raise BundleError(f"{what}: {exc}") from exc
    return value, spelled


@contextlib.contextmanager
def _nothing_is_garbage() -> Iterator[None]:
    """Keep Python from looking for garbage among a million objects that are all needed: a tenth of the time.

    What is only needed meanwhile should be gone at the end of it: else the first look goes through that, too.
    """
    looking = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looking:
            gc.enable()


_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"')
_PLAIN_ESCAPE = re.compile(rb'\\["\\]')


def _spelled(form: Any) -> bytes:
    """The canonical spelling. Raises ValueError for a text that is not printable ASCII."""
    # Four times as fast as the standard library, and the texts of this subset have one spelling with both.
    raw = msgspec.json.encode(form, order="sorted")
    if not raw.isascii() or b"\x7f" in raw or b"\\" in _PLAIN_ESCAPE.sub(b"", raw):
        texts: Iterator[str] = map(msgspec.json.decode, _TEXT.findall(raw))
        odd = next(text for text in texts if not (text.isascii() and text.isprintable()))
        raise ValueError(f"{odd[:80]!r}: only printable ASCII can be carried in names")
    return raw


def _plain(value: Any) -> Any:
    """The form of a Value; of other things the same with all that is in them."""
    kind: Any = type(value)
    if kind is str:
        return value
    if kind is int:
        if not 0 <= value <= _MAX_INT:
            raise ValueError(f"{value}: outside the range of canonical JSON")
        return value
    if kind in _TEXTS or issubclass(kind, Value):
        return _column(kind, reading=False)([value])[0]
    if kind is tuple or kind is list:
        return list(map(_plain, value))
    if kind is dict and all(type(key) is str for key in value):
        return {key: _plain(item) for key, item in value.items()}
    raise ValueError(f"{kind.__name__}: no canonical form")


# --- forms ---

_TEXTS: dict[type, tuple[Callable[[str], Any], Callable[[Any], str]]] = {
    bytes: (bytes.fromhex, bytes.hex),
    Digest: (Digest, attrgetter("text")),
    Platform: (Platform.parse, str),
}
"""The types that are one text in JSON, each with its parser and its spelling."""
_NUMBER = Annotated[int, msgspec.Meta(ge=0, le=_MAX_INT)]


@functools.cache
def _hints(kind: Any) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(kind)
    return tuple((name, hints[name]) for name in fields(kind))


@functools.cache
def _form(kind: Any) -> Any:
    """The form of a type: exact types, and exactly the fields of a Value, none of them optional."""
    if kind is int:
        return _NUMBER
    if kind is str or kind in _TEXTS:
        return str
    if get_origin(kind) is tuple:
        items = get_args(kind)
        return tuple[tuple(item if _is_ellipsis(item) else _form(item) for item in items)]  # type: ignore[misc]
    named = [(name, _form(hint)) for name, hint in _hints(kind)]
    return msgspec.defstruct(kind.__name__, named, forbid_unknown_fields=True, gc=False)


def _is_ellipsis(item: Any) -> bool:
    return isinstance(item, types.EllipsisType)


# --- columns: a function for each type, made once, for a list of values or of forms ---

_Column = Callable[[list[Any]], list[Any]]


def _same(column: list[Any]) -> list[Any]:
    return column


@functools.cache
def _column(kind: Any, *, reading: bool) -> _Column:
    """The function that turns forms into values of the type `kind` (`reading`), or the reverse."""
    if kind is str or kind is int:
        return _same
    if kind in _TEXTS:
        make, spell = _TEXTS[kind]
        return _text_reader(make, spell) if reading else lambda column: list(map(spell, column))
    if get_origin(kind) is not tuple:
        return _record(kind, reading=reading)
    items = [_column(item, reading=reading) for item in get_args(kind) if not _is_ellipsis(item)]
    if all(item is _same for item in items):
        return _same
    return _list_of(items[0]) if _is_ellipsis(get_args(kind)[-1]) else _tuple_of(items)


def _text_reader(make: Callable[[str], Any], spell: Callable[[Any], str]) -> _Column:
    def read(column: list[Any]) -> list[Any]:
        values = list(map(make, column))
        if (spelled := list(map(spell, values))) != column:
            odd = next(item for item, right in zip(column, spelled, strict=True) if item != right)
            raise ValueError(f"not in canonical form: {odd[:80]!r}")
        return values

    return read


def _list_of(convert_items: _Column) -> _Column:
    def convert(column: list[Any]) -> list[Any]:
        items = iter(convert_items(list(chain.from_iterable(column))))
        return [tuple(islice(items, len(value))) for value in column]

    return convert


def _tuple_of(items: Sequence[_Column]) -> _Column:
    """For tuples of as many items as there are functions, each for its own item."""

    def convert(column: list[Any]) -> list[Any]:
        parts = zip(*column, strict=True) if column else [()] * len(items)
        return list(zip(*(item(list(part)) for item, part in zip(items, parts, strict=True)), strict=True))

    return convert


def _record(kind: Any, *, reading: bool) -> _Column:
    columns = [(attrgetter(name), _column(hint, reading=reading)) for name, hint in _hints(kind)]
    make = kind if reading else _form(kind)

    def convert(column: list[Any]) -> list[Any]:
        return list(map(make, *(convert_part(list(map(get, column))) for get, convert_part in columns)))

    return convert
