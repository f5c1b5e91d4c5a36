"""Images as charts spell them in their values, and the switches that stand beside or above them."""

from collections.abc import Iterator, Mapping
from typing import Any

from installer.chart.retarget import spelt
from installer.chart.spelling.text import parted
from installer.errors import AirferryError
from installer.oci.reference import Repository, parse_repository
from installer.value import Value

_SWITCHES = ("enabled", "install")


class Spelling(Value):
    """A place in values that names an image: the path of its map or text, and the repository that it means."""

    path: tuple[str, ...]
    repository: Repository

    def __str__(self) -> str:
        return ".".join(self.path)


def spellings(node: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[Spelling]:
    """Every image in the values `node`, whether anything listens to it or not; `global` of subcharts left out."""
    named = spelt(node)
    repository = _repository(named[1]) if named and path else None
    if repository:
        yield Spelling(path, repository)
    for key, value in node.items():
        if isinstance(value, Mapping) and not (key == "global" and path):
            yield from spellings(value, (*path, key))
        elif isinstance(value, str) and "/" in value and key.lower().endswith(("image", "imagename")):
            text = _repository(value)
            if text:
                yield Spelling((*path, key), text)


def switches_above(values: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], bool | None]]:
    """The places `enabled` and `install` in the map at `path` and in those above it, each with its value or None.

    What is called so and holds no boolean is no switch.
    """
    node: Any = values
    for depth, key in enumerate(path, 1):
        node = node.get(key) if isinstance(node, Mapping) else None
        if isinstance(node, Mapping):
            found = ((name, node.get(name)) for name in _SWITCHES)
            yield from (
                ((*path[:depth], name), value) for name, value in found if value is None or isinstance(value, bool)
            )


def overlay(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Values with nothing but `value` at `path`."""
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def _repository(name: str) -> Repository | None:
    try:
        return parse_repository(parted(name)[0])
    except AirferryError:
        return None
