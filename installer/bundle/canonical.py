"""Canonical JSON: one spelling for one value, and typed objects from it.

The subset: objects with sorted keys, arrays, strings of printable ASCII, integers from 0 to 2^53-1; no white space,
no null, no fractions, no booleans. Whatever does not serialise back to the same bytes is refused, so no two readers
can read a document differently.
"""

import contextlib
import functools
import gc
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from installer.errors import AirferryError, BundleError
from installer.oci.digest import Digest
from installer.oci.model import Platform
from installer.value import Value, fields

_T = TypeVar("_T")
_MAX_INT = 2**53 - 1


def encode(value: Any) -> bytes:
    """The canonical bytes of a Value, or of plain lists, dicts, strings and integers.

    Raises BundleError for a value outside the subset: the writer's way of refusing, for instance, a name in Cyrillic.
    """
    try:
        return _spelled(_plain(value))
    except _MismatchError as exc:
        raise BundleError(exc.text) from exc


def decode(raw: bytes, kind: type[_T], what: str) -> _T:
    """The `kind` (a Value) whose canonical bytes are `raw`. Raises BundleError, naming `what`."""
    with _nothing_is_garbage():
        try:
            document = msgspec.json.decode(raw)
        except (ValueError, RecursionError) as exc:
            raise BundleError(f"{what}: not canonical JSON ({type(exc).__name__})") from exc
        value = typed(document, kind, what)
    # Each reader takes one spelling only; what is left is the order of keys, white space, and escapes.
    if _spelled(document) != raw:
        raise BundleError(f"{what}: not in canonical form")
    return value


@contextlib.contextmanager
def _nothing_is_garbage() -> Iterator[None]:
    """Keep Python from looking for garbage among a million objects that are all needed: a tenth of the time."""
    looking = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looking:
            gc.enable()


def typed(document: Any, kind: type[_T], what: str) -> _T:
    """The `kind` (a Value) that a parsed document stands for, however it was spelled. Raises BundleError."""
    read = _column(kind, _READING)  # type: ignore[arg-type]  # every class is hashable
    try:
        value: _T = read([document])[0]
    except _MismatchError as exc:
        raise BundleError(f"{what}{exc.place}: {exc.text}") from exc
    return value


def _spelled(document: Any) -> bytes:
    # Four times as fast as the standard library, and the texts of this subset have one spelling with both.
    return msgspec.json.encode(document, order="sorted")


# --- columns: a function for each type, made once, for a list of values, since a bundle has tens of thousands ---

_Column = Callable[[list[Any]], list[Any]]


class _MismatchError(Exception):
    """Something is not of its type; `place` leads there, and grows on the way up."""

    def __init__(self, text: str, place: str = "") -> None:
        super().__init__(text)
        self.text, self.place = text, place


def _expect(column: list[Any], kind: type) -> None:
    if not set(map(type, column)) <= {kind}:
        odd = next(item for item in column if type(item) is not kind)
        raise _MismatchError(f"expected {kind.__name__}, found {type(odd).__name__}")


def _texts(column: list[Any]) -> list[Any]:
    _expect(column, str)
    together = "".join(column)
    if not (together.isascii() and together.isprintable()):
        odd = next(item for item in column if not (item.isascii() and item.isprintable()))
        raise _MismatchError(f"{odd[:80]!r}: only printable ASCII can be carried in names")
    return column


def _numbers(column: list[Any]) -> list[Any]:
    _expect(column, int)
    for extreme in (min(column, default=0), max(column, default=0)):
        if not 0 <= extreme <= _MAX_INT:
            raise _MismatchError(f"{extreme}: outside the range of canonical JSON")
    return column


def _each(step: Callable[[Any], Any]) -> _Column:
    return lambda column: list(map(step, column))


_PLAIN: dict[type, _Column] = {
    str: _texts,
    int: _numbers,
    bytes: _each(bytes.hex),
    Digest: _each(attrgetter("text")),
    Platform: _each(str),
}
"""What is one string or number in JSON."""


def _tuple_of(items: Sequence[_Column]) -> _Column:
    """For tuples of as many items as there are functions, each for its own item."""

    def convert(column: list[Any]) -> list[Any]:
        parts = zip(*column, strict=True) if column else [()] * len(items)
        return list(zip(*(item(list(part)) for item, part in zip(items, parts, strict=True)), strict=True))

    return convert


@functools.cache
def _hints(kind: Any) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(kind)
    return tuple((name, hints[name]) for name in fields(kind))


class _Direction(NamedTuple):
    """From values to JSON or back: what converts each form of a type, of which the parts are converted already."""

    plain: Callable[[Any], _Column]
    list: Callable[[_Column], _Column]
    tuple: Callable[[Sequence[_Column]], _Column]
    record: Callable[[Any], _Column]


@functools.cache
def _column(kind: Any, direction: _Direction) -> _Column:
    """What converts values of the type `kind`."""
    if get_origin(kind) is tuple:
        first, *more = get_args(kind)
        if more and isinstance(more[0], types.EllipsisType):
            return direction.list(_column(first, direction))
        return direction.tuple([_column(item, direction) for item in (first, *more)])
    return direction.plain(kind) if kind in _PLAIN else direction.record(kind)


# --- writing ---


def _plain(value: Any) -> Any:
    kind: Any = type(value)
    if kind in _PLAIN or issubclass(kind, Value):
        return _column(kind, _WRITING)([value])[0]
    if kind is tuple or kind is list:
        return [_plain(item) for item in value]
    if kind is dict:
        return dict(zip(_texts(list(value)), map(_plain, value.values()), strict=True))
    raise BundleError(f"{kind.__name__}: no canonical form")


def _list_writer(write_items: _Column) -> _Column:
    def write(column: list[Any]) -> list[Any]:
        items = iter(write_items(list(chain.from_iterable(column))))
        return [list(islice(items, len(value))) for value in column]

    return write


def _record_writer(kind: Any) -> _Column:
    names = fields(kind)
    writers = [(attrgetter(name), _column(hint, _WRITING)) for name, hint in _hints(kind)]

    def write(column: list[Any]) -> list[Any]:
        values = [write_values(list(map(get, column))) for get, write_values in writers]
        return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]

    return write


_WRITING = _Direction(_PLAIN.__getitem__, _list_writer, _tuple_of, _record_writer)


# --- reading: exact types, exact keys ---
#
# Of a single document a reader says where inside it something is wrong; whoever has several lets the reader around it
# ask for each alone.


def _plain_reader(kind: Any) -> _Column:
    if kind is str or kind is int:
        return _PLAIN[kind]
    make = {bytes: bytes.fromhex, Platform: Platform.parse}.get(kind, kind)

    def read(column: list[Any]) -> list[Any]:
        _expect(column, str)
        try:
            values = list(map(make, column))
        except (AirferryError, ValueError) as exc:
            raise _MismatchError(str(exc)) from exc
        if (spelled := _PLAIN[kind](values)) != column:
            odd = next(item for item, right in zip(column, spelled, strict=True) if item != right)
            raise _MismatchError(f"not in canonical form: {odd[:80]!r}")
        return values

    return read


def _list_reader(read_items: _Column) -> _Column:
    def read(column: list[Any]) -> list[tuple[Any, ...]]:
        _expect(column, list)
        try:
            items = iter(read_items(list(chain.from_iterable(column))))
        except _MismatchError:
            if len(column) == 1:
                _blame((f"[{place}]", read_items, item) for place, item in enumerate(column[0]))
            raise
        return [tuple(islice(items, len(document))) for document in column]

    return read


def _tuple_reader(readers: Sequence[_Column]) -> _Column:
    read_items = _tuple_of(readers)

    def read(column: list[Any]) -> list[Any]:
        _expect(column, list)
        for document in column:
            if len(document) != len(readers):
                raise _MismatchError(f"expected {len(readers)} items, found {len(document)}")
        return read_items(column)

    return read


def _record_reader(kind: Any) -> _Column:
    readers = {name: _column(hint, _READING) for name, hint in _hints(kind)}
    keys = readers.keys()

    def read(column: list[Any]) -> list[Any]:
        if not set(map(type, column)) <= {dict}:
            odd = next(item for item in column if type(item) is not dict)
            raise _MismatchError(f"expected {kind.__name__}, found {type(odd).__name__}")
        for document in column:
            if document.keys() != keys:
                odd = sorted(document.keys() ^ keys)
                raise _MismatchError(f"unknown or missing keys: {', '.join(odd)[:200]}")
        try:
            values = [read_values([document[name] for document in column]) for name, read_values in readers.items()]
        except _MismatchError:
            if len(column) == 1:
                _blame((f".{name}", read_values, column[0][name]) for name, read_values in readers.items())
            raise
        try:
            return list(map(kind, *values))
        except BundleError:
            raise
        except (AirferryError, ValueError) as exc:
            raise _MismatchError(str(exc)) from exc

    return read


def _blame(parts: Iterable[tuple[str, _Column, Any]]) -> None:
    """Raise what the first of `parts` raises that is wrong, with its place."""
    for place, read, document in parts:
        try:
            read([document])
        except _MismatchError as exc:
            exc.place = f"{place}{exc.place}"
            raise


_READING = _Direction(_plain_reader, _list_reader, _tuple_reader, _record_reader)
