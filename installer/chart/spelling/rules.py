"""Rules by which a profile says where objects of a kind name images that their keys do not tell of.

A rule is the path of a text (`spec.engine.source`), or a template of such paths
(`{spec.engine.repository}/{spec.engine.flavor}:{spec.engine.version}`). A `*` stands for each key of a map or each item
of a list, in all paths of a template for the same ones.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

Rules = Mapping[str, Sequence[str]]
"""The rules by the kind of the objects."""
NO_RULES: Rules = MappingProxyType({})
_PLACE = re.compile(r"\{([^{}]*)\}")
_PATH = re.compile(r"(?:[A-Za-z0-9_/-]+|\*)(?:\.(?:[A-Za-z0-9_/-]+|\*))*", re.ASCII)


def defect(rule: str) -> str:
    """What is wrong with `rule`; empty if nothing is."""
    places = _places(rule)
    if not places or "{" in _PLACE.sub("", rule) or "}" in _PLACE.sub("", rule):
        return "neither a path of keys like spec.image nor a template of such paths in braces"
    odd = [place for place in places if not _PATH.fullmatch(place)]
    return f"not a path of keys like spec.*.image: {odd[0]!r}" if odd else ""


def named(rule: str, item: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The texts that `rule` makes of the object `item`, each with the path of one of its parts; nothing where a part is
    missing or empty."""
    places = _places(rule)
    found = {
        place: {stars: (path, str(node)) for stars, path, node in _at(item, place.split(".")) if _is_text(node)}
        for place in places
    }
    widest = max(places, key=_stars)
    for stars, (path, _) in found[widest].items():
        parts = {place: found[place].get(stars[: _stars(place)]) for place in places}
        texts = {place: part[1] for place, part in parts.items() if part}
        if len(texts) == len(parts):
            pieces = _PLACE.split(rule) if "{" in rule else ["", rule, ""]
            yield path, "".join(texts[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def nodes(place: str, item: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What stands at `place` in `item`, a path of keys in which `*` stands for any: each with its own path."""
    for _, path, node in _at(item, place.split(".")):
        yield path, node


def _places(rule: str) -> list[str]:
    return _PLACE.findall(rule) if "{" in rule else [rule]


def _stars(place: str) -> int:
    return place.split(".").count("*")


def _is_text(node: Any) -> bool:
    return isinstance(node, str | int | float) and not isinstance(node, bool) and node != ""


def _at(node: Any, keys: Sequence[str], path: str = "") -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """The nodes at `keys` below `node`: what each `*` stands for, the path, and the node."""
    if not keys:
        yield (), path, node
        return
    key, *rest = keys
    below = {f"[{number}]": part for number, part in enumerate(node)} if isinstance(node, list) and key == "*" else node
    for name in (below if key == "*" else [key]) if isinstance(below, Mapping) else ():
        if name in below:
            here = f"{path}{name}" if str(name).startswith("[") else f"{path}.{name}".removeprefix(".")
            for stars, found, part in _at(below[name], rest, here):
                yield ((str(name), *stars) if key == "*" else stars), found, part
