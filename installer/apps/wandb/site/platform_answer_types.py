"""Values of the platform chart, as its controller can take them."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator


def _has_no_null(values: dict[str, Any]) -> dict[str, Any]:
    """The W&B controller ends with a panic when it merges a null with its own values."""
    if found := sorted(nulls(values)):
        raise ValueError(f"null is not allowed here: {', '.join(found)}")
    return values


def nulls(node: Any, path: str = "") -> Iterator[str]:
    """The paths of all nulls in `node`."""
    if node is None:
        yield path
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from nulls(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from nulls(value, f"{path}[{index}]")


PlatformValues = Annotated[dict[str, Any], AfterValidator(_has_no_null)]
