"""YAML that two readers cannot read differently: plain values only, duplicate keys refused."""

from typing import Any

import yaml

from installer.errors import AirferryError


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


def load_yaml(data: bytes, name: str, error: type[AirferryError]) -> Any:
    """The one YAML document in `data`: plain values only, duplicate keys refused.

    Raises `error` with the place, never with the text of the line: it may hold a secret.
    """
    try:
        return yaml.load(data, _StrictLoader)  # noqa: S506, TID251 - a safe loader
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "unknown place"
        raise error(f"{name}: {place}: {exc.problem}", hint="correct the YAML at that place.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as exc:
        raise error(f"{name}: not a YAML document ({type(exc).__name__})", hint="check the file.") from None
