"""YAML that two readers cannot read differently: plain values only, duplicate keys refused."""

from typing import Any

import yaml

from installer.errors import AirferryError

MAX_DEPTH = 100
"""Levels of nesting: libyaml recurses without a limit of its own, and a deep document would end the process."""


class _StrictLoader(yaml.CSafeLoader):
    """Refuses duplicate keys, which PyYAML would silently resolve to the last one."""


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    found: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool):
            raise yaml.constructor.ConstructorError(None, None, "keys must be plain values", key_node.start_mark)
        if key in found:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _too_deep(data: bytes) -> bool:
    """Whether a document nests deeper than `MAX_DEPTH`. Raises yaml.YAMLError."""
    depth = 0
    for event in yaml.parse(data, yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            return True
    return False


def load_yaml(data: bytes, name: str, error: type[AirferryError]) -> Any:
    """The one YAML document in `data`: plain values only, duplicate keys refused.

    Raises `error` with the place, never with the text of the line: it may hold a secret.
    """
    try:
        if _too_deep(data):
            raise error(f"{name}: nested more than {MAX_DEPTH} levels deep", hint="check the file.")
        return yaml.load(data, _StrictLoader)  # noqa: S506, TID251 - a safe loader
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "unknown place"
        raise error(f"{name}: {place}: {exc.problem}", hint="correct the YAML at that place.") from None
    except yaml.reader.ReaderError as exc:
        what = "not UTF-8" if "UTF-8" in exc.reason else exc.reason
        raise error(f"{name}: {what} at byte {exc.position}", hint="save it as plain text in UTF-8.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as exc:
        raise error(f"{name}: not a YAML document ({type(exc).__name__})", hint="check the file.") from None
